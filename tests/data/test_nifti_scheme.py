"""`nifti:`: layouts, labels, patients and masks; slices and volumes as far as a batch."""

import dataclasses
import gzip
import pathlib
import shutil

import nibabel
import numpy as np
import pytest
import tensorflow as tf

from medkeras import config, errors
from medkeras.data import cases, guard, masks, nifti, nnunet, phantom, pipeline, prepare, store
from medkeras.preprocessing import canvas

RNG = np.random.default_rng(0)
SLICES, VOLUMES = config.DataConfig(), config.DataConfig(view="volumes")


def put(path, shape=(4, 5, 3), *, values=None, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RNG.integers(0, 255, shape).astype(np.uint8) if values is None else values
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)
    return values


def mask(shape=(4, 5, 3), levels=(0, 1, 2), dtype=np.uint8):
    return np.resize(np.array(levels, dtype), shape)


def problems(case_set):
    return {(pathlib.Path(one.path).name, one.kind, one.reason) for one in case_set.problems}


def table(folder, text):
    (folder / "labels.csv").write_text(text)


@pytest.fixture(scope="module")
def drawn():
    return list(phantom.slices(patients=8, slices_per_patient=3, image_size=24, seed=1))


@pytest.fixture(scope="module")
def scans(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    phantom.write(drawn, folder, layout="nifti")
    return folder


def test_the_phantoms_slices_are_its_pngs_unrounded(drawn, scans):
    case_set = nifti.load(str(scans), SLICES)
    assert set(case_set.classes) == {one.label for one in drawn}
    assert len(case_set.cases) == len(drawn)
    assert case_set.problems == ()
    stacks = {}
    for one in sorted(drawn, key=lambda one: (one.patient_id, one.position_mm)):
        stacks.setdefault(one.patient_id, []).append(one)
    for case in case_set.cases:
        one = stacks[case.patient_id][case.frame]
        assert (case.label, case.split) == (one.label, one.split)
        assert case.case_id == f"{one.patient_id}.nii.gz#{case.frame}"
        assert case_set.images.header(case) == cases.ImageHeader(24, 24, 1, "float32")
        np.testing.assert_array_equal(case_set.images.read(case, 1)[..., 0], one.image)
        assert case_set.images.read(case, 3).shape == (24, 24, 3)


def test_the_phantoms_volumes_are_one_case_each(drawn, scans):
    case_set = nifti.load(str(scans), VOLUMES)
    assert len(case_set.cases) == 8
    case = case_set.cases[0]
    assert (case.case_id, case.frame) == (f"{case.patient_id}.nii.gz", None)
    assert case_set.images.header(case).depth == 3
    stack = sorted((one for one in drawn if one.patient_id == case.patient_id), key=lambda one: one.position_mm)
    np.testing.assert_array_equal(case_set.images.read(case, 1)[..., 0], np.stack([one.image for one in stack]))


def test_spacing_changes_the_header_and_the_volume_alike(scans):
    case_set = nifti.load(str(scans), config.DataConfig(view="volumes", spacing="2,8,12"))
    for case in case_set.cases:
        header, values = case_set.images.header(case), case_set.images.read(case, 1)
        assert values.shape == (header.depth, header.height, header.width, 1)
        assert header.depth > 3
        assert header.height > header.width


def test_spacing_needs_volumes(scans):
    with pytest.raises(errors.ConfigError, match="goes with data.view=volumes. Received: data.view=slices"):
        nifti.load(str(scans), config.DataConfig(spacing="1"))


def test_a_table_finds_a_volume_or_a_slice_by_path(tmp_path):
    put(tmp_path / "a.nii.gz")
    put(tmp_path / "sub" / "b.nii")
    table(tmp_path, "path,label\na.nii.gz#0,low\na.nii.gz#1,mid\na.nii.gz#2,high\nsub,other\n")
    case_set = nifti.load(str(tmp_path), SLICES)
    assert [case.label for case in case_set.cases] == ["low", "mid", "high", "other", "other", "other"]
    assert {case.patient_id for case in case_set.cases} == {"a", "sub/b"}


def test_a_table_finds_images_below_their_folder_too(tmp_path):
    for name in "ab":
        put(tmp_path / "images" / f"{name}.nii.gz")
        put(tmp_path / "labels" / f"{name}.nii.gz", values=mask())
    table(tmp_path, "path,label,patient_id\nimages/a.nii.gz,one,p\nb.nii.gz,two,p\n")
    case_set = nifti.load(str(tmp_path), SLICES)
    assert {(case.case_id, case.label) for case in case_set.cases if case.frame == 0} == {
        ("a.nii.gz#0", "one"),
        ("b.nii.gz#0", "two"),
    }
    assert {case.patient_id for case in case_set.cases} == {"p"}


def test_a_table_elsewhere_finds_patients(tmp_path):
    put(tmp_path / "scans" / "a.nii.gz")
    put(tmp_path / "scans" / "b.nii.gz")
    (tmp_path / "truth.csv").write_text("patient_id,label,split\na,yes,train\nb,no,test\n")
    settings = config.DataConfig(labels=str(tmp_path / "truth.csv"))
    assert {
        (case.patient_id, case.label, case.split) for case in nifti.load(str(tmp_path / "scans"), settings).cases
    } == {
        ("a", "yes", "train"),
        ("b", "no", "test"),
    }


def test_class_folders_are_classes(tmp_path):
    for split in ("train", "test"):
        for label in ("ill", "well"):
            for number in range(2):
                put(tmp_path / split / label / f"{number}.nii.gz")
    case_set = nifti.load(str(tmp_path), VOLUMES)
    assert case_set.classes == ("ill", "well")
    assert {(case.case_id, case.split, case.label) for case in case_set.cases if case.label == "ill"} == {
        (f"{split}/ill/{number}.nii.gz", split, "ill") for split in ("train", "test") for number in range(2)
    }
    assert len({case.patient_id for case in case_set.cases}) == 8


def test_volumes_of_a_bids_subject_are_one_patients(tmp_path):
    for subject in ("sub-01", "sub-02"):
        for kind in ("T1w", "T2w"):
            put(tmp_path / subject / "anat" / f"{subject}_{kind}.nii.gz")
    case_set = nifti.load(str(tmp_path), VOLUMES)
    assert [case.patient_id for case in case_set.cases] == ["sub-01", "sub-01", "sub-02", "sub-02"]
    assert case_set.classes == ()


def test_channels_of_one_nnunet_case_are_one_patients(tmp_path):
    for name in ("x_0000", "x_0001", "y_0000"):
        put(tmp_path / "imagesTr" / f"{name}.nii.gz")
    for name in ("x", "z"):
        put(tmp_path / "labelsTr" / f"{name}.nii.gz", values=mask())
    case_set = nifti.load(str(tmp_path), VOLUMES)
    assert [case.patient_id for case in case_set.cases] == ["x", "x", "y"]
    assert problems(case_set) == {
        ("y_0000.nii.gz", "unpaired", "an image without a mask"),
        ("y_0000.nii.gz", "unpaired", "a case has the channels that others have, 0000, 0001. Received: 0000"),
        ("z.nii.gz", "unpaired", "a mask without an image"),
    }


@pytest.mark.parametrize("layout", ["imagesTr", "named itself", "dataset.json", "names alone"])
def test_channels_are_one_patients_without_masks_too(tmp_path, layout):
    folder = {"imagesTr": tmp_path / "imagesTr", "named itself": tmp_path / "imagesTs"}.get(layout, tmp_path)
    for name in ("x_0000", "x_0001", "y_0000", "y_0001"):
        put(folder / f"{name}.nii.gz")
    if layout == "dataset.json":
        (tmp_path / "dataset.json").write_text("{}")
    case_set = nifti.load(str(folder if layout == "named itself" else tmp_path), VOLUMES)
    assert [case.patient_id for case in case_set.cases] == ["x", "x", "y", "y"]
    assert [case.case_id for case in case_set.cases][:2] == ["x_0000.nii.gz", "x_0001.nii.gz"]
    assert case_set.classes == ()
    assert any(note.startswith("2 nnU-Net cases hold several channels: each channel is") for note in case_set.notes)
    assert case_set.problems == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["case_0000", "case_0001"], {"case": (0, 1)}),
        (["a/x_0000", "a/y_0000"], {"a/x": (0,), "a/y": (0,)}),
        ([f"scan_{number:04d}" for number in range(5)], {}),
        (["amos_0001", "amos_0004"], {}),
        (["x_0000", "x_0001", "y_0000"], {}),
        (["x_0000", "y_000"], {}),
        ([f"x_{number:04d}" for number in (0, 16)], {}),
        ([], {}),
    ],
)
def test_channels_are_told_from_numbered_patients(tmp_path, names, told):
    assert nnunet.channels(names, tmp_path) == told


