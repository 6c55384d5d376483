"""Which model folders may be loaded: a SavedModel is code, and runs as whoever serves it."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Mapping

from medkeras import errors
from medkeras.export import card
from medkeras.serving import status

_LARGEST_CARD = 64 * 1024 * 1024
# What a load may read, whether or not a card speaks of it; a copy for servers may lack the rest.
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_LOADED = (*_GRAPHS, "fingerprint.pb", "variables", "assets", "assets.extra")
_HEXADECIMAL = 64


class Verifier:
    """Compares a model's files with the SHA-256 that its card, or an operator's list, gives for them.

    Args:
        sums: A file as `sha256sum` writes it, of the files of models that have no card; empty: there is none.
        unverified: Whether models with neither are loaded all the same. A model with a card is always compared.

    Raises:
        ConfigError: The list cannot be read.
    """

    def __init__(self, sums: str | os.PathLike[str] = "", *, unverified: bool = False) -> None:
        self._allowed = _listed(sums) if sums else frozenset()
        self._unverified = unverified

    def check(self, folder: pathlib.Path) -> None:
        """Returns if a folder may be loaded, or holds nothing that could be.

        Raises:
            StatusError: `FAILED_PRECONDITION`: a file is not what the card or the list says, or there is neither.
        """
        place = folder / card.NAME
        if not any((folder / name).is_file() for name in _GRAPHS):
            return
        if place.exists():
            _compare(_card_sums(place), _sums(folder), "its card")
        elif not self._unverified:
            self._check_list(folder)

    def _check_list(self, folder: pathlib.Path) -> None:
        if not self._allowed:
            raise _refused(
                "A model is loaded if it has a card, if --model_hashes_file lists its files, or with "
                "--allow_unverified_models. Received: none of them"
            )
        for name, digest in _sums(folder).items():
            if (pathlib.PurePath(name).name, digest) not in self._allowed:
                raise _refused(f"Every file of a model without a card is in --model_hashes_file. Received: {name}")


def _compare(expected: Mapping[str, str], found: Mapping[str, str], source: str) -> None:
    if "saved_model.pb" not in expected:
        raise _refused(f"A SavedModel has saved_model.pb. Received: {source} without it")
    for name in sorted(set(expected) | set(found)):
        if name.partition("/")[0] in _LOADED and found.get(name) != expected.get(name):
            raise _refused(f"Every file that is loaded has the SHA-256 that {source} gives. Received: another {name}")


def _sums(folder: pathlib.Path) -> Mapping[str, str]:
    """Returns the SHA-256 of each file that a load may read, by relative path."""
    tops = [folder / name for name in _LOADED]
    paths = [path for top in tops for path in (top, *top.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card_sums(place: pathlib.Path) -> Mapping[str, str]:
    if place.stat().st_size > _LARGEST_CARD:
        raise _refused(f"{card.NAME} is at most {_LARGEST_CARD} bytes. Received: more")
    try:
        return card.read(place.parent).files
    except errors.ModelError:
        raise _refused(f"{card.NAME} is one that medkeras wrote. Received: another") from None


def _listed(path: str | os.PathLike[str]) -> frozenset[tuple[str, str]]:
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise errors.ConfigError(
            f"--model_hashes_file is a text file that can be read. Received: {errors.printable(path)}"
        ) from None
    return frozenset(_sum(line, f"{errors.printable(path)}, line {number}") for number, line in _numbered(lines))


def _numbered(lines: list[str]) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _sum(line: str, place: str) -> tuple[str, str]:
    """Returns name and digest of a line `DIGEST  PATH` or `DIGEST *PATH`."""
    digest, _, path = line.partition(" ")
    name = pathlib.PurePath(path.strip().removeprefix("*")).name
    if len(digest) != _HEXADECIMAL or not name:
        raise errors.ConfigError(f"A line of --model_hashes_file is a SHA-256 and a path. Received: {place}")
    return name, digest.lower()


def _refused(message: str) -> status.StatusError:
    return status.StatusError(status.Code.FAILED_PRECONDITION, message)
