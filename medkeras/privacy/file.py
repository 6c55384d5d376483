"""One file of any kind, by what its first bytes say it is."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence
from typing import Any

from medkeras.privacy import containers, dicom, held, jpeg, names, nifti, png, tiff

LARGEST = 2**30
"""Bytes of a file; larger ones are held back."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of a file.

    Attributes:
        kind: Its format, empty where it is none that is known.
        name: Where the new file belongs, below the output folder; empty where it is held back.
        reason: Why it is held back, empty where it is not.
        actions: How often each action was taken.
    """

    kind: str
    name: str = ""
    reason: str = ""
    actions: dict[str, int] = dataclasses.field(default_factory=dict)


def deidentify_file(
    path: str, target: str, *, relative: str, key: bytes, chosen: frozenset[str], patient: str = ""
) -> Done:
    """Writes a file without identity to `target`, or says why it is held back; the file itself is left as it is.

    Args:
        path: The file.
        target: Where the new file goes; what lies there after a file was held back is to be thrown away.
        relative: The name of the file below the folder that the user named; its hash becomes the new name.
        key: The secret.
        chosen: Options of the profile, for DICOM files.
        patient: What names the patient of a DICOM file, from all files that are cleaned together; empty to look at this
            one alone.
    """
    kind = ""
    try:
        head = _head(path)
        kind = _kind(head)
        if kind == "DICOM":
            name, actions = dicom.deidentify(path, target, key=key, chosen=chosen, patient=patient)
            return Done(kind, name, "", actions)
        actions = _rewrite(kind, path, target)
        return Done(kind, names.renamed(relative, _SUFFIX.get(kind) or nifti.suffix(head), key), "", actions)
    except held.HeldBackError as why:
        return Done(kind, reason=str(why))
    except MemoryError:
        return Done(kind, reason="there is too little memory for the file")
    except RecursionError:
        return Done(kind, reason="sequences nest too deep")
    except OSError as error:
        return Done(kind, reason=f"the file cannot be read or written ({error.strerror})")
    except Exception:
        # The text of such an error may quote the file.
        return Done(kind, reason="the file is damaged")


def identify(path: str) -> dict[str, str]:
    """Returns what a DICOM file says of its patient, as a dict for a worker; an empty one for any other file."""
    try:
        return dataclasses.asdict(dicom.identify(path)) if _kind(_head(path)) == "DICOM" else {}
    except Exception:
        # Why the file cannot be read is told when it is to be cleaned.
        return {}


def clean(path: str, *, target: str, relative: str, key: str, chosen: Sequence[str], patient: str) -> dict[str, Any]:
    """Does what `deidentify_file` does, for a worker: takes the key in hexadecimal, and returns `Done` as a dict."""
    secret, options = bytes.fromhex(key), frozenset(chosen)
    done = deidentify_file(path, target, relative=relative, key=secret, chosen=options, patient=patient)
    return dataclasses.asdict(done)


def _head(path: str) -> bytes:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise held.HeldBackError("a folder that is a link, or that cannot be opened, is not searched")
    if not stat.S_ISREG(status.st_mode):
        raise held.HeldBackError("this is not a regular file")
    if not status.st_size:
        raise held.HeldBackError("the file is empty")
    if status.st_size > LARGEST:
        raise held.HeldBackError(f"a file has at most {LARGEST} bytes")
    with open(path, "rb") as file:
        return file.read(1024)


_MAGIC = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),
    ("TIFF", b"MM\0+"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("BMP", b"BM"),
)
_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp", "WebP": ".webp"}
_REWRITERS = {
    "JPEG": jpeg.strip,
    "PNG": png.strip,
    "TIFF": tiff.strip,
    "GIF": containers.strip_gif,
    "BMP": containers.strip_bmp,
    "WebP": containers.strip_webp,
}


def _kind(head: bytes) -> str:
    if head[128:132] == b"DICM":
        return "DICOM"
    found = next((name for name, magic in _MAGIC if head.startswith(magic)), "")
    if found:
        return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if nifti.looks_like(head):
        return "NIfTI"
    if dicom.looks_like(head):
        return "DICOM"
    raise held.HeldBackError("the format is none that is cleaned: DICOM, NIfTI, PNG, JPEG, TIFF, BMP, GIF or WebP")


def _rewrite(kind: str, path: str, target: str) -> dict[str, int]:
    if kind == "NIfTI":
        return nifti.deidentify(path, target)
    with open(path, "rb") as file:
        data = file.read()
    stripped = _REWRITERS[kind](data)
    with open(target, "wb") as file:
        file.write(stripped)
    return {"bytes_removed": max(0, len(data) - len(stripped))}