def test_numbered_patients_of_a_folder_of_nnunet_stay_apart(tmp_path):
    for number in (1, 4, 47):
        put(tmp_path / "imagesTr" / f"amos_{number:04d}.nii.gz")
    put(tmp_path / "labelsTr" / "amos_0001.nii.gz", values=mask())
    put(tmp_path / "imagesTs" / "amos_0008.nii.gz")
    case_set = nifti.load(str(tmp_path), VOLUMES)
    assert [case.patient_id for case in case_set.cases] == ["amos_0001", "amos_0004", "amos_0047"]
    assert "The folder imagesTs is left aside: nifti: reads it where it is named itself." in case_set.notes


def test_a_table_labels_all_channels_of_a_case(tmp_path):
    for name in ("x_0000", "x_0001", "y_0000", "y_0001"):
        put(tmp_path / "imagesTr" / f"{name}.nii.gz")
    table(tmp_path, "patient_id,label\nx,ill\ny,well\n")
    found = nifti.load(str(tmp_path), VOLUMES).cases
    assert [(case.patient_id, case.label) for case in found] == [("x", "ill")] * 2 + [("y", "well")] * 2


@pytest.mark.parametrize("settings", [SLICES, VOLUMES], ids=["slices", "volumes"])
def test_the_user_says_what_the_values_mean(tmp_path, settings):
    put(tmp_path / "a.nii.gz", values=RNG.integers(-1000, 1000, (4, 5, 3)).astype(np.int16))
    for units in ("", "HU"):
        case_set = nifti.load(str(tmp_path), dataclasses.replace(settings, units=units))
        assert {case_set.images.header(case).units for case in case_set.cases} == {units}


