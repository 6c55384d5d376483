"""Series: in the order of space and not of names, right side up, and every fault told."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from medkeras import config
from medkeras.data import cases, dicom, series, volume
from tests.data.dicom import scans

HEIGHTS = [-6.0, -3.0, 0.0, 3.0, 6.0, 9.0]
HEADER = cases.ImageHeader(6, 5, 1, "uint16")


def slices(heights, **fields) -> list[series.Slice]:
    """Axial slices at these heights, as the reader would give them."""
    one = series.Slice("", None, HEADER, orientation=scans.AXIAL, spacing=(2.0, 0.5), step=3.0, modality="MR")
    return [
        dataclasses.replace(one, **{"path": f"{n}.dcm", "position": (0.0, 0.0, z), "number": n + 1, **fields})
        for n, z in enumerate(heights)
    ]


def load(folder, **settings) -> cases.CaseSet:
    chosen = config.Config().override({"data.view": "volumes", **settings})
    return dicom.load(str(folder), chosen.data)


def only_volume(folder, **settings) -> volume.Volume:
    case_set = load(folder, **settings)
    (case,) = case_set.cases
    made = case_set.images.volume(case, 1)
    header = case_set.images.header(case)
    assert (header.depth, header.height, header.width) == made.values.shape[:3]
    assert header.dtype == made.values.dtype.name
    np.testing.assert_array_equal(case_set.images.read(case, 1), made.values)
    return made


def expected(heights=HEIGHTS) -> np.ndarray:
    return np.stack([scans.plain(int(100 + 10 * height)) for height in heights])


@pytest.mark.parametrize("shuffle", [1, 2, 3])
def test_slices_are_sorted_by_where_they_lie(tmp_path, shuffle) -> None:
    scans.write_series(tmp_path / "s", HEIGHTS, shuffle=shuffle)
    made = only_volume(tmp_path)
    assert made.values.dtype == np.uint16
    np.testing.assert_array_equal(made.values[..., 0], expected())
    np.testing.assert_allclose(made.spacing, (3, 2, 0.5))
    np.testing.assert_allclose(made.affine @ [1, 0, 0, 1], [0, 0, -3, 1], atol=1e-9)


def test_a_reversed_normal_is_turned_the_right_side_up(tmp_path) -> None:
    """Rows from left to right: the normal points to the feet, so that stored order is superior to inferior."""
    scans.write_series(tmp_path / "s", HEIGHTS, orientation=(-1, 0, 0, 0, 1, 0))
    made = only_volume(tmp_path)
    np.testing.assert_array_equal(made.values[..., 0], expected()[::-1, :, ::-1])
    np.testing.assert_allclose(made.affine[:3, :3], [[0, 0, 0.5], [0, 2, 0], [3, 0, 0]], atol=1e-9)


@pytest.mark.parametrize("orientation", [scans.CORONAL, scans.SAGITTAL])
def test_other_planes_become_axial(tmp_path, orientation) -> None:
    scans.write_series(tmp_path / "s", HEIGHTS, orientation=orientation)
    made = only_volume(tmp_path)
    world = made.affine[:3, :3] / made.spacing
    np.testing.assert_allclose(world, [[0, 0, 1], [0, 1, 0], [1, 0, 0]], atol=1e-9)
    stored = expected()
    # Rows run to the feet, slices along the normal: to the back in a coronal series, to the left in a sagittal one.
    normal = np.cross(orientation[:3], orientation[3:])
    turned = stored.transpose(1, 0, 2) if orientation == scans.CORONAL else stored.transpose(1, 2, 0)
    axis = 1 if orientation == scans.CORONAL else 2
    turned = turned[::-1] if normal.sum() > 0 else np.flip(turned[::-1], axis)
    np.testing.assert_array_equal(made.values[..., 0], turned)


def test_an_oblique_series_keeps_its_angle(tmp_path) -> None:
    angle = np.radians(15)
    oblique = (1.0, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    scans.write_series(tmp_path / "s", HEIGHTS, orientation=tuple(round(value, 6) for value in oblique))
    made = only_volume(tmp_path)
    np.testing.assert_array_equal(made.values[..., 0], expected())
    np.testing.assert_allclose(made.affine[:3, 0] / 3, [0, -np.sin(angle), np.cos(angle)], atol=1e-5)
    np.testing.assert_allclose(made.spacing, (3, 2, 0.5), atol=1e-5)


def test_resampling_reaches_the_spacing_that_is_asked_for(tmp_path) -> None:
    scans.write_series(tmp_path / "s", HEIGHTS)
    made = only_volume(tmp_path, **{"data.spacing": "1.5,2,0.5"})
    assert made.values.shape == (12, 6, 5, 1)
    np.testing.assert_allclose(made.spacing, (1.5, 2, 0.5))
    assert (np.diff(made.values[..., 0].astype(int), axis=0) >= 0).all()


def test_frames_of_an_enhanced_object_are_sorted_too(tmp_path) -> None:
    shuffled = [HEIGHTS[index] for index in (3, 0, 5, 1, 4, 2)]
    scans.enhanced(tmp_path, shuffled)
    made = only_volume(tmp_path)
    np.testing.assert_array_equal(made.values[..., 0], expected())
    np.testing.assert_allclose(made.spacing, (3, 2, 0.5))


def test_two_series_in_one_folder_are_two_volumes(tmp_path) -> None:
    for name, number in (("one", 3), ("two", 4)):
        for index in range(number):
            scans.write(tmp_path / f"{name}{index}.dcm", SeriesInstanceUID=scans.uid(name),
                        ImagePositionPatient=[0, 0, index], InstanceNumber=index)  # fmt: skip
    case_set = load(tmp_path)
    assert [case.case_id for case in case_set.cases] == ["one0.dcm", "two0.dcm"]
    assert [case_set.images.header(case).depth for case in case_set.cases] == [3, 4]
    assert {case.patient_id for case in case_set.cases} == {"007"}


def faults(given) -> tuple[bool, str]:
    stack, sentences = series.arrange(given)
    return stack is not None, " ".join(sentences)


def test_a_clean_series_has_no_fault() -> None:
    for order in itertools.permutations(slices([0.0, 3.0, 6.0])):
        stack, sentences = series.arrange(order)
        assert sentences == ()
        assert [one.position[2] for one in stack.slices] == [0, 3, 6]
        np.testing.assert_array_equal(stack.affine, [[0, 0, 0.5, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])


def test_rounded_positions_are_no_fault() -> None:
    heights = [round(0.6 * n, 1) for n in range(9)]
    assert faults(slices([z + 0.004 * (n % 2) for n, z in enumerate(heights)])) == (True, "")


@pytest.mark.parametrize(
    ("heights", "sentence"),
    [
        ([0, 3, 6, 12, 15], "about 1 slices are missing at 1 places. Received: steps of 3 mm, the widest 6 mm"),
        ([0, 3, 12, 15, 24, 27, 30], "about 4 slices are missing at 2 places"),
        ([0, 3, 6.5, 9.5, 13], "evenly spaced. Received: steps of 3 to 3.5 mm"),
        ([0, 0, 3, 3, 6, 6], "2 to 2 at every place, as a series of several echoes"),
        ([5], "two slices or more. Received: 1"),
        ([5, 5], "2 to 2 at every place"),
    ],
)
def test_a_volume_that_would_lie_is_refused(heights, sentence) -> None:
    made, told = faults(slices([float(z) for z in heights]))
    assert not made
    assert sentence in told


def test_a_copy_is_told_and_left_out() -> None:
    given = slices([0.0, 3.0, 6.0, 3.0])
    stack, (sentence,) = series.arrange(given[::-1])
    assert sentence == "1 images lie where another one lies, and are left out"
    assert [one.path for one in stack.slices] == ["0.dcm", "1.dcm", "2.dcm"]


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"orientation": scans.SAGITTAL}, "plane"),
        ({"orientation": None, "position": None}, "plane"),
        ({"header": cases.ImageHeader(12, 10, 1, "uint16")}, "size"),
        ({"header": cases.ImageHeader(6, 5, 3, "uint8")}, "size"),
        ({"spacing": (1.0, 1.0)}, "pixel spacing"),
        ({"position": None}, "kind of place"),
    ],
)
def test_a_localiser_is_told_and_left_out(odd, what) -> None:
    good = slices([0.0, 3.0, 6.0, 9.0])
    strange = [dataclasses.replace(one, **odd) for one in slices([0.0, 50.0])]
    stack, (sentence,) = series.arrange([*strange, *good])
    assert sentence == f"2 of 6 images have another {what}, as a localiser has, and are left out"
    assert list(stack.slices) == good
    made, told = faults([*strange, *good[:2]])
    assert not made
    assert f"of one {what}. Received: 2, of [2, 2] images" in told


def test_slices_beside_the_line_are_refused() -> None:
    given = slices([0.0, 3.0, 6.0, 9.0])
    given[2] = dataclasses.replace(given[2], position=(40.0, 0.0, 6.0))
    assert faults(given) == (False, "the slices of a volume lie straight behind one another. Received: one 40 mm aside")


def test_a_tilted_gantry_is_refused() -> None:
    given = [
        dataclasses.replace(one, position=(0.0, one.position[2] / 2, one.position[2])) for one in slices([0, 3, 6])
    ]
    made, told = faults(given)
    assert not made
    assert "its affine shears" in told


def test_directions_that_are_none_are_refused() -> None:
    made, told = faults(slices([0.0, 3.0], orientation=(0.0,) * 6))
    assert not made
    assert "two unit vectors" in told


def test_without_positions_the_numbers_decide_and_it_is_told() -> None:
    given = slices([0.0, 3.0, 6.0], position=None, orientation=None)
    given = [dataclasses.replace(one, number=number) for one, number in zip(given, (2, 3, 1), strict=True)]
    stack, (sentence,) = series.arrange(given)
    assert [one.path for one in stack.slices] == ["2.dcm", "0.dcm", "1.dcm"]
    assert "no image states where it lies" in sentence
    assert not stack.measured
    np.testing.assert_array_equal(stack.affine, [[0, 0, 0.5, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "fields", [{"modality": "DX"}, {"modality": "US"}, {"frame": 0}, {"number": None}, {"number": 1}]
)
def test_views_and_moments_are_no_slices(fields) -> None:
    assert not faults(slices([0.0, 3.0, 6.0], position=None, orientation=None, **fields))[0]


def test_unknown_pixel_spacing_is_told_and_never_resampled(tmp_path) -> None:
    scans.write_series(tmp_path / "s", HEIGHTS, PixelSpacing=None)
    assert load(tmp_path).problems == (
        cases.Problem(str(tmp_path / "s"), "header", "6 of 6 files lack what their class requires: PixelSpacing"),
        cases.Problem(str(tmp_path / "s"), "series", "no image states the distance of its pixels: it counts as 1 mm"),
    )
    case_set = load(tmp_path, **{"data.spacing": "1"})
    assert case_set.cases == ()
    assert "resampling" in case_set.problems[-1].reason
    assert case_set.notes[-2] == "1 series make no volume and were left out."


def test_faults_name_the_series_by_its_folder(tmp_path) -> None:
    scans.write_series(tmp_path / "good", HEIGHTS)
    scans.write_series(tmp_path / "gap", [0, 3, 9, 12])
    case_set = load(tmp_path)
    assert [case.case_id for case in case_set.cases] == ["good"]
    (problem,) = case_set.problems
    assert (problem.path, problem.kind) == (str(tmp_path / "gap"), "series")
    assert "007" not in problem.reason
    images = dicom.load(str(tmp_path), config.DataConfig())
    assert len(images.cases) == len(HEIGHTS) + 4
    assert images.problems == case_set.problems


def test_one_stack_has_one_unit() -> None:
    planes = slices(HEIGHTS)
    planes[0] = dataclasses.replace(planes[0], header=dataclasses.replace(HEADER, units="HU"))
    stack, sentences = series.arrange(planes)
    assert stack is not None
    assert len(stack.slices) == 5
    assert sentences == ("1 of 6 images have another unit, as a localiser has, and are left out",)
    planes[2:] = [dataclasses.replace(one, header=planes[0].header) for one in planes[2:4]] + planes[4:]
    assert series.arrange(planes)[1] == ("the slices of a volume are of one unit. Received: 2, of [3, 3] images",)
