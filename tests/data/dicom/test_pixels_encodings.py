"""Every transfer syntax, on frames that the test compresses: values, signs, fragments, damage, refusals by name."""

from __future__ import annotations

import functools
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import encaps, uid
from pydicom import pixels as dicom_pixels

from medkeras import errors
from medkeras.data.readers import dicom
from tests.data.dicom import making


def rle(pixels: np.ndarray) -> bytes:
    return dicom_pixels.get_encoder(uid.RLELossless).encode(
        pixels,
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=pixels.ndim == 3 and 3 or 1,
        planar_configuration=0,
        bits_allocated=8 * pixels.dtype.itemsize,
        bits_stored=8 * pixels.dtype.itemsize,
        pixel_representation=int(pixels.dtype.kind == "i"),
        number_of_frames=1,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
    )


def unsigned(encode, pixels: np.ndarray) -> bytes:
    return encode(pixels.view(f"u{pixels.dtype.itemsize}"))


def jpeg_lossless(pixels: np.ndarray) -> bytes:
    space = "RGB" if pixels.ndim == 3 else None
    return imagecodecs.jpeg8_encode(pixels, lossless=True, colorspace=space, bitspersample=8 * pixels.itemsize)


LOSSLESS = {
    uid.RLELossless: rle,
    uid.JPEGLossless: functools.partial(unsigned, jpeg_lossless),
    uid.JPEGLosslessSV1: functools.partial(unsigned, jpeg_lossless),
    uid.JPEGLSLossless: functools.partial(unsigned, imagecodecs.jpegls_encode),
    uid.JPEG2000Lossless: functools.partial(imagecodecs.jpeg2k_encode, level=0, codecformat="J2K", reversible=True),
    uid.JPEG2000: functools.partial(imagecodecs.jpeg2k_encode, level=0, codecformat="J2K", reversible=True),
    uid.HTJ2KLossless: imagecodecs.htj2k_encode,
    uid.HTJ2KLosslessRPCL: imagecodecs.htj2k_encode,
    uid.HTJ2K: imagecodecs.htj2k_encode,
}
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
NOT_READ = {
    uid.MPEG2MPML: "MPEG2",
    uid.MPEG4HP41: "MPEG-4",
    uid.HEVCMP51: "HEVC",
    uid.JPIPHTJ2KReferenced: "JPIP",
    uid.JPEG2000MCLossless: "JPEG 2000 Part 2",
}
PICTURES = {
    "uint8": making.ramp(40, 36, high=255, dtype=np.uint8),
    "uint16": making.ramp(40, 36, high=65535),
    "int16": making.ramp(40, 36, low=-32768, high=32767, dtype=np.int16),
    "colour": np.random.default_rng(0).integers(0, 256, (40, 36, 3), np.uint8),
}


def written(name: str, syntax: str, path) -> str:
    pixels = PICTURES[name]
    if syntax in LOSSLESS:
        return making.compressed(making.image(pixels), [LOSSLESS[syntax](pixels)], path, syntax)
    if syntax == uid.ExplicitVRBigEndian:
        swapped = pixels.astype(pixels.dtype.newbyteorder(">")) if pixels.itemsize == 2 else pixels
        made = making.image(pixels)
        made.add_new(0x7FE00010, "OB" if pixels.itemsize == 1 else "OW", swapped.tobytes())
        return making.write(made, path, syntax)
    return making.write(making.image(pixels), path, syntax)


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda syntax: uid.UID(syntax).keyword)
@pytest.mark.parametrize("name", PICTURES)
def test_values_survive_every_lossless_encoding(name, syntax, tmp_path) -> None:
    pixels = PICTURES[name]
    values = dicom.read(written(name, syntax, tmp_path / "made.dcm"))
    np.testing.assert_array_equal(values, pixels.reshape(40, 36, -1))
    assert values.dtype == {"uint16": np.uint16, "int16": np.float32}.get(name, np.uint8)


@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEG2000Lossless, uid.HTJ2K])
def test_sixteen_bits_stay_sixteen(syntax, tmp_path) -> None:
    values = dicom.read(written("uint16", syntax, tmp_path / "made.dcm"))
    assert len(np.unique(values)) == 40 * 36
    assert values.max() == 65535


