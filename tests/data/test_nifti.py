"""NIfTI files: equal to nibabel's reading where they are read, refused by one sentence where they are not."""

import gzip
import pathlib
import struct
import time
import tracemalloc

import nibabel
import numpy as np
import pytest

from medkeras import errors
from medkeras.data import guard, volume
from medkeras.data.readers import nifti, nifti_file

NIBABEL = pathlib.Path(nibabel.__file__).parent / "tests" / "data"
AFFINE = np.diag([-0.8, -0.9, 3.0, 1.0])


@pytest.fixture(autouse=True)
def _nothing_kept():
    nifti._kept.clear()


def radiologists(image):
    """Returns nibabel's own reading, float64 `[T, D, H, W]`, in our orientation."""
    turned = nibabel.as_closest_canonical(image)
    values = turned.get_fdata().reshape(*turned.shape[:3], -1)
    return values.transpose(3, 2, 1, 0)[:, :, ::-1, ::-1]


def saved(path, values, *, affine=AFFINE, kind=nibabel.Nifti1Image, **fields):
    """Writes values and then header fields as they are, however wrong."""
    image = kind(values, affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return patched(path, **fields) if fields else path


def patched(path, **fields):
    gzipped = str(path).endswith(".gz")
    contents = path.read_bytes()
    contents = gzip.decompress(contents) if gzipped else contents
    kind, size = (nibabel.Nifti1Header, 348) if contents[:4] == struct.pack("<i", 348) else (nibabel.Nifti2Header, 540)
    header = kind(contents[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    contents = header.binaryblock + contents[size:]
    path.write_bytes(gzip.compress(contents) if gzipped else contents)
    return path


def refusal(path, **options):
    with pytest.raises(errors.RefusalError) as caught:
        nifti.read(str(path), **options)
    return str(caught.value)


RNG = np.random.default_rng(0)
SHORTS = RNG.integers(-500, 500, (5, 6, 4)).astype(np.int16)


@pytest.mark.parametrize(
    "name",
    [
        "anatomical.nii",
        "example4d.nii.gz",
        "example_nifti2.nii.gz",
        "functional.nii",
        "reoriented_anat_moved.nii",
        "resampled_anat_moved.nii",
        "standard.nii.gz",
    ],
)
def test_nibabels_own_files_are_read_as_nibabel_reads_them(name):
    path = NIBABEL / name
    expected = radiologists(nibabel.load(path))
    facts = nifti.inspect(str(path))
    assert (facts["times"], *facts["shape"]) == expected.shape
    # resampled_anat_moved.nii is NaN outside of the head.
    expected = np.where(np.isnan(expected), np.nanmin(expected), expected)
    for moment in range(facts["times"]):
        found = nifti.read(str(path), time=moment)
        np.testing.assert_array_equal(found[..., 0], expected[moment].astype(np.float32))
        assert found.dtype == facts["dtype"]
    closest = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_allclose(facts["spacing"], closest.header.get_zooms()[2::-1], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("analyze.hdr", "bears no NIfTI mark"),
        ("nifti1.hdr", "pairs of a .hdr and an .img file are not read"),
        ("nifti2.hdr", "pairs of a .hdr and an .img file are not read"),
        ("row_major.dconn.nii", "2 to 7 dimensions|three dimensions"),
        ("test.mgz", "begins with its header's size"),
    ],
)
def test_nibabels_other_files_are_refused_by_name(name, sentence):
    with pytest.raises(errors.RefusalError, match=sentence):
        nifti.inspect(str(NIBABEL / name))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "<i4", ">i2", ">f4", "f8", "u4", "i8", "u8"])
def test_every_dtype_keeps_its_values(tmp_path, dtype, kind, suffix):
    values = np.arange(5 * 6 * 4).reshape(5, 6, 4).astype(dtype)
    image = kind(values, AFFINE, dtype=dtype)
    if dtype.startswith(">"):
        image = kind(values, AFFINE, header=kind.header_class(endianness=">"), dtype=dtype)
    nibabel.save(image, tmp_path / f"one{suffix}")
    found = nifti.read(str(tmp_path / f"one{suffix}"))
    assert found.dtype == {"u1": "uint8", "u2": "uint16"}.get(dtype, "float32")
    np.testing.assert_array_equal(found[..., 0], values.transpose(2, 1, 0))


