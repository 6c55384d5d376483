"""JPEG, JPEG-LS and JPEG 2000 streams without what is not needed to decode them.

Reference:
    ITU-T T.81, annex B; ITU-T T.87, annex C; ITU-T T.800, annex A; CIPA DC-008 (EXIF 2.32), 4.5 and 4.6.
"""

from __future__ import annotations

import struct

from medkeras.privacy import held

_EOI, _SOS = 0xD9, 0xDA
_APP0, _APP1, _APP8, _APP14 = 0xE0, 0xE1, 0xE8, 0xEE
_RESTARTS = range(0xD0, 0xD8)
_EXIF, _JFIF, _ADOBE, _MRFX = b"Exif\0\0", b"JFIF\0", b"Adobe", b"mrfx"
_ORIENTATION, _SHORT = 0x0112, 3
_EXIF_SPAN = 4096
_SIZ_MARKERS = range(0xFF4F, 0xFF94)
_SOT, _SOD, _EOC = b"\xff\x90", b"\xff\x93", b"\xff\xd9"
_COMMENT, _PART_LENGTHS = 0xFF64, 0xFF55
# Frames and tables (C0 to CF without C8, the reserved JPG), DA to DF, and those of JPEG-LS: a list of what stays.
_NEEDED = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xE0), 0xF7, 0xF8))


def strip(data: bytes) -> bytes:
    """Returns a JPEG file that decodes to the same pixels and says nothing else but how to turn them upright.

    Raises:
        HeldBackError: The segments cannot be followed to the end.
    """
    kept, orientation = _segments(data)
    if orientation != 1:
        after = 1 if len(kept) > 1 and kept[1][1] == _APP0 else 0
        kept.insert(after + 1, _segment(_APP1, _EXIF + minimal_exif(orientation)))
    return b"".join(kept)


def strip_stream(data: bytes) -> bytes:
    """Returns one frame of a DICOM file, a JPEG or JPEG-LS stream, without comments; of an even length.

    The bits between the markers are left alone. A frame that cannot be followed raises `HeldBackError`.
    """
    stream = b"".join(_segments(data)[0])
    return stream + b"\0" if len(stream) % 2 else stream


def strip_codestream(data: bytes) -> bytes:
    """Returns one frame of a DICOM file, a JPEG 2000 codestream, without comments in its headers.

    Its length is even. Bytes after its end are cut. A frame in a JP2 file is refused: it raises `HeldBackError`.
    """
    if not data.startswith(b"\xff\x4f\xff\x51"):
        raise held.HeldBackError("a JPEG 2000 frame is a codestream")
    header, place = _without_text(data, 2, _SOT)
    pieces = [data[:2], *header]
    while data[place : place + 2] == _SOT:
        begin, size = place, int.from_bytes(data[place + 6 : place + 10])
        header, place = _without_text(data, place + 12, _SOD)
        end = begin + size if size else data.rfind(_EOC)
        if not place <= end <= len(data):
            raise held.HeldBackError("the JPEG 2000 data end early")
        body = b"".join(header) + data[place:end]
        pieces += [data[begin : begin + 6], (12 + len(body)).to_bytes(4), data[begin + 10 : begin + 12], body]
        place = end
    stream = b"".join((*pieces, _EOC))
    return stream + b"\0" if len(stream) % 2 else stream


def _without_text(data: bytes, place: int, last: bytes) -> tuple[list[bytes], int]:
    """Returns the marker segments of a JPEG 2000 header up to a marker, but comments and lengths of tile parts."""
    kept = []
    while data[place : place + 2] != last:
        marker, size = struct.unpack(">HH", data[place : place + 4].ljust(4, b"\0"))
        if marker not in _SIZ_MARKERS or size < 2 or place + 2 + size > len(data):
            raise held.HeldBackError("the JPEG 2000 header is damaged")
        if marker not in (_COMMENT, _PART_LENGTHS):
            kept.append(data[place : place + 2 + size])
        place += 2 + size
    return kept, place


def minimal_exif(orientation: int) -> bytes:
    """Returns an Exif structure that states an orientation and nothing else."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, _ORIENTATION, _SHORT, 1, orientation, 0, 0)


def exif_orientation(tiff: bytes) -> int:
    """Returns the orientation 1..8 that an Exif structure states in its first directory; 1 where it states none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    data = tiff[:_EXIF_SPAN].ljust(_EXIF_SPAN, b"\0")
    directory = min(struct.unpack_from(f"{order}I", data, 4)[0], _EXIF_SPAN - 2)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    count = min(count, (_EXIF_SPAN - 2 - directory) // 12)
    entries = struct.iter_unpack(f"{order}HHIHxx", data[directory + 2 : directory + 2 + 12 * count])
    found = max((value for tag, form, _, value in entries if (tag, form) == (_ORIENTATION, _SHORT)), default=1)
    return found if 1 <= found <= 8 else 1


def _segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def _segments(data: bytes) -> tuple[list[bytes], int]:
    """Returns what of a stream is kept, piece by piece, and its orientation."""
    if data[:2] != b"\xff\xd8":
        raise held.HeldBackError("the JPEG data do not begin as such")
    kept, place, orientation, first = [data[:2]], 2, 1, True
    while True:
        code, place = _marker(data, place)
        if code == _EOI:
            return [*kept, b"\xff\xd9"], orientation
        body = _body(data, place)
        place += 2 + len(body)
        if code == _APP1 and body.startswith(_EXIF) and first:
            orientation, first = exif_orientation(body[6:]), False
        piece = _kept(code, body)
        if piece is not None:
            kept.append(_segment(code, piece))
        if code == _SOS:
            end = _scan_end(data, place)
            kept.append(data[place:end])
            place = end
            if place >= len(data):
                return kept, orientation


def _marker(data: bytes, place: int) -> tuple[int, int]:
    while data[place : place + 2] == b"\xff\xff":
        place += 1
    if data[place : place + 1] != b"\xff" or place + 1 >= len(data):
        raise held.HeldBackError("the JPEG data are damaged, or end early")
    return data[place + 1], place + 2


def _body(data: bytes, place: int) -> bytes:
    size = int.from_bytes(data[place : place + 2])
    if size < 2 or place + size > len(data):
        raise held.HeldBackError("the JPEG data end early")
    return data[place + 2 : place + size]


def _kept(code: int, body: bytes) -> bytes | None:
    """Returns the part of a segment that decoding needs, None for nothing."""
    if code == _APP0:
        # The version, the units and the density; a thumbnail would follow.
        return body[:12] + b"\0\0" if body.startswith(_JFIF) and len(body) >= 14 else None
    if code == _APP8:
        return body[:5] if body.startswith(_MRFX) and len(body) >= 5 else None
    if code == _APP14:
        return body[:12] if body.startswith(_ADOBE) and len(body) >= 12 else None
    return body if code in _NEEDED else None


def _scan_end(data: bytes, place: int) -> int:
    """Returns where the entropy-coded bits end: at the next marker that is neither stuffing nor a restart."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            return len(data)
        code = data[place + 1]
        # JPEG-LS stuffs a bit and not a byte: after FF comes a byte below 80.
        if code >= 0x80 and code not in _RESTARTS and code != 0xFF:
            return place
        place += 1 if code == 0xFF else 2