@pytest.mark.parametrize("bits", [6, 7, 10, 12])
def test_jpeg_ls_of_odd_depths(bits, tmp_path) -> None:
    pixels = making.ramp(16, 16, high=2**bits - 1, dtype=np.uint8 if bits <= 8 else np.uint16)
    frame = imagecodecs.jpegls_encode(pixels)
    path = making.compressed(making.image(pixels), [frame], tmp_path / "made.dcm", uid.JPEGLSLossless)
    np.testing.assert_array_equal(dicom.read(path)[..., 0], pixels)


@pytest.mark.parametrize("bits", [8, 12])
def test_extended_jpeg_keeps_its_depth(bits, tmp_path) -> None:
    pixels = making.ramp(64, 64, high=2**bits - 1, dtype=np.uint8 if bits == 8 else np.uint16)
    frame = imagecodecs.jpeg8_encode(pixels, level=100, bitspersample=bits)
    made = making.image(pixels, BitsStored=bits, HighBit=bits - 1)
    values = dicom.read(making.compressed(made, [frame], tmp_path / "made.dcm", uid.JPEGExtended12Bit))
    assert values.dtype == pixels.dtype
    assert np.abs(values[..., 0].astype(int) - pixels).max() <= 2


def frames_of(count: int) -> list[np.ndarray]:
    return [np.full((8, 8), 10 * index, np.uint8) for index in range(count)]


def multiframe(path, data: bytes) -> str:
    made = making.image(frames_of(1)[0], NumberOfFrames=3)
    made.add_new(0x7FE00010, "OB", data)
    made["PixelData"].is_undefined_length = True
    return making.write(made, path, uid.JPEG2000Lossless)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", [True, False])
def test_frames_in_fragments(fragments, table, tmp_path) -> None:
    encoded = [LOSSLESS[uid.JPEG2000Lossless](one) for one in frames_of(3)]
    data = encaps.encapsulate(encoded, fragments_per_frame=fragments, has_bot=table)
    values = dicom.read(multiframe(tmp_path / "made.dcm", data))
    assert values[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_fragments_of_fewer_frames_are_refused(tmp_path) -> None:
    encoded = [LOSSLESS[uid.JPEG2000Lossless](one) for one in frames_of(2)]
    with pytest.raises(errors.RefusalError, match="hold 3 frames. Received: fragments of 2"):
        dicom.inspect(multiframe(tmp_path / "made.dcm", encaps.encapsulate(encoded)))


@pytest.mark.parametrize("offsets", [(0, 4, 8), (0, 0, 0), (8, 0, 1), (0, 2**31, 2**32 - 1)])
def test_an_offset_table_that_lies_is_refused(offsets, tmp_path) -> None:
    encoded = [LOSSLESS[uid.JPEG2000Lossless](one) for one in frames_of(3)]
    good = encaps.encapsulate(encoded, fragments_per_frame=2)
    path = multiframe(tmp_path / "made.dcm", good[:8] + struct.pack("<3I", *offsets) + good[20:])
    with pytest.raises(errors.RefusalError, match="offset table of the pixel data is damaged"):
        dicom.read(path)


@pytest.mark.parametrize("syntax", NOT_READ)
def test_what_is_not_read_is_refused_by_name(syntax, tmp_path) -> None:
    path = making.compressed(making.image(PICTURES["uint8"]), [b"\x00\x00"], tmp_path / "made.dcm", syntax)
    with pytest.raises(errors.RefusalError, match=f"Received: .*{NOT_READ[syntax]}"):
        dicom.inspect(path)


def test_a_transfer_syntax_without_a_name_is_refused_by_its_number(tmp_path) -> None:
    known, unknown = b"1.2.840.10008.1.2.4.57", b"1.2.840.10008.1.2.8.1\x00"
    path = tmp_path / "made.dcm"
    making.compressed(making.image(PICTURES["uint8"]), [b"\x00\x00"], path, known.decode())
    path.write_bytes(path.read_bytes().replace(known, unknown))
    with pytest.raises(errors.RefusalError, match="Received: 1.2.840.10008.1.2.8.1$"):
        dicom.inspect(str(path))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: uid.UID(syntax).keyword)