def test_a_frame_is_an_axial_slice_from_the_lowest(tmp_path):
    path = saved(tmp_path / "down.nii.gz", SHORTS, affine=np.diag([-1.0, 1.0, -2.0, 1.0]))
    whole = nifti.read(str(path))
    np.testing.assert_array_equal(whole[..., 0], SHORTS.transpose(2, 1, 0)[::-1, ::-1])
    for frame in range(4):
        np.testing.assert_array_equal(nifti.read(str(path), frame=frame), whole[frame])


def test_frames_of_a_series_are_counted_volume_by_volume(tmp_path):
    series = RNG.integers(0, 255, (3, 4, 2, 5)).astype(np.uint8)
    path = saved(tmp_path / "series.nii", series)
    facts = nifti.inspect(str(path))
    assert (facts["shape"], facts["times"]) == ([2, 4, 3], 5)
    assert "holds 5 volumes" in facts["notes"][0]
    np.testing.assert_array_equal(nifti.read(str(path), frame=2 * 3 + 1)[..., 0], series[:, :, 1, 3].T)
    np.testing.assert_array_equal(nifti.read(str(path), time=4)[..., 0], series[..., 4].transpose(2, 1, 0))
    assert "Received: 10" in refusal(path, frame=10)
    assert "Received: -1" in refusal(path, frame=-1)


def test_a_plane_and_trailing_ones_are_volumes(tmp_path):
    assert nifti.inspect(str(saved(tmp_path / "plane.nii", SHORTS[..., 0])))["shape"] == [1, 6, 5]
    assert nifti.inspect(str(saved(tmp_path / "five.nii", SHORTS[..., None, None])))["shape"] == [4, 6, 5]


def test_scaling_keeps_the_digits_of_float32(tmp_path):
    path = saved(tmp_path / "scaled.nii.gz", SHORTS, scl_slope=0.1, scl_inter=-1024.3)
    slope, inter = float(np.float32(0.1)), float(np.float32(-1024.3))
    found = nifti.read(str(path))
    np.testing.assert_array_equal(found[..., 0], (SHORTS.T * slope + inter).astype(np.float32))
    np.testing.assert_array_equal(found[..., 0], radiologists(nibabel.load(path))[0].astype(np.float32))


@pytest.mark.parametrize(
    ("slope", "inter", "notes"), [(0, 7, 0), (np.nan, np.nan, 0), (np.inf, 0, 1), (-np.inf, 3, 1), (1, 0, 0)]
)
def test_no_slope_means_stored_values(tmp_path, slope, inter, notes):
    path = saved(tmp_path / "one.nii", SHORTS.astype(np.uint16), scl_slope=slope, scl_inter=inter)
    found = nifti.read(str(path))
    assert found.dtype == "uint16"
    np.testing.assert_array_equal(found[..., 0], SHORTS.T.astype(np.uint16))
    assert len(nifti.inspect(str(path))["notes"]) == notes


def test_colour_is_read_and_alpha_dropped(tmp_path):
    rgba = RNG.integers(0, 255, (5, 6, 4, 4)).astype(np.uint8)
    for names in (("R", "G", "B"), ("R", "G", "B", "A")):
        values = np.ascontiguousarray(rgba[..., : len(names)]).view([(name, "u1") for name in names])[..., 0]
        path = saved(tmp_path / f"{len(names)}.nii", values)
        facts = nifti.inspect(str(path))
        assert (facts["channels"], facts["dtype"]) == (3, "uint8")
        np.testing.assert_array_equal(nifti.read(str(path)), rgba[..., :3].transpose(2, 1, 0, 3))


def test_sform_wins_over_qform_and_a_difference_is_noted(tmp_path):
    image = nibabel.Nifti1Image(SHORTS, None)
    image.set_qform(np.diag([1.0, 1.0, 1.0, 1.0]), code=1)
    image.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=2)
    nibabel.save(image, tmp_path / "two.nii")
    np.testing.assert_array_equal(nifti.read(str(tmp_path / "two.nii"))[..., 0], SHORTS.T)
    assert nifti.inspect(str(tmp_path / "two.nii"))["notes"] == [
        "The two places that the file gives (sform, qform) differ; the sform is taken."
    ]


def test_qform_alone_places_the_volume(tmp_path):
    image = nibabel.Nifti1Image(SHORTS, None)
    image.set_qform(np.diag([1.0, 1.0, 2.0, 1.0]), code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "q.nii")
    np.testing.assert_array_equal(nifti.read(str(tmp_path / "q.nii"))[..., 0], SHORTS.T[:, ::-1, ::-1])
    assert nifti.inspect(str(tmp_path / "q.nii"))["notes"] == []


