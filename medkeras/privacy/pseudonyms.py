"""Names that stand for patients: keyed hashes, the same wherever one key is used, and worthless without it.

A hash without a key protects nobody: whoever has a list of patients hashes the list and looks the hash up.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import pathlib
import secrets
import tempfile

from medkeras import errors

SMALLEST_KEY, LARGEST_KEY = 16, 4096
"""Bytes that a key file may hold."""

_NEW_KEY = 32
_DIGEST = 10


def pseudonym(key: bytes, text: str, *, prefix: str = "p") -> str:
    """Returns the name that stands for a text: the prefix, a hyphen and 16 characters of `a`…`z`, `2`…`7`.

    The characters are the first 80 bits of an HMAC-SHA-256 of prefix and text. Two of a million patients share a name
    with a chance of 4 in 10**13, two of a billion with 4 in 10**7.

    Args:
        key: The secret, as `load_key` returns it.
        text: What to hide, to the character: `007` and `7` are two patients.
        prefix: What kind of thing it is; one text under two prefixes has two unrelated names.

    Reference:
        RFC 2104 (HMAC); RFC 4648, section 6 (base 32).

    >>> pseudonym(bytes(16), "DOE^JANE")
    'p-aha7b7pfpzc7epgo'
    """
    message = f"{prefix}\0{text}".encode("utf-8", "surrogatepass")
    digest = hmac.new(key, message, hashlib.sha256).digest()[:_DIGEST]
    return f"{prefix}-{base64.b32encode(digest).decode('ascii').lower()}"


def load_key(path: str | os.PathLike[str] | None) -> bytes:
    """Returns the secret that identifiers are hashed with.

    Args:
        path: A file of 16 to 4,096 bytes, taken as they are, or None for the user's own,
            `$XDG_CONFIG_HOME/medkeras/key`, else `~/.config/medkeras/key`: made of 32 random bytes, readable by that
            user alone, when it is first needed.

    Raises:
        UserError: The file is missing, cannot be read, or is too short or too long; or the user's own cannot be made.
    """
    if path is not None:
        return _read(pathlib.Path(path))
    own = _own_path()
    try:
        if not own.exists():
            _create(own)
    except OSError as error:
        raise errors.UserError(
            f"Patients' identifiers are hashed with a key that is kept in the user's home; --key names another file. "
            f"Received: {errors.printable(own)!r}, which cannot be made ({error.strerror})"
        ) from None
    return _read(own)


def _read(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read(LARGEST_KEY + 1)
    except OSError as error:
        raise errors.UserError(
            f"--key names a file that can be read. Received: {errors.printable(path)!r} ({error.strerror})"
        ) from None
    if not SMALLEST_KEY <= len(key) <= LARGEST_KEY:
        size = f"{len(key)} bytes" if len(key) <= LARGEST_KEY else "more"
        raise errors.UserError(
            f"A key file holds {SMALLEST_KEY} to {LARGEST_KEY} bytes. Received: {errors.printable(path)!r} with {size}"
        )
    return key


def _own_path() -> pathlib.Path:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/.config")
    if not os.path.isabs(folder):
        raise errors.UserError("A user without a home gives the file of a key with --key. Received: none")
    return pathlib.Path(folder, "medkeras", "key")


def _create(path: pathlib.Path) -> None:
    """Makes the key whole or not at all; where another process makes one at the same time, the first one stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_NEW_KEY))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        os.unlink(unfinished)
