"""Volumes: orientation against nibabel, resampling against SciPy and known functions."""

import itertools

import nibabel
import nibabel.processing
import numpy as np
import pytest
import scipy.ndimage

from medkeras import errors
from medkeras.data import volume


def rotation(*, x=0.0, y=0.0, z=0.0):
    turn = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        angle, (one, two) = np.radians(degrees), [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[one, one] = step[two, two] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    return turn


def upright(values, spacing=(3.0, 1.5, 0.75), turn=None, origin=(-20.0, -30.0, 12.0)):
    """Returns a canonical volume: D along z, H along y, W along x, perhaps turned."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.eye(3)[:, ::-1] * spacing
    affine[:3, 3] = origin
    return volume.Volume(values, affine)


def stored(canonical, axes, flips):
    """Returns the same volume with its axes in another order and direction."""
    values, affine = canonical.values.transpose(*axes, 3), canonical.affine.copy()
    affine[:, :3] = canonical.affine[:, list(axes)]
    for axis, flipped in enumerate(flips):
        if flipped:
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
            values = np.flip(values, axis)
    return volume.Volume(values, affine)


def world(one, function):
    """Fills a volume's grid with a function of LPS mm."""
    index = np.indices(one.values.shape[:3]).reshape(3, -1)
    places = one.affine[:3, :3] @ index + one.affine[:3, 3:]
    values = function(*places).reshape(*one.values.shape[:3], 1).astype(np.float32)
    return volume.Volume(values, one.affine)


@pytest.mark.parametrize("turn", [None, rotation(x=20, y=-15, z=30)], ids=["straight", "oblique"])
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_every_order_and_direction_of_the_axes_gives_one_array(axes, turn):
    truth = upright(np.arange(3 * 4 * 5 * 2).reshape(3, 4, 5, 2), turn=turn)
    for flips in itertools.product((False, True), repeat=3):
        found = volume.canonical(stored(truth, axes, flips))
        np.testing.assert_array_equal(found.values, truth.values)
        np.testing.assert_allclose(found.affine, truth.affine, atol=1e-12)
        np.testing.assert_allclose(found.spacing, (3.0, 1.5, 0.75))


def test_canonical_is_nibabels_closest_canonical_seen_by_a_radiologist():
    rng = np.random.default_rng(0)
    for _ in range(200):
        turn = rotation(**dict(zip("xyz", rng.uniform(-180, 180, 3), strict=True)))
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn * rng.uniform(0.5, 3, 3), rng.uniform(-50, 50, 3)
        values = rng.normal(size=(3, 4, 5))
        reference = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
        agree = np.sort(np.abs(turn), axis=0)[-1].min() > 0.75
        if not agree:  # The nearest axes are a matter of taste here, and nibabel's taste depends on their order.
            continue
        found = volume.canonical(volume.Volume(values[..., np.newaxis], volume.RAS_TO_LPS @ affine))
        np.testing.assert_array_equal(
            found.values[..., 0], np.asarray(reference.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
        )


def test_a_voxel_keeps_its_place_in_the_patient():
    blank = upright(np.zeros((4, 5, 6, 1)), turn=rotation(x=10, z=-25))
    field = world(stored(blank, (2, 0, 1), (True, False, True)), lambda x, y, z: x + 100 * y - 7 * z)
    found = volume.canonical(field)
    np.testing.assert_allclose(world(found, lambda x, y, z: x + 100 * y - 7 * z).values, found.values, rtol=1e-5)
    directions = found.affine[:3, :3]
    assert directions[2, 0] > 0
    assert directions[1, 1] > 0
    assert directions[0, 2] > 0


def affine_with(columns):
    matrix = np.eye(4)
    matrix[:3, :3] = columns
    return matrix


@pytest.mark.parametrize(
    ("affine", "sentence"),
    [
        (affine_with(np.nan), "finite numbers"),
        (affine_with(np.diag([1, np.inf, 1])), "finite numbers"),
        (affine_with(np.diag([1, 1, 0])), "singular"),
        (affine_with([[1, 1, 0], [1, 1, 0], [0, 0, 1]]), "singular"),
        (affine_with([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), r"shears. Received: 84\.3 degrees"),
    ],
)
def test_an_affine_that_places_no_volume_is_refused_by_a_sentence(affine, sentence):
    with pytest.raises(errors.DataError, match=sentence):
        volume.canonical(volume.Volume(np.zeros((2, 2, 2, 1)), affine))


def test_an_affine_rounded_to_float32_is_no_shear():
    affine = upright(np.zeros((1, 1, 1, 1)), turn=rotation(x=33, y=12, z=71)).affine
    assert volume.fault(affine.astype(np.float32)) == ""


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 1.1), (7.0, 2.9, 0.75)])
def test_resampling_meets_the_spacing_and_keeps_a_linear_field_in_its_place(spacing):
    plane = lambda x, y, z: 2 * x - 0.5 * y + 3 * z  # noqa: E731
    source = world(upright(np.zeros((20, 40, 60, 1)), turn=rotation(x=10, y=20)), plane)
    found = volume.resample(source, spacing, order=1)
    np.testing.assert_allclose(found.spacing, spacing, rtol=1e-12)
    assert found.values.shape[:3] == volume.resampled_shape(source.values.shape, source.spacing, spacing)
    inner = (slice(3, -3),) * 3 if min(found.values.shape[:3]) > 8 else (slice(2, -2), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(found.values[inner], world(found, plane).values[inner], atol=0.25)
    centre = (np.array(source.values.shape[:3]) - 1) / 2
    moved = (np.array(found.values.shape[:3]) - 1) / 2
    np.testing.assert_allclose(
        source.affine @ [*centre, 1], found.affine @ [*moved, 1], atol=1e-9, err_msg="the centre stays put"
    )


def test_finer_voxels_are_scipys_linear_interpolation():
    rng = np.random.default_rng(1)
    source = upright(rng.normal(size=(6, 7, 8, 2)).astype(np.float32), spacing=(2.0, 2.0, 3.0))
    found = volume.resample(source, (1.0, 0.5, 1.0), order=1)
    index = np.indices(found.values.shape[:3]).reshape(3, -1)
    back = np.linalg.inv(source.affine) @ found.affine
    places = back[:3, :3] @ index + back[:3, 3:]
    for channel in range(2):
        expected = scipy.ndimage.map_coordinates(source.values[..., channel], places, order=1, mode="nearest")
        np.testing.assert_allclose(found.values[..., channel].ravel(), expected, atol=1e-5)


def test_finer_voxels_are_nibabels_where_both_have_values():
    rng = np.random.default_rng(2)
    source = upright(rng.normal(size=(6, 7, 8, 1)).astype(np.float32), spacing=(2.0, 1.0, 3.0))
    found = volume.resample(source, (1.0, 1.0, 1.5), order=1)
    image = nibabel.Nifti1Image(source.values[..., 0], volume.RAS_TO_LPS @ source.affine)
    target = (found.values.shape[:3], volume.RAS_TO_LPS @ found.affine)
    expected = nibabel.processing.resample_from_to(image, target, order=1, mode="nearest").get_fdata()
    np.testing.assert_allclose(found.values[..., 0], expected, atol=1e-5)


def test_coarser_voxels_do_not_alias():
    checks = np.indices((24, 24, 24)).sum(axis=0)[..., np.newaxis] % 2 * 200
    source = upright(checks.astype(np.float32), spacing=(1.0, 1.0, 1.0))
    found = volume.resample(source, (4.0, 4.0, 4.0), order=1)
    np.testing.assert_allclose(found.values[1:-1, 1:-1, 1:-1], 100, atol=1e-3)


def test_resampling_commutes_with_the_orientation():
    rng = np.random.default_rng(3)
    source = upright(rng.normal(size=(6, 7, 9, 1)).astype(np.float32), spacing=(3.0, 1.0, 1.0))
    turned = stored(source, (2, 0, 1), (True, False, True))
    ahead = volume.resample(volume.canonical(turned), (2.0, 1.3, 0.8), order=1)
    after = volume.canonical(volume.resample(turned, (0.8, 2.0, 1.3), order=1))
    np.testing.assert_allclose(ahead.values, after.values, atol=1e-5)
    np.testing.assert_allclose(ahead.affine, after.affine, atol=1e-9)


def test_one_plane_of_many_is_their_middle():
    ramp = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    found = volume.resample(upright(ramp, spacing=(1.0, 1.0, 1.0)), (8.0, 1.0, 1.0), order=1)
    assert found.values.ravel().tolist() == pytest.approx([3.5])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_whole_numbers_are_rounded_and_stay_whole(dtype):
    source = upright(np.array([0, 3, 200, 250], dtype).reshape(4, 1, 1, 1), spacing=(2.0, 1.0, 1.0))
    found = volume.resample(source, (1.0, 1.0, 1.0), order=1)
    assert found.values.dtype == dtype
    assert found.values.ravel().tolist() == [0, 1, 2, 52, 151, 213, 238, 250]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_labels_take_the_nearest_value_and_no_other(dtype):
    labels = np.array([0, 7, 90, 2], dtype).reshape(4, 1, 1, 1)
    finer = volume.resample(upright(labels, spacing=(3.0, 1.0, 1.0)), (1.0, 1.0, 1.0), order=0)
    assert finer.values.ravel().tolist() == [0, 0, 0, 7, 7, 7, 90, 90, 90, 2, 2, 2]
    assert finer.values.dtype == dtype
    assert set(np.unique(volume.resample(finer, (4.0, 1.0, 1.0), order=0).values)) <= {0, 7, 90, 2}


def test_the_same_spacing_changes_nothing():
    source = upright(np.random.default_rng(4).normal(size=(3, 4, 5, 1)).astype(np.float32))
    found = volume.resample(source, source.spacing, order=1)
    np.testing.assert_array_equal(found.values, source.values)
    np.testing.assert_array_equal(found.affine, source.affine)


def test_spacing_is_one_number_or_three():
    assert volume.parse_spacing("") is None
    assert volume.parse_spacing("1") == (1.0, 1.0, 1.0)
    assert volume.parse_spacing("3,1, 0.5") == (3.0, 1.0, 0.5)


@pytest.mark.parametrize("text", ["0", "-1", "1,2", "1,2,3,4", "nan", "inf", "one", "1,,2", "1001"])
def test_any_other_spacing_is_refused(text):
    with pytest.raises(errors.ConfigError, match=r"DEPTH,ROW,COLUMN.* Received: "):
        volume.parse_spacing(text)