def test_a_file_that_does_not_say_left_is_read_as_nibabel_does_and_noted(tmp_path):
    path = saved(tmp_path / "none.nii", SHORTS, qform_code=0, sform_code=0)
    np.testing.assert_array_equal(nifti.read(str(path))[..., 0], radiologists(nibabel.load(path))[0])
    assert "does not say where left is" in nifti.inspect(str(path))["notes"][0]
    np.testing.assert_allclose(nifti.inspect(str(path))["spacing"], (3.0, 0.9, 0.8), rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3), ("unknown", 1.0)])
def test_spacing_is_in_millimetres(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(SHORTS, AFFINE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "unit.nii")
    facts = nifti.inspect(str(tmp_path / "unit.nii"))
    np.testing.assert_allclose(facts["spacing"], np.array([3.0, 0.9, 0.8]) * factor, rtol=1e-6)


def test_the_affine_places_voxels_as_nibabel_does(tmp_path):
    oblique = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.3, -0.2, 0.4) * [1.5, 1.0, 2.0], [9, -4, 7])
    path = saved(tmp_path / "oblique.nii", SHORTS, affine=oblique)
    facts, image = nifti.inspect(str(path)), nibabel.load(path)
    found = nifti.read(str(path))[..., 0]
    places = [np.array(facts["affine"]) @ [*index, 1] for index in np.ndindex(found.shape)]
    back = np.rint(np.linalg.inv(image.affine) @ volume.RAS_TO_LPS @ np.transpose(places)).astype(int)[:3]
    np.testing.assert_array_equal(found.ravel(), SHORTS[tuple(back)])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"srow_x": [np.nan, 0, 0, 0]}, "finite numbers"),
        ({"srow_x": [0, 0, 0, 0]}, "singular"),
        ({"srow_x": [1, 0.5, 0, 0]}, "shears"),
        ({"pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, r"positive, finite size. Received: \[0.0"),
        ({"pixdim": [1, 1, -2, 1, 1, 1, 1, 1]}, "positive, finite size"),
        ({"pixdim": [1, 1, np.nan, 1, 1, 1, 1, 1]}, "positive, finite size"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 5}, "finite numbers"),
        ({"scl_slope": 2, "scl_inter": np.inf}, "scl_inter"),
        ({"dim": [3, 5, 6, 0, 1, 1, 1, 1]}, "at least 1"),
        ({"dim": [3, 5, -6, 4, 1, 1, 1, 1]}, "at least 1"),
        ({"dim": [1, 120, 1, 1, 1, 1, 1, 1]}, "2 to 7 dimensions"),
        ({"dim": [9, 5, 6, 4, 1, 1, 1, 1]}, "2 to 7 dimensions"),
        ({"dim": [-1, 5, 6, 4, 1, 1, 1, 1]}, "2 to 7 dimensions"),
        ({"dim": [5, 5, 6, 2, 1, 2, 1, 1]}, "vectors and tensors"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "at most 134217728 voxels"),
        ({"dim": [4, 512, 512, 64, 40, 1, 1, 1]}, "at most 536870912 bytes"),
        ({"dim": [4, 5, 6, 1000, 32000, 1, 1, 1]}, "at most 1048576 slices"),
        ({"dim": [3, 5, 6, 5, 1, 1, 1, 1]}, "end early"),
        ({"datatype": 32, "bitpix": 64}, "Received: complex"),
        ({"datatype": 1536, "bitpix": 128}, "Received: float128"),
        ({"datatype": 1, "bitpix": 1}, "Received: binary"),
        ({"datatype": 77}, "Received: NIfTI datatype 77"),
        ({"vox_offset": 0}, "voxels begin 352"),
        ({"vox_offset": np.nan}, "voxels begin 352"),
        ({"vox_offset": 1e12}, "voxels begin 352"),
        ({"magic": b"ni1"}, "pairs"),
        ({"magic": b"n+9"}, "bears no NIfTI mark"),
        ({"sizeof_hdr": 349}, "begins with its header's size"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_a_header_may_not_say(tmp_path, fields, sentence, suffix):
    path = saved(tmp_path / f"bad{suffix}", SHORTS, **fields)
    with pytest.raises(errors.RefusalError, match=sentence):
        nifti.read(str(path))


def test_more_dimensions_than_four_are_refused(tmp_path):
    assert "vectors and tensors" in refusal(saved(tmp_path / "vector.nii", np.zeros((3, 3, 3, 1, 3), np.float32)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_become_the_lowest_value(tmp_path, share, bad):
    values = RNG.normal(size=(10, 10, 10)).astype(np.float32)
    values.ravel()[: int(1000 * share)] = bad
    path = saved(tmp_path / "nan.nii.gz", values)
    expected = np.where(np.isfinite(values), values, values[np.isfinite(values)].min())
    np.testing.assert_array_equal(nifti.read(str(path))[..., 0], expected.T)
    np.testing.assert_array_equal(nifti.read(str(path), frame=9)[..., 0], expected[:, :, 9].T)
    facts = nifti.inspect(str(path), values=True)
    assert facts["bad"] == pytest.approx(share)
    assert (facts["low"], facts["high"]) == (expected.min(), expected.max())


def test_a_volume_of_mostly_nan_is_refused(tmp_path):
    values = np.full((10, 10, 10), np.nan, np.float32)
    values[:4] = 1
    path = saved(tmp_path / "nan.nii", values)
    assert "more than 50% of the volume are NaN" in refusal(path)
    assert "more than 50% of the volume are NaN" in refusal(path, frame=3)


def test_values_that_float32_cannot_hold_are_refused(tmp_path):
    assert "2**24" in refusal(saved(tmp_path / "i.nii", np.full((3, 3, 3), 2**24 + 1, np.int32)))
    assert "range of float32" in refusal(saved(tmp_path / "f.nii", np.full((3, 3, 3), 1e60)))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "i4"])
def test_labels_are_whole_numbers_of_the_narrowest_type(tmp_path, dtype):
    masks = (np.arange(60).reshape(3, 4, 5) % 3).astype(dtype)
    path = saved(tmp_path / "mask.nii.gz", masks)
    found = nifti.read(str(path), labels=True)
    assert found.dtype == "uint8"
    np.testing.assert_array_equal(found[..., 0], masks.T)
    assert nifti.inspect(str(path), values=True)["levels"] == [0, 1, 2]
    finer = nifti.read(str(path), labels=True, spacing=(1.5, 0.3, 0.4))
    assert finer.dtype == "uint8"
    assert finer.shape == (10, 12, 6, 1)
    assert set(np.unique(finer)) == {0, 1, 2}


def test_labels_keep_large_and_negative_numbers(tmp_path):
    path = saved(tmp_path / "mask.nii", np.array([-1, 5, 2**31], np.int64).reshape(1, 1, 3))
    found = nifti.read(str(path), labels=True)
    assert found.dtype == "int64"
    assert found.ravel().tolist() == [-1, 5, 2**31]
    scaled = saved(tmp_path / "scaled.nii", np.array([0, 1, 300], np.int16).reshape(1, 1, 3), scl_slope=3, scl_inter=0)
    assert nifti.read(str(scaled), labels=True).ravel().tolist() == [0, 3, 900]


def test_a_mask_of_fractions_is_refused(tmp_path):
    path = saved(tmp_path / "mask.nii", np.full((3, 3, 3), 0.5, np.float32))
    assert "labels are whole numbers" in refusal(path, labels=True)


def test_a_volume_is_resampled_to_the_spacing(tmp_path):
    path = saved(tmp_path / "one.nii.gz", SHORTS)
    found = nifti.read(str(path), spacing=(1.5, 0.9, 0.4))
    facts = nifti.inspect(str(path))
    source = volume.Volume(nifti.read(str(path)), np.array(facts["affine"]))
    np.testing.assert_array_equal(found, volume.resample(source, (1.5, 0.9, 0.4), order=1).values)
    assert "at most 134217728 voxels" in refusal(path, spacing=(0.001, 0.001, 0.001))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_truncation_is_refused(tmp_path, suffix):
    path = saved(tmp_path / f"whole{suffix}", SHORTS)
    contents = path.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in [*range(1, len(contents), max(1, len(contents) // 60)), len(contents) - 1]:
        cut.write_bytes(contents[:length])
        assert "short" in refusal(cut) or "early" in refusal(cut) or "size" in refusal(cut), length


def test_damaged_gzip_data_are_refused(tmp_path):
    path = saved(tmp_path / "one.nii.gz", SHORTS)
    contents = bytearray(path.read_bytes())
    contents[-6] ^= 1
    path.write_bytes(contents)
    assert refusal(path) == "the gzip data are damaged"


def test_members_of_a_gzip_file_follow_each_other(tmp_path):
    plain = saved(tmp_path / "one.nii", SHORTS).read_bytes()
    path = tmp_path / "two.nii.gz"
    path.write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    np.testing.assert_array_equal(nifti.read(str(path))[..., 0], SHORTS.T)


@pytest.mark.parametrize("lies", [True, False], ids=["small header", "honest header"])
def test_a_bomb_is_refused_at_once_and_in_little_memory(tmp_path, lies):
    head = nibabel.Nifti1Header()
    head.set_data_dtype(np.uint8)
    head.set_data_shape((10, 10, 10) if lies else (1024, 1024, 1024))
    head["vox_offset"], head["magic"] = 352, b"n+1"
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head.binaryblock + bytes(4))
        for _ in range(256):
            file.write(bytes(2**20))
    tracemalloc.start()
    begin = time.perf_counter()
    sentence = refusal(path)
    seconds, (_, peak) = time.perf_counter() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "inflate to more" in sentence if lies else "at most 134217728 voxels" in sentence
    assert seconds < 1
    assert peak < 30 * 2**20


def test_a_header_that_promises_more_than_follows_costs_nothing(tmp_path):
    path = saved(tmp_path / "hollow.nii.gz", SHORTS, dim=[3, 500, 500, 500, 1, 1, 1, 1])
    begin = time.perf_counter()
    assert "end early" in refusal(path)
    assert time.perf_counter() - begin < 1


def test_the_last_file_is_kept_until_it_changes(tmp_path, monkeypatch):
    path = saved(tmp_path / "one.nii.gz", SHORTS)
    loads = []
    load = nifti._load
    monkeypatch.setattr(nifti, "_load", lambda path: loads.append(path) or load(path))
    for frame in range(4):
        nifti.read(str(path), frame=frame)
    assert len(loads) == 1
    saved(path, SHORTS + np.int16(1))
    np.testing.assert_array_equal(nifti.read(str(path), frame=0)[..., 0], SHORTS[:, :, 0].T + 1)
    nifti.read(str(saved(tmp_path / "two.nii.gz", SHORTS)))
    assert len(loads) == 3
    assert len(nifti._kept) == 1


def test_files_that_are_too_large_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "_KEPT_BYTES", SHORTS.nbytes - 1)
    nifti.read(str(saved(tmp_path / "one.nii.gz", SHORTS)))
    assert not nifti._kept


def test_the_worker_reads_what_the_reader_reads(tmp_path):
    path = saved(tmp_path / "one.nii.gz", SHORTS)
    assert guard.inspect("nifti", str(path), values=True) == nifti.inspect(str(path), values=True)
    np.testing.assert_array_equal(guard.read("nifti", str(path), frame=2), nifti.read(str(path), frame=2))
    found = guard.read("nifti", str(path), spacing=(2.0, 2.0, 2.0))
    np.testing.assert_array_equal(found, nifti.read(str(path), spacing=(2.0, 2.0, 2.0)))
    with pytest.raises(errors.BadInputError, match=r"one\.nii\.gz: a frame lies within the file.* Received: 9"):
        guard.read("nifti", str(path), frame=9)


def test_every_mutant_is_read_or_refused(tmp_path):
    rng = np.random.default_rng(7)
    seeds = [
        saved(tmp_path / "a.nii", SHORTS).read_bytes(),
        saved(tmp_path / "b.nii", SHORTS.astype(np.float32), kind=nibabel.Nifti2Image).read_bytes(),
        saved(tmp_path / "c.nii.gz", SHORTS).read_bytes(),
    ]
    path = tmp_path / "mutant.nii"
    outcomes = {"read": 0, "refused": 0}
    for number in range(900):
        contents = bytearray(seeds[number % 3])
        span = len(contents) if number % 2 else min(len(contents), 360)
        for place in rng.integers(0, span, rng.integers(1, 6)):
            contents[place] = rng.integers(0, 256)
        path.write_bytes(contents)
        try:
            assert np.isfinite(nifti.read(str(path))).all()
            outcomes["read"] += 1
        except errors.RefusalError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100


def test_caps_fit_the_worker():
    assert nifti_file.MAX_VOXELS * 4 <= nifti_file.MAX_BYTES