def test_a_series_is_a_case_a_volume(tmp_path):
    values = put(tmp_path / "bold.nii.gz", (4, 5, 3, 2))
    case_set = nifti.load(str(tmp_path), VOLUMES)
    assert [case.case_id for case in case_set.cases] == ["bold.nii.gz#0", "bold.nii.gz#1"]
    np.testing.assert_array_equal(case_set.images.read(case_set.cases[1], 1)[..., 0], values[..., 1].transpose(2, 1, 0))
    assert len(nifti.load(str(tmp_path), SLICES).cases) == 6
    assert "1 of 1 files: The file holds 2 volumes." in case_set.notes


def test_one_file_is_a_data_set(tmp_path):
    put(tmp_path / "one.nii.gz")
    case_set = nifti.load(str(tmp_path / "one.nii.gz"), SLICES)
    assert [case.case_id for case in case_set.cases] == ["one.nii.gz#0", "one.nii.gz#1", "one.nii.gz#2"]
    assert (case_set.name, case_set.classes) == ("one", ())


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_no_nifti_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DataError, match="nifti: needs"):
        nifti.load(str(tmp_path / name), SLICES)


def test_what_cannot_be_read_is_a_problem(tmp_path):
    put(tmp_path / "good.nii.gz")
    (tmp_path / "cut.nii").write_bytes(b"\x5c\x01\x00\x00")
    (tmp_path / "pair.hdr").write_bytes((pathlib.Path(nibabel.__file__).parent / "tests/data/nifti1.hdr").read_bytes())
    (tmp_path / ".hidden.nii").write_bytes(b"x")
    case_set = nifti.load(str(tmp_path), SLICES)
    assert {case.path for case in case_set.cases} == {str(tmp_path / "good.nii.gz")}
    assert problems(case_set) == {
        ("cut.nii", "unreadable", "the NIfTI header is cut short"),
        ("pair.hdr", "unreadable", "pairs of a .hdr and an .img file are not read: convert them to .nii"),
    }


