"""What stored values mean: one test or more for each rule of docs/dicom.md, on real files or made ones."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import pixels as dicom_pixels
from pydicom import uid

from medkeras import errors
from medkeras.data.readers import dicom
from tests.data.dicom import making

SIGNED = making.ramp(low=-2048, high=2047, dtype=np.int16)
CT = {"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "-1024"}
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def opened(tmp_path, pixels: np.ndarray, syntax: str = uid.ExplicitVRLittleEndian, **elements: object):
    """Writes an image, and returns what is read and what is said of it."""
    path = making.write(making.image(pixels, **elements), tmp_path / "made.dcm", syntax)
    return dicom.read(path), dicom.inspect(path)


def refused(tmp_path, match: str, pixels: np.ndarray | None = None, **elements: object) -> None:
    pixels = making.ramp() if pixels is None else pixels
    path = making.write(making.image(pixels, **elements), tmp_path / "made.dcm")
    with pytest.raises(errors.RefusalError, match=match):
        dicom.inspect(path)


# MONOCHROME1


def test_monochrome1_is_inverted_and_noted(tmp_path) -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    values, facts = opened(tmp_path, making.ramp(), **elements)
    np.testing.assert_array_equal(values[..., 0], 4095 - making.ramp())
    assert values.dtype == np.uint16
    assert facts["mirror"] == 4095
    assert "MONOCHROME1 is inverted: higher values are brighter" in facts["notes"]


def test_monochrome1_of_a_real_radiograph_is_inverted_after_its_rescale() -> None:
    path = making.bundled("dicomdirtests/77654033/CR1/6154")
    low, high = 200, 200 + 0.684 * 4095
    meant = dicom_pixels.apply_modality_lut(pydicom.dcmread(path).pixel_array, pydicom.dcmread(path))
    np.testing.assert_allclose(dicom.read(path)[..., 0], low + high - meant, rtol=1e-6)


def test_monochrome1_of_a_ct_keeps_its_hounsfield_units(tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(), PhotometricInterpretation="MONOCHROME1", **CT)
    np.testing.assert_array_equal(values[..., 0], making.ramp() - 1024.0)
    assert facts["mirror"] is None
    assert "MONOCHROME1 is not inverted: Hounsfield units keep their meaning" in facts["notes"]


# Rescale


def test_ct_gives_hounsfield_units_as_float32(tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(), **CT)
    np.testing.assert_array_equal(values[..., 0], making.ramp() - 1024.0)
    assert (values.dtype, facts["dtype"], facts["units"]) == (np.float32, "float32", "HU")


def transformation(slope: str, intercept: str) -> pydicom.Dataset:
    values = making.item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")
    return making.item(PixelValueTransformationSequence=[values])


def enhanced(lines: list[tuple[str, str]], shared: bool = False) -> pydicom.Dataset:
    """Returns an enhanced CT, one frame for each slope and intercept, 10 mm apart."""
    pixels = np.stack([making.ramp(high=1196) for _ in lines])
    made = making.image(pixels[0], Modality="CT", SOPClassUID=uid.EnhancedCTImageStorage, NumberOfFrames=len(lines))
    made.add_new(0x7FE00010, "OW", pixels.tobytes())
    transformations = [transformation(*line) for line in lines]
    planes = [making.item(ImagePositionPatient=[0, 0, 10 * index]) for index in range(len(lines))]
    per_frame = [making.item(PlanePositionSequence=[plane]) for plane in planes]
    if not shared:
        for frame, change in zip(per_frame, transformations, strict=True):
            frame.update(change)
    shared_groups = making.item(
        PlaneOrientationSequence=[making.item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[making.item(PixelSpacing=[0.5, 0.25], SliceThickness=8, SpacingBetweenSlices=10)],
        FrameVOILUTSequence=[making.item(WindowCenter=40, WindowWidth=400, WindowCenterWidthExplanation="SOFT")],
    )
    if shared:
        shared_groups.update(transformations[0])
    made.PerFrameFunctionalGroupsSequence, made.SharedFunctionalGroupsSequence = per_frame, [shared_groups]
    return made


@pytest.mark.parametrize("shared", [True, False])
def test_enhanced_ct_is_rescaled_by_its_functional_groups(shared, tmp_path) -> None:
    path = making.write(enhanced([("1", "-1024")] * 2, shared), tmp_path / "made.dcm")
    values, facts = dicom.read(path), dicom.inspect(path)
    assert (values.min(), values.max()) == (-1024, 172)
    assert (facts["units"], facts["frames"], values.shape) == ("HU", 2, (2, 6, 8, 1))
    assert facts["positions"] == [[0, 0, 0], [0, 0, 10]]
    assert facts["orientation"] == [[1, 0, 0, 0, 1, 0]] * 2
    assert (facts["spacing"], facts["slice_thickness"], facts["spacing_between"]) == ([0.5, 0.25], 8, 10)
    assert facts["windows"] == [[40, 400, "SOFT"]]


def test_every_frame_has_its_own_rescale(tmp_path) -> None:
    path = making.write(enhanced([("1", "-1024"), ("2", "-1000")]), tmp_path / "made.dcm")
    values = dicom.read(path)
    assert values[:, 5, 7, 0].tolist() == [172, 1392]
    np.testing.assert_array_equal(dicom.read(path, frame=1), values[1])


def test_a_frame_without_the_rescale_of_the_others_is_refused(tmp_path) -> None:
    made = enhanced([("1", "-1024")] * 2)
    del made.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence
    path = making.write(made, tmp_path / "made.dcm")
    with pytest.raises(errors.RefusalError, match="every frame of an enhanced object has a rescale, or none has"):
        dicom.inspect(path)


def test_a_ct_whose_slope_is_missing_takes_one_and_says_so(tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(), Modality="CT", RescaleIntercept="-1024")
    assert values.min() == -1024
    assert "the rescale slope is missing; 1 is taken, as for every CT" in facts["notes"]


@pytest.mark.parametrize("element", ["RescaleSlope", "RescaleIntercept"])
def test_half_a_rescale_is_refused_elsewhere(element, tmp_path) -> None:
    refused(tmp_path, "RescaleSlope and RescaleIntercept come together", Modality="CR", **{element: "2"})


@pytest.mark.parametrize("slope", [b"0 ", b"0.0 ", b"NaN ", b"inf ", b"-inf", b"text", b"1e999 ", b"1\\2 "])
def test_a_slope_that_is_no_number_is_refused(slope, tmp_path) -> None:
    path = tmp_path / "made.dcm"
    making.write(making.image(making.ramp(), **{**CT, "RescaleSlope": "7" * len(slope)}), path)
    path.write_bytes(path.read_bytes().replace(b"7" * len(slope), slope))
    with pytest.raises(errors.RefusalError, match="^RescaleSlope "):
        dicom.inspect(str(path))


def test_a_ct_without_any_rescale_has_no_units(tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(), Modality="CT")
    assert (facts["units"], values.dtype) == ("", np.float32)
    assert "this CT has no rescale: its values are not in Hounsfield units" in facts["notes"]


@pytest.mark.parametrize(("slope", "intercept", "dtype"), [
    ("1", "0", "uint8"), ("2", "100", "uint16"), ("1", "-1", "float32"), ("0.5", "0", "float32"),
    ("300", "0", "float32"),
])  # fmt: skip
def test_rescaled_values_take_the_narrowest_type_that_keeps_them(slope, intercept, dtype, tmp_path) -> None:
    pixels = making.ramp(high=255, dtype=np.uint8)
    values, facts = opened(tmp_path, pixels, Modality="MR", RescaleSlope=slope, RescaleIntercept=intercept)
    assert values.dtype == facts["dtype"] == dtype
    np.testing.assert_array_equal(values[..., 0], pixels * float(slope) + float(intercept))


# Modality LUT


def test_a_modality_lut_is_applied(tmp_path) -> None:
    entries = [7 * value for value in range(4096)]
    elements = {"BitsStored": 12, "HighBit": 11, "ModalityLUTSequence": [making.lut(entries, ModalityLUTType="OD")]}
    values, facts = opened(tmp_path, making.ramp(), **elements)
    np.testing.assert_array_equal(values[..., 0], 7 * making.ramp())
    assert facts["dtype"] == "uint16"


def test_values_beyond_a_lut_take_its_ends(tmp_path) -> None:
    made = making.image(making.ramp(), ModalityLUTSequence=[making.lut([5, 6, 7], first=1000, ModalityLUTType="US")])
    path = making.write(made, tmp_path / "made.dcm")
    wanted = dicom_pixels.apply_modality_lut(pydicom.dcmread(path).pixel_array, pydicom.dcmread(path))
    np.testing.assert_array_equal(dicom.read(path)[..., 0], wanted)
    assert set(np.unique(wanted)) == {5, 7}


@pytest.mark.parametrize("declared", [2, 4, 4096, 0])
def test_a_modality_lut_of_another_length_is_refused(declared, tmp_path) -> None:
    table = making.lut([5, 6, 7], ModalityLUTType="US")
    table.LUTDescriptor = [declared, 0, 16]
    refused(tmp_path, "LUTData has as many entries as declared", ModalityLUTSequence=[table])


# Stored bits and sign


def test_what_lies_above_the_stored_bits_is_cut_off(tmp_path) -> None:
    overlay = making.ramp() | 0xA000
    values, _ = opened(tmp_path, overlay.astype(np.uint16), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(values[..., 0], making.ramp())


def test_signed_values_in_twelve_bits_are_extended_by_their_own_sign(tmp_path) -> None:
    cells = (SIGNED.view(np.uint16) & 0x0FFF) | 0x5000
    elements = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    values, facts = opened(tmp_path, cells.astype(np.uint16), **elements)
    np.testing.assert_array_equal(values[..., 0], SIGNED)
    assert (facts["dtype"], facts["bits_stored"]) == ("float32", 12)


def test_values_that_do_not_begin_at_bit_zero_are_moved_there(tmp_path) -> None:
    values, _ = opened(tmp_path, (making.ramp() << 4 | 0xF).astype(np.uint16), BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(values[..., 0], making.ramp())


@pytest.mark.parametrize(("stored", "high"), [(0, 0), (17, 16), (12, 10), (12, 16)])
def test_stored_bits_beyond_their_cell_are_refused(stored, high, tmp_path) -> None:
    refused(tmp_path, "stored bits lie within the allocated ones", BitsStored=stored, HighBit=high)


def test_embedded_overlays_are_cut_off_and_noted(tmp_path) -> None:
    made = making.image(making.ramp() | 0x1000, BitsStored=12, HighBit=11)
    made.add_new(0x60000102, "US", 12)
    path = making.write(made, tmp_path / "made.dcm")
    np.testing.assert_array_equal(dicom.read(path)[..., 0], making.ramp())
    assert "overlays are not drawn" in dicom.inspect(path)["notes"]


def jpeg2000(tmp_path, pixels: np.ndarray, **elements: object) -> str:
    frame = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="J2K", reversible=True)
    return making.compressed(making.image(pixels, **elements), [frame], tmp_path / "made.dcm", uid.JPEG2000Lossless)


def test_a_signed_jpeg_2000_frame_stays_signed_whatever_the_header_says(tmp_path) -> None:
    path = jpeg2000(tmp_path, SIGNED, PixelRepresentation=0)
    np.testing.assert_array_equal(dicom.read(path)[..., 0], SIGNED)
    assert any("disagree on the sign" in note for note in dicom.inspect(path)["notes"])


def test_an_unsigned_jpeg_2000_frame_in_a_signed_data_set_is_taken_as_signed() -> None:
    path = making.bundled("J2K_pixelrep_mismatch.dcm")
    values = dicom.read(path)
    np.testing.assert_array_equal(values[..., 0], pydicom.dcmread(path).pixel_array)
    assert values.min() == -2000
    assert any("disagree on the sign" in note for note in dicom.inspect(path)["notes"])


@pytest.mark.parametrize("count", [1, 3])
def test_samples_of_one_bit(count, tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 2, (count, 5, 5), np.uint8)
    made = making.image(frames[0], BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=count)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    made.add_new(0x7FE00010, "OB", packed + bytes(len(packed) % 2))
    path = making.write(made, tmp_path / "made.dcm")
    np.testing.assert_array_equal(dicom.read(path).reshape(count, 5, 5), frames)


def test_rle_of_one_bit_is_refused(tmp_path) -> None:
    made = making.image(making.ramp(high=1, dtype=np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    path = making.compressed(made, [bytes(64)], tmp_path / "made.dcm", uid.RLELossless)
    with pytest.raises(errors.RefusalError, match="RLE compresses whole bytes. Received: samples of 1 bit"):
        dicom.inspect(path)


def test_thirty_two_bits_become_float32_and_are_noted(tmp_path) -> None:
    pixels = making.ramp(high=2**31, dtype=np.uint32)
    values, facts = opened(tmp_path, pixels)
    np.testing.assert_array_equal(values[..., 0], pixels.astype(np.float32))
    assert "samples of more than 24 significant bits are rounded to float32" in facts["notes"]


@pytest.mark.parametrize(("tag", "vr", "dtype"), [(0x7FE00008, "OF", "<f4"), (0x7FE00009, "OD", "<f8")])
def test_floating_point_pixels(tag, vr, dtype, tmp_path) -> None:
    pixels = np.linspace(-1.5, 2.5, 48).reshape(6, 8).astype(dtype)
    made = making.image(making.ramp(), BitsAllocated=8 * pixels.itemsize)
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.add_new(tag, vr, pixels.tobytes())
    values = dicom.read(making.write(made, tmp_path / "made.dcm"))
    np.testing.assert_array_equal(values[..., 0], pixels.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floating_point_pixels_are_finite(value, tmp_path) -> None:
    made = making.image(making.ramp(), BitsAllocated=32)
    del made.PixelData
    made.add_new(0x7FE00008, "OF", np.full((6, 8), value, "<f4").tobytes())
    path = making.write(made, tmp_path / "made.dcm")
    with pytest.raises(errors.RefusalError, match="finite"):
        dicom.read(path)


# Length, padding


def test_pixel_data_shorter_than_declared_are_refused(tmp_path) -> None:
    refused(tmp_path, "the pixel data take 112 bytes. Received: 96", Rows=7)


def test_more_pixel_data_than_declared_are_noted(tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(), Rows=5)
    np.testing.assert_array_equal(values[..., 0], making.ramp()[:5])
    assert "there are bytes beyond the last frame" in facts["notes"]


@pytest.mark.parametrize("vr", ["SS", "US"])
def test_padding_takes_the_lowest_value_of_the_image(vr, tmp_path) -> None:
    pixels = making.ramp(high=1000, dtype=np.int16)
    pixels[0, :4] = -2000
    made = making.image(pixels, **CT)
    made.add_new("PixelPaddingValue", vr, -2000 if vr == "SS" else 63536)
    path = making.write(made, tmp_path / "made.dcm")
    values = dicom.read(path)[..., 0]
    assert values.min() == values[0, 0] == values[0, 4] == pixels[0, 4] - 1024
    np.testing.assert_array_equal(values[1:], pixels[1:] - 1024.0)
    assert "pixels of the padding value take the lowest value of their frame" in dicom.inspect(path)["notes"]


def test_a_negative_padding_value_hides_nothing_below_it_but_in_ct(tmp_path) -> None:
    pixels = np.array([[-300, -2, -1, 0, 100]], np.int16)
    made = making.image(pixels, Modality="MR")
    made.add_new("PixelPaddingValue", "SS", -1)
    values = dicom.read(making.write(made, tmp_path / "made.dcm"))[..., 0]
    np.testing.assert_array_equal(values, [[-300, -2, -300, 0, 100]])


def test_a_padding_value_that_no_sample_can_have_is_passed_over(tmp_path) -> None:
    pixels = np.array([[0, 2096, 4095]], np.uint16)
    made = making.image(pixels, BitsStored=12, HighBit=11)
    made.add_new("PixelPaddingValue", "US", 63536)
    np.testing.assert_array_equal(dicom.read(making.write(made, tmp_path / "made.dcm"))[..., 0], pixels)


def test_a_range_of_padding(tmp_path) -> None:
    pixels = making.ramp(high=1000)
    pixels[0, :3] = 65000, 65500, 65535
    made = making.image(pixels)
    made.add_new("PixelPaddingValue", "US", 65000)
    made.add_new("PixelPaddingRangeLimit", "US", 65535)
    values = dicom.read(making.write(made, tmp_path / "made.dcm"))[..., 0]
    assert values.max() == 1000
    assert set(values[0, :3]) == {pixels[0, 3]}


def test_an_image_of_padding_alone_is_left_as_it_is(tmp_path) -> None:
    made = making.image(np.full((4, 4), 9, np.uint16))
    made.add_new("PixelPaddingValue", "US", 9)
    assert set(dicom.read(making.write(made, tmp_path / "made.dcm")).ravel()) == {9}


# The file itself


@pytest.mark.parametrize("magic", [b"MZ", b"\x7fELF", b"#!/bin/sh", b"PK\x03\x04", b"\xca\xfe\xba\xbe"])
def test_a_preamble_that_is_a_program_is_refused(magic, tmp_path) -> None:
    path = tmp_path / "made.dcm"
    making.write(making.image(making.ramp()), path)
    path.write_bytes(magic.ljust(128, b"\x00") + path.read_bytes()[128:])
    with pytest.raises(errors.RefusalError, match="preamble of this DICOM file is that of a program"):
        dicom.inspect(str(path))


def test_a_preamble_of_tiff_is_read(tmp_path) -> None:
    path = tmp_path / "made.dcm"
    making.write(making.image(making.ramp()), path)
    path.write_bytes(b"II*\x00".ljust(128, b"\x00") + path.read_bytes()[128:])
    np.testing.assert_array_equal(dicom.read(str(path))[..., 0], making.ramp())