@pytest.mark.parametrize("left", [0.1, 0.5, 0.95])
def test_a_frame_that_is_cut_short_is_refused(left, syntax, tmp_path) -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, (40, 36), np.uint16)
    frame = LOSSLESS[syntax](pixels)
    cut = frame[: int(len(frame) * left)]
    path = making.compressed(making.image(pixels), [cut], tmp_path / "made.dcm", syntax)
    with pytest.raises(errors.RefusalError):
        dicom.read(path)


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.HTJ2K])
@pytest.mark.parametrize("element", ["Rows", "Columns"])
def test_a_header_that_contradicts_its_frame_is_refused_before_decoding(element, syntax, tmp_path) -> None:
    made = making.image(PICTURES["uint8"], **{element: 4000})
    path = making.compressed(made, [LOSSLESS[syntax](PICTURES["uint8"])], tmp_path / "made.dcm", syntax)
    with pytest.raises(errors.RefusalError, match="that the data set declares"):
        dicom.inspect(path)


def test_a_frame_of_another_kind_than_the_transfer_syntax_is_refused(tmp_path) -> None:
    frame = imagecodecs.jpegls_encode(PICTURES["uint8"])
    path = making.compressed(making.image(PICTURES["uint8"]), [frame], tmp_path / "made.dcm", uid.JPEGBaseline8Bit)
    with pytest.raises(errors.RefusalError, match="compressed as the transfer syntax says, JPEG Baseline"):
        dicom.inspect(path)


@pytest.mark.parametrize("kind", ["adobe rgb", "adobe ybr", "jfif", "plain ybr", "plain rgb"])
def test_a_jpeg_says_itself_whether_its_colours_are_transformed(kind, tmp_path) -> None:
    colour = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    space = "RGB" if kind.endswith("rgb") else "YCBCR"
    frame = imagecodecs.jpeg8_encode(colour, level=100, colorspace="RGB", outcolorspace=space, subsampling="444")
    if kind.startswith("plain"):
        frame = without_markers(frame)
    photometric = "YBR_FULL_422" if kind == "plain ybr" else "RGB"
    made = making.image(colour, PhotometricInterpretation=photometric)
    values = dicom.read(making.compressed(made, [frame], tmp_path / "made.dcm", uid.JPEGBaseline8Bit))
    np.testing.assert_allclose(values[0, 0], colour[0, 0], atol=3)


def without_markers(frame: bytes) -> bytes:
    """Drops the application segments, and names the components 1, 2 and 3."""
    position, kept = 2, frame[:2]
    while frame[position + 1] != 0xDA:
        size = 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
        segment = frame[position : position + size]
        if not 0xE0 <= segment[1] <= 0xEF:
            kept += segment
        position += size
    rest = frame[position:]
    return (
        (kept + rest)
        .replace(b"R\x11\x00G\x11\x00B\x11\x00", b"\x01\x11\x00\x02\x11\x00\x03\x11\x00")
        .replace(b"\xff\xda\x00\x0c\x03R\x00G\x00B\x00", b"\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00")
    )


def test_a_jpeg_2000_file_within_a_frame_is_read(tmp_path) -> None:
    frame = imagecodecs.jpeg2k_encode(PICTURES["uint16"], level=0, codecformat="JP2", reversible=True)
    path = making.compressed(making.image(PICTURES["uint16"]), [frame], tmp_path / "made.dcm", uid.JPEG2000Lossless)
    np.testing.assert_array_equal(dicom.read(path)[..., 0], PICTURES["uint16"])


def test_pydicom_reads_the_frames_that_these_tests_compress() -> None:
    """The encoders above are judged by pydicom with pylibjpeg and pyjpegls, not by the decoders that they test."""
    for syntax, plugin in (
        (uid.HTJ2K, "pylibjpeg"),
        (uid.JPEG2000Lossless, "pylibjpeg"),
        (uid.JPEGLSLossless, "pyjpegls"),
    ):
        pixels = PICTURES["uint16"]
        made = making.image(pixels)
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = syntax
        made.add_new(0x7FE00010, "OB", encaps.encapsulate([LOSSLESS[syntax](pixels)]))
        decoded, _ = dicom_pixels.get_decoder(syntax).as_array(made, decoding_plugin=plugin)
        np.testing.assert_array_equal(decoded, pixels)