def test_voxels_that_are_no_numbers_are_noted(tmp_path):
    values = RNG.normal(size=(4, 5, 3)).astype(np.float32)
    put(tmp_path / "good.nii.gz", values=values)
    values[0] = np.nan
    put(tmp_path / "holes.nii.gz", values=values)
    case_set = nifti.load(str(tmp_path), SLICES)
    assert "1 files hold NaN or infinite voxels, which take their volume's lowest value: holes." in case_set.notes
    for case in case_set.cases:
        assert case_set.images.read(case, 1).min() >= np.nanmin(values)


def faulty_masks(folder):
    for number in range(30):
        put(folder / f"{number:02d}.nii.gz")
        put(folder / f"{number:02d}_seg.nii.gz", values=mask())
    put(folder / "00_seg.nii.gz", values=mask(levels=(0, 0.5), dtype=np.float32))
    put(folder / "01_seg.nii.gz", values=mask(levels=(0,)))
    put(folder / "02_seg.nii.gz", values=mask(dtype=np.float32))
    put(folder / "03_seg.nii.gz", values=mask((4, 5, 2)))
    put(folder / "04_seg.nii.gz", values=mask(), affine=np.diag([-1.0, -1.0, 2.5, 1.0]))
    put(folder / "05_seg.nii.gz", values=mask((4, 5, 3, 2)))
    (folder / "06_seg.nii.gz").write_bytes(gzip.compress(b"no"))


MASK_FAULTS = {
    ("00_seg.nii.gz", "mask", "a mask holds whole numbers, at most 256 different ones; this one holds others"),
    ("01_seg.nii.gz", "mask", "a mask marks something. Received: 0 everywhere"),
    ("01_seg.nii.gz", "mask", "holds the labels 0 where most masks hold 0, 1, 2"),
    ("02_seg.nii.gz", "mask", "whole numbers are stored as floating-point ones; they are read as whole numbers"),
    ("03_seg.nii.gz", "mask", "a mask has its image's size. Received: 2 x 5 x 4 for 3 x 5 x 4"),
    ("04_seg.nii.gz", "mask", "a mask lies where its image lies. Received: 1.00 mm apart"),
    ("04_seg.nii.gz", "mask", "has voxels of 2.5 x 1 x 1 mm where most masks have 2 x 1 x 1 mm"),
    ("05_seg.nii.gz", "mask", "a mask is one volume of labels. Received: 2 volumes, 1 channels"),
    ("06_seg.nii.gz", "mask", "the NIfTI header is cut short"),
}


def test_every_fault_of_a_mask_is_told(tmp_path):
    faulty_masks(tmp_path)
    case_set = nifti.load(str(tmp_path), VOLUMES)
    assert len(case_set.cases) == 30
    assert problems(case_set) == MASK_FAULTS


def test_masks_are_not_read_where_a_table_has_the_labels(tmp_path):
    faulty_masks(tmp_path)
    table(tmp_path, "patient_id,label\n" + "".join(f"{number:02d},{number % 2}\n" for number in range(30)))
    found = {name for name, kind, _ in problems(nifti.load(str(tmp_path), VOLUMES)) if kind == "mask"}
    assert found == {f"0{number}_seg.nii.gz" for number in (3, 4, 5, 6)}


def test_few_odd_ones_are_told_and_many_are_not():
    assert list(masks.odd_ones({"a": "1"} | {str(n): "2" for n in range(19)})) == [("a", "1", "2")]
    assert list(masks.odd_ones({"a": "1"} | {str(n): "2" for n in range(18)})) == []
    assert list(masks.odd_ones({})) == []


