"""What colours mean: palettes, luminance and chrominance, planes."""

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

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def palette(made: pydicom.Dataset, tables: np.ndarray, bits: int) -> None:
    made.PhotometricInterpretation = "PALETTE COLOR"
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        made.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [len(table), 0, bits])
        made.add_new(f"{name}PaletteColorLookupTableData", "OW", table.astype("<u2" if bits == 16 else "u1").tobytes())


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_expanded(bits, tmp_path) -> None:
    tables = np.random.default_rng(0).integers(0, 2**bits, (3, 256))
    made = making.image(making.ramp(high=255, dtype=np.uint8))
    palette(made, tables, bits)
    values = dicom.read(making.write(made, tmp_path / "made.dcm"))
    np.testing.assert_array_equal(values, tables.T[making.ramp(high=255, dtype=np.uint8)])
    assert values.dtype == f"uint{bits}"


def test_a_real_palette_gives_colours_and_not_indices() -> None:
    path = making.bundled("examples_palette.dcm")
    made = pydicom.dcmread(path)
    np.testing.assert_array_equal(dicom.read(path), dicom_pixels.apply_color_lut(made.pixel_array, made))


def test_a_palette_that_is_cut_short_is_refused(tmp_path) -> None:
    made = making.image(making.ramp(high=255, dtype=np.uint8))
    palette(made, np.zeros((3, 256), int), 16)
    made.GreenPaletteColorLookupTableData = bytes(200)
    with pytest.raises(errors.RefusalError, match="as many entries as declared, 256. Received: 100"):
        dicom.inspect(making.write(made, tmp_path / "made.dcm"))


def segmented(words: list[int], count: int) -> pydicom.Dataset:
    made = making.image(making.ramp(high=count - 1, dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        made.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [count, 0, 16])
        made.add_new(f"Segmented{name}PaletteColorLookupTableData", "OW", np.asarray(words, "<u2").tobytes())
    return made


def test_a_segmented_palette_is_expanded_as_pydicom_does(tmp_path) -> None:
    words = [0, 4, 10, 20, 30, 40, 1, 60, 1000, 0, 2, 7, 8, 2, 1, 0, 0, 1, 10, 65535]
    path = making.write(segmented(words, 80), tmp_path / "made.dcm")
    made = pydicom.dcmread(path)
    np.testing.assert_array_equal(dicom.read(path), dicom_pixels.apply_color_lut(made.pixel_array, made))


@pytest.mark.parametrize(
    "words", [[1, 80, 5], [0, 100, 1], [0, 1, 5, *[1, 65535, 9] * 1000], [0, 2, 1, 2, 2, 60000, 0, 0], [3, 1, 1, 1]]
)
def test_segments_that_expand_to_something_else_are_refused(words, tmp_path) -> None:
    path = making.write(segmented(words, 80), tmp_path / "made.dcm")
    with pytest.raises(errors.RefusalError, match="segmented palette expands to as many entries"):
        dicom.inspect(path)


@pytest.mark.parametrize("name", ["YBR_FULL", "YBR_FULL_422"])
def test_luminance_and_chrominance_become_rgb(name, tmp_path) -> None:
    colours = np.repeat(np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8), 2, axis=1)
    ybr = dicom_pixels.convert_color_space(colours, "RGB", "YBR_FULL")
    made = making.image(ybr, PhotometricInterpretation=name)
    if name == "YBR_FULL_422":
        pairs = np.concatenate([ybr[:, 0::2, :1], ybr[:, 1::2, :1], ybr[:, 0::2, 1:]], axis=-1)
        made.add_new(0x7FE00010, "OB", pairs.tobytes())
    values = dicom.read(making.write(made, tmp_path / "made.dcm"))
    np.testing.assert_array_equal(values, dicom_pixels.convert_color_space(ybr, "YBR_FULL", "RGB"))
    assert np.abs(values.astype(int) - colours).max() <= 2


@pytest.mark.parametrize("transform", ["YBR_RCT", "YBR_ICT"])
def test_the_colour_transforms_of_jpeg_2000_are_undone(transform, tmp_path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    reversible = transform == "YBR_RCT"
    frame = imagecodecs.jpeg2k_encode(colours, level=0 if reversible else 60, codecformat="J2K",
                                      reversible=reversible, mct=True)  # fmt: skip
    made = making.image(colours, PhotometricInterpretation=transform)
    values = dicom.read(making.compressed(made, [frame], tmp_path / "made.dcm", uid.JPEG2000))
    assert np.abs(values.astype(int) - colours).max() <= (0 if reversible else 4)


def test_planes_of_colour_are_brought_together(tmp_path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    made = making.image(colours, PlanarConfiguration=1)
    made.add_new(0x7FE00010, "OB", colours.transpose(2, 0, 1).tobytes())
    np.testing.assert_array_equal(dicom.read(making.write(made, tmp_path / "made.dcm")), colours)


@pytest.mark.parametrize("name", ["CMYK", "ARGB", "HSV", "YBR_PARTIAL_420", "XYB", "JOHN^DOE"])
def test_other_photometric_interpretations_are_refused(name, tmp_path) -> None:
    made = making.image(np.zeros((6, 8, 3), np.uint8), PhotometricInterpretation=name)
    with pytest.raises(errors.RefusalError, match="^a photometric interpretation is one of MONOCHROME1, .*YBR_RCT$"):
        dicom.inspect(making.write(made, tmp_path / "made.dcm"))


def test_signed_colours_are_refused(tmp_path) -> None:
    made = making.image(np.zeros((6, 8, 3), np.uint8), PixelRepresentation=1)
    with pytest.raises(errors.RefusalError, match="colours are unsigned"):
        dicom.inspect(making.write(made, tmp_path / "made.dcm"))
