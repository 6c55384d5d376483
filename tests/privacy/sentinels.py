"""Values that stand for a person, planted wherever a file can hold one, and a search that finds them again."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator

import pydicom
import pydicom.datadict
from pydicom.dataset import Dataset, FileMetaDataset

STEM = "ZQXVSENT"
DIGITS = "739184620573"
DAY = "18530217"
CLOCK = "031415.926535"
AGE = "117Y"
TEXTS = frozenset(["PN", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "AE"])
KINDS = TEXTS | frozenset(["DA", "DT", "TM", "AS", "UI"])
KEPT = {"SOPClassUID"}
SEQUENCES = ("OriginalAttributesSequence", "RequestAttributesSequence")

_DAYS = (DAY, "1853-02-17", "1853/02/17", "17.02.1853", "02/17/1853", "17/02/1853")
_TEXTS = (STEM.lower(), DIGITS, *_DAYS, CLOCK, "03:14:15.926535")
_NEEDLES = tuple(text.encode(code) for text in _TEXTS for code in ("ascii", "utf-16-le", "utf-16-be"))
# Four characters would turn up by chance within base 64.
_ANY = re.compile(b"|".join(map(re.escape, _NEEDLES)) + rb"|(?<![0-9a-z+/=])%s(?![0-9a-z+/=])" % AGE.lower().encode())
_HEX = re.compile(rb"[0-9a-f]{32,64}")
_PNG = b"\x89PNG\r\n\x1a\n"


def value(kind: str, number: int) -> str:
    """Returns a value of a DICOM kind (VR) that names this place and no other, as far as the kind has room."""
    fixed = {"DA": DAY, "TM": CLOCK, "DT": DAY + CLOCK, "AS": AGE}
    if kind in fixed:
        return fixed[kind]
    if kind == "UI":
        return f"2.25.{DIGITS}{number:06d}"
    name = f"{STEM}{number:06d}"
    return {"PN": f"{name}^{STEM}JANE", "UR": f"http://{name}.example"}.get(kind, name)


def planted() -> Dataset:
    """Returns a value in every public attribute of a kind that can name someone, nested twice, private, and unknown."""
    inner = _level(20_000)
    middle = _level(10_000)
    for keyword in SEQUENCES:
        setattr(middle, keyword, [inner])
    outer = _level(0)
    for keyword in SEQUENCES:
        setattr(outer, keyword, [middle])
    return outer


def _level(base: int) -> Dataset:
    found = Dataset()
    for number, (tag, entry) in enumerate(pydicom.datadict.DicomDictionary.items()):
        if tag >> 16 > 4 and entry[0] in KINDS and entry[4] not in KEPT:
            found.add_new(tag, entry[0], value(entry[0], base + number))
    for number, (mask, entry) in enumerate(pydicom.datadict.RepeatersDictionary.items()):
        if mask[2:4] == "xx" and entry[0] in KINDS:
            found.add_new(int(mask.replace("x", "0"), 16), entry[0], value(entry[0], base + 8000 + number))
    found.add_new(0x00089999, "LO", value("LO", base + 8500))
    _private(found, base + 9000)
    return found


def _private(found: Dataset, base: int) -> None:
    block = found.private_block(0x0011, value("LO", base), create=True)
    for number, kind in enumerate(sorted(KINDS), start=1):
        block.add_new(number, kind, value(kind, base + number))
    block.add_new(0x40, "UN", f"{value('LO', base + 90)} ".encode())
    block.add_new(0x41, "OB", f"{value('LO', base + 91)} ".encode())
    item = Dataset()
    item.PatientName = value("PN", base + 92)
    block.add_new(0x42, "SQ", [item])


def identify(header: Dataset, patient: int, number: int) -> None:
    """Gives a planted file its own patient and UIDs, as they are in a study, and fills its file meta and preamble."""
    header.PatientID = patient_id(patient)
    header.IssuerOfPatientID = ISSUER
    header.PatientName = value("PN", 100_000 + patient)
    header.StudyInstanceUID = value("UI", 200_000 + patient)
    header.SeriesInstanceUID = value("UI", 300_000 + patient)
    header.FrameOfReferenceUID = value("UI", 400_000 + patient)
    header.SOPInstanceUID = instance_uid(number)
    header.preamble = f"{value('LO', 600_000)} ".encode().ljust(128, b"\0")
    header.add_new(0xFFFCFFFC, "OB", f"{value('LO', 600_001)} ".encode())
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.ImplementationVersionName = value("SH", 600_002)
    meta.SourceApplicationEntityTitle = value("AE", 600_003)
    meta.SendingApplicationEntityTitle = value("AE", 600_004)
    meta.PrivateInformationCreatorUID = value("UI", 600_005)
    meta.PrivateInformation = f"{value('LO', 600_006)} ".encode()
    header.file_meta = meta


ISSUER = value("LO", 600_007)


def patient_id(patient: int) -> str:
    return value("LO", 500_000 + patient)


def instance_uid(number: int) -> str:
    return value("UI", 700_000 + number)


def leaks(folder: pathlib.Path) -> list[str]:
    """Returns where in names and contents of the files below a folder a planted value stands, and which."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found += [f"name of {name}: {hit}" for hit in hits(name.encode())]
        if path.is_file():
            found += [f"{name}: {hit}" for hit in hits(path.read_bytes())]
    return found


def hits(data: bytes) -> list[str]:
    """Returns the planted values in some bytes, and in what is packed into them, whatever their case."""
    found: dict[str, None] = {}
    for part in unpacked(data):
        lowered = part.lower()
        # A search for each of some words is many times as fast as one for any of them.
        if any(needle in lowered for needle in (*_NEEDLES, AGE.lower().encode())):
            for match in _ANY.finditer(lowered):
                found[lowered[match.start() : match.end() + 16].replace(b"\0", b"").decode("latin-1")] = None
        digests = set(_HEX.findall(lowered)) & _UNKEYED.keys()
        found |= dict.fromkeys(_UNKEYED[digest] for digest in sorted(digests))
    return list(found)


def unpacked(data: bytes) -> Iterator[bytes]:
    """Yields bytes and whatever is packed into them: zip, gzip, text chunks of PNG, base 64 and entities of HTML."""
    yield data
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from unpacked(archive.read(name))
    if data.startswith(b"\x1f\x8b"):
        yield from unpacked(gzip.decompress(data))
    for start in (match.start() for match in re.finditer(re.escape(_PNG), data)):
        yield from _png_texts(data, start + len(_PNG))
    for match in re.finditer(rb";base64,([A-Za-z0-9+/=\s]+)", data):
        yield from unpacked(base64.b64decode(match[1]))
    if re.search(rb"&#?\w+;", data) and b"\0" not in data:
        yield html.unescape(data.decode("utf-8", "replace")).encode()


def _png_texts(data: bytes, place: int) -> Iterator[bytes]:
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + size]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            for start in range(len(body)):
                try:
                    yield zlib.decompress(body[start:])
                    break
                except zlib.error:
                    continue
        if kind == b"IEND":
            return
        place += size + 12


_UNKEYED = {
    hashlib.new(name, patient_id(patient).encode()).hexdigest().encode(): f"{name} of PatientID without a key"
    for name in ("md5", "sha1", "sha256")
    for patient in range(64)
}