def test_every_fault_of_hippocampus_is_found(real_data):
    place = real_data / "hippocampus"
    images, drawn = ({path.name: path for path in (place / part).glob("*.nii.gz")} for part in ("images", "labels"))
    found = {(name, "unpaired", "an image without a mask") for name in images.keys() - drawn.keys()}
    found |= {(name, "unpaired", "a mask without an image") for name in drawn.keys() - images.keys()}
    for name, path in drawn.items():
        one = nibabel.load(path)
        if one.get_data_dtype().kind == "f":
            found.add((name, "mask", "whole numbers are stored as floating-point ones; they are read as whole numbers"))
        levels = np.unique(np.asarray(one.dataobj)).tolist()
        if levels != [0, 1, 2]:
            found.add((name, "mask", f"holds the labels {', '.join(map(str, levels))} where most masks hold 0, 1, 2"))
        zooms = one.header.get_zooms()
        if zooms != (1, 1, 1):
            size = " x ".join(f"{zoom:.3g}" for zoom in zooms[::-1])
            found.add((name, "mask", f"has voxels of {size} mm where most masks have 1 x 1 x 1 mm"))
        if name in images:
            image = nibabel.load(images[name])
            assert image.shape == one.shape
            np.testing.assert_allclose(image.affine, one.affine)
    assert len(found) == 7
    case_set = nifti.load(str(place), VOLUMES)
    assert len(case_set.cases) == 261
    assert problems(case_set) == found


def test_volumes_are_right_side_up_as_nibabel_says(real_data):
    case_set = nifti.load(str(real_data / "hippocampus" / "images"), VOLUMES)
    for case in case_set.cases[::20]:
        expected = nibabel.as_closest_canonical(nibabel.load(case.path)).get_fdata()
        np.testing.assert_array_equal(
            case_set.images.read(case, 1)[..., 0], expected.transpose(2, 1, 0)[:, ::-1, ::-1].astype(np.float32)
        )


def filled(case_set, settings, tmp_path, policy):
    spread = [cases.dataclasses.replace(one, split="train") for one in case_set.cases]
    settings = cases.dataclasses.replace(settings, cache=policy)
    return prepare.prepare(case_set.replace_cases(spread), settings, folder=tmp_path)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stacks")
    for number, shape in enumerate([(10, 8, 4), (10, 10, 6), (6, 10, 9), (20, 20, 6), (10, 10, 1)]):
        put(folder / f"{number}.nii.gz", shape)
    return folder


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("policy", ["memory", "disk", "none"])
def test_volumes_reach_the_batch_by_every_store(stacks, tmp_path, policy, resize):
    settings = config.DataConfig(view="volumes", resize=resize)
    case_set = nifti.load(str(stacks), settings)
    data = filled(case_set, settings, tmp_path, policy)
    assert data.canvas == store.Canvas((10, 10), 1, "uint8", resize, depth=6)
    assert data.canvas.shape == (6, 10, 10, 1)
    batches = list(pipeline.evaluation_dataset(data.stores["train"], np.eye(5, dtype=np.float32), batch_size=2))
    assert batches[0]["image"].shape == (2, 6, 10, 10, 1)
    assert [batch["weight"].numpy().tolist() for batch in batches] == [[1, 1], [1, 1], [1, 0]]
    images = np.concatenate([batch["image"] for batch in batches])[:5]
    layer = canvas.Canvas((6, 10, 10), mode=resize, round_values=True)
    for case, image in zip(data.stores["train"].cases, images, strict=True):
        stored = case_set.images.read(case, 1)
        np.testing.assert_array_equal(image, layer(stored[np.newaxis])[0])
        spec = tf.TensorSpec((None, None, None, None, 1), tf.float32)
        traced = tf.function(layer.call, input_signature=[spec])
        np.testing.assert_array_equal(image, traced(stored[np.newaxis].astype(np.float32))[0])
    np.testing.assert_array_equal(images[1], case_set.images.read(case_set.cases[1], 1))


def test_pad_keeps_planes_and_centres_them(stacks):
    flat = np.arange(2 * 3 * 3, dtype=np.float32).reshape(1, 2, 3, 3, 1)
    found = canvas.Canvas((5, 3, 3))(flat).numpy()[0, ..., 0]
    np.testing.assert_array_equal(found[1:3], flat[0, ..., 0])
    assert not found[[0, 3, 4]].any()
    deep = np.broadcast_to(np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1, 1), (1, 8, 2, 2, 1))
    squeezed = canvas.Canvas((4, 2, 2))(deep).numpy()[0, :, 0, 0, 0]
    np.testing.assert_allclose(squeezed, canvas.resize_matrix(8, 4).numpy() @ np.arange(8), rtol=1e-6)


def test_a_volume_canvas_is_its_settings():
    layer = canvas.Canvas((4, 8, 6), mode="stretch", round_values=True)
    again = canvas.Canvas.from_config(layer.get_config())
    assert (again.size, again.mode, again.round_values) == ((4, 8, 6), "stretch", True)
    with pytest.raises(errors.ConfigError, match="at least one row and one column"):
        canvas.Canvas((0, 8, 6))


def test_planes_of_a_volume_are_resized_as_images_are():
    volume = np.abs(RNG.normal(size=(2, 3, 7, 9, 1))).astype(np.float32)
    for mode in canvas.MODES:
        planes = canvas.Canvas((5, 5), mode=mode)(volume.reshape(6, 7, 9, 1)).numpy()
        np.testing.assert_array_equal(canvas.Canvas((3, 5, 5), mode=mode)(volume), planes.reshape(2, 3, 5, 5, 1))


def test_images_and_volumes_do_not_mix(stacks, tmp_path):
    case_set = nifti.load(str(stacks), VOLUMES)
    with pytest.raises(errors.DataError, match="The model takes images.* Received: volumes"):
        prepare.prepare(case_set, VOLUMES, canvas=store.Canvas((10, 10), 1, "uint8", "pad"), folder=tmp_path)
    with pytest.raises(errors.DataError, match="The model takes volumes.* Received: images"):
        prepare.prepare(
            nifti.load(str(stacks), SLICES),
            SLICES,
            canvas=store.Canvas((10, 10), 1, "uint8", "pad", depth=6),
            folder=tmp_path,
        )


def test_a_file_that_breaks_after_it_was_found_is_named(stacks, tmp_path):
    shutil.copytree(stacks, tmp_path / "copy")
    case_set = nifti.load(str(tmp_path / "copy"), VOLUMES)
    broken = tmp_path / "copy" / "2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(errors.BadInputError, match=r"2\.nii\.gz: the gzip data end early: the file is truncated"):
        filled(case_set, VOLUMES, tmp_path, "memory")


def test_hippocampi_lie_as_hippocampi_do(real_data):
    """Label 1 is the anterior part, which lies lower and further in front than label 2, the posterior part."""
    place = real_data / "hippocampus" / "labels"
    for path in sorted(place.glob("*.nii.gz"))[::4]:
        drawn = guard.read("nifti", str(path), labels=True)[..., 0]
        front, back = (np.argwhere(drawn == level).mean(axis=0) for level in (1, 2))
        assert front[0] < back[0], "D runs from inferior to superior"
        assert front[1] < back[1], "H runs from anterior to posterior"


def test_a_volume_that_is_there_twice_is_told_and_not_lost(tmp_path) -> None:
    for ending in (".nii", ".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4)), tmp_path / f"3{ending}")
    found = nifti.find(str(tmp_path))
    (problem,) = found.problems
    assert [path.name for path in found.images.values()] == ["3.nii"]
    assert (pathlib.Path(problem.path).name, problem.kind) == ("3.nii.gz", "unreadable")
    assert problem.reason == "a volume stands once, compressed or not. Received: '3.nii' beside it"
