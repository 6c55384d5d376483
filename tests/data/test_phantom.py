"""What the phantoms promise: determinism, independence, a known truth, and no short cut to the class."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from sklearn import linear_model, pipeline, preprocessing

from medkeras import errors
from medkeras.data import phantom
from medkeras.data.phantom import anatomy, generator, patient, scanner, survival, tissues


@pytest.fixture(scope="module")
def drawn():
    return list(phantom.slices(patients=40, slices_per_patient=3, image_size=64, seed=7))


def assert_same(first, second):
    for field in dataclasses.fields(first):
        left, right = getattr(first, field.name), getattr(second, field.name)
        if isinstance(left, np.ndarray):
            assert left.tobytes() == right.tobytes(), field.name
        else:
            assert left == right, field.name


def test_same_seed_gives_the_same_bytes(drawn):
    for one, again in zip(
        drawn[:24], phantom.slices(patients=8, slices_per_patient=3, image_size=64, seed=7), strict=True
    ):
        assert_same(one, again)


def test_a_slice_does_not_depend_on_how_many_slices_are_made(drawn):
    few = phantom.slices(patients=6, slices_per_patient=1, image_size=64, seed=7)
    for one, again in zip(drawn[:18:3], few, strict=True):
        assert_same(one, again)


def test_another_seed_gives_other_patients(drawn):
    other = next(phantom.slices(patients=1, slices_per_patient=1, image_size=64, seed=8))
    assert not np.array_equal(other.image, drawn[0].image)
    assert other.patient_id != drawn[0].patient_id


def test_another_size_shows_the_same_anatomy():
    small, large = (next(phantom.slices(patients=1, image_size=size, seed=3)) for size in (64, 128))
    halved = large.image.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(small.image.ravel(), halved.ravel())[0, 1] > 0.97
    assert large.spacing_mm[0] == pytest.approx(small.spacing_mm[0] / 2)


def test_slices_of_a_patient_differ_and_share_the_patient(drawn):
    for _, group in itertools.groupby(drawn, key=lambda one: one.patient_id):
        first, second, third = group
        assert not np.array_equal(first.image, second.image)
        assert third.position_mm < first.position_mm < second.position_mm
        assert {(one.label, one.split, one.grade, one.time) for one in (first, second, third)} == {
            (first.label, first.split, first.grade, first.time)
        }


def test_slices_are_evenly_spaced_at_five_nine_and_seventeen():
    for count in (1, 2, 3, 4, 5, 9, 17):
        gaps = np.diff(sorted(generator._steps(number) for number in range(count)))
        np.testing.assert_allclose(gaps, gaps[0] if count > 1 else [])
        assert max(abs(generator._steps(number)) for number in range(count)) <= 2.0


@pytest.mark.parametrize("patients", [4, 40, 400])
def test_classes_are_balanced_by_patient(patients):
    found = collections.Counter(patient._label(0, index) for index in range(patients))
    assert found == dict.fromkeys(phantom.CLASSES, patients // 4)


def test_splits_keep_their_shares_in_every_class():
    found = collections.Counter((patient._split(5, index), patient._label(5, index)) for index in range(400))
    for label in phantom.CLASSES:
        assert [found[split, label] for split in ("train", "validation", "test")] == [64, 16, 20]


def test_twelve_patients_fill_every_split_with_every_class():
    few = phantom.load(patients=12, slices_per_patient=1, image_size=16)
    assert {(case.split, case.label) for case in few.cases} == set(
        itertools.product(("train", "validation", "test"), phantom.CLASSES)
    )


def test_images_lie_in_range_and_masks_in_the_head(drawn):
    for one in drawn:
        assert one.image.dtype == np.float32
        assert one.image.shape == one.mask.shape == (64, 64)
        assert one.image.min() >= 0.0
        assert one.image.max() <= 255.0
        who = patient.draw(7, int(one.patient_id.rpartition("-")[2]))
        here = anatomy.frame(who, one.position_mm / patient.HEIGHT_MM, 64)
        assert (here.depth[one.mask > 0] > who.anatomy.scalp).all()


def test_masks_and_boxes_agree_with_the_class(drawn):
    for one in drawn:
        assert one.mask.dtype == np.uint8
        if one.label == "none":
            assert not one.mask.any()
            assert one.boxes.shape == (0, 4)
            continue
        ((x_min, y_min, x_max, y_max),) = one.boxes.astype(int)
        core = one.mask == 1
        assert core[y_min:y_max, x_min:x_max].sum() == core.sum() > 0
        assert core[y_min].any()
        assert core[y_max - 1].any()
        assert core[:, x_min].any()
        assert core[:, x_max - 1].any()


def test_every_slice_of_a_tumour_patient_meets_the_tumour():
    for one in phantom.slices(patients=24, slices_per_patient=9, image_size=48, seed=11):
        assert (one.mask == 1).any() == (one.label != "none")


def test_tumours_sit_where_their_names_say(drawn):
    where = collections.defaultdict(list)
    for one in drawn:
        if one.label != "none":
            who = patient.draw(7, int(one.patient_id.rpartition("-")[2]))
            here = anatomy.frame(who, one.position_mm / patient.HEIGHT_MM, 64)
            core = one.mask == 1
            where[one.label].append((np.abs(here.x[core]).mean(), anatomy.brain_depth(who, here)[core].min()))
    off_midline, under_skull = ({label: np.mean(values, axis=0)[i] for label, values in where.items()} for i in (0, 1))
    assert off_midline["sellar"] < 10.0 < off_midline["infiltrating"]
    assert under_skull["extra_axial"] < 6.0 < under_skull["infiltrating"]


def test_oedema_belongs_to_infiltrating_tumours_and_never_to_sellar_ones(drawn):
    share = {
        label: np.mean([(one.mask == 2).any() for one in drawn if one.label == label]) for label in phantom.CLASSES
    }
    assert share["sellar"] == share["none"] == 0.0
    assert share["infiltrating"] > 0.8


def test_tissue_shares_sum_to_one():
    who = patient.draw(0, 3)
    head = anatomy.draw(who, anatomy.frame(who, 0.3, 48))
    np.testing.assert_allclose(head.shares.sum(axis=0), 1.0, atol=1e-5)
    assert head.shares.shape[0] == len(tissues.TISSUES)
    assert head.shares.min() >= 0.0


def test_air_shows_the_rician_floor():
    rng = np.random.default_rng(0)
    floor = scanner.rician(np.zeros((200, 200), np.float32), 4.0, rng)
    assert floor.mean() == pytest.approx(4.0 * np.sqrt(np.pi / 2), rel=0.01)
    assert scanner.rician(np.full((200, 200), 100.0, np.float32), 4.0, rng).std() == pytest.approx(4.0, rel=0.02)


def test_no_background_is_black(drawn):
    for one in drawn:
        corner = one.image[:8, :8]
        assert 1.5 < corner.mean() < 20.0
        assert corner.std() > 0.5


def test_grade_is_zero_exactly_without_a_tumour(drawn):
    for one in drawn:
        assert (one.grade == 0) == (one.label == "none")
        assert one.treatment in (0, 1)
        assert one.treatment == 0 or one.grade > 0
        assert 18.0 <= one.age <= 90.0


def simulated(count, **fixed):
    rng = np.random.default_rng(1)
    drawn = [survival.draw(rng, **{"grade": 2, "age": 55.0, "treatment": 0, **fixed}) for _ in range(count)]
    return np.array(drawn).T


def test_higher_grade_means_shorter_time_and_treatment_helps():
    medians = [np.median(simulated(2000, grade=grade)[0]) for grade in range(4)]
    assert medians == sorted(medians, reverse=True)
    assert np.median(simulated(2000, treatment=1)[0]) > medians[2] * 1.2
    assert np.median(simulated(2000, age=75.0)[0]) < medians[2]


def test_times_follow_the_stated_weibull_model():
    time, event = simulated(20000, grade=3)
    hazard = np.exp(survival.log_hazard(3, 55.0, 0))
    integral = ((time / survival.WEIBULL_SCALE_MONTHS) ** survival.WEIBULL_SHAPE * hazard).sum()
    assert event.sum() / integral == pytest.approx(1.0, abs=0.03)
    assert 0.5 < event.mean() < 1.0
    assert time.max() <= survival.FOLLOW_UP_MONTHS[1]


def test_simple_statistics_do_not_give_the_class_away():
    cases = list(phantom.slices(patients=160, slices_per_patient=2, image_size=48))
    table = np.array([_statistics(one.image) for one in cases])
    label, train = np.array([one.label for one in cases]), np.array([one.split == "train" for one in cases])
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=2000))
    assert model.fit(table[train], label[train]).score(table[~train], label[~train]) < 0.45


def _statistics(image):
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return image.mean(), image.std(), image.min(), image.max(), border.mean()


def test_load_keeps_patients_whole_and_pixels_as_drawn():
    few = phantom.load(patients=20, slices_per_patient=2, image_size=32, seed=4)
    splits = collections.defaultdict(set)
    for case in few.cases:
        splits[case.patient_id].add(case.split)
    assert len(splits) == 20
    assert all(len(names) == 1 for names in splits.values())
    assert few.patients_known
    assert few.classes == phantom.CLASSES
    for case, one in zip(
        few.cases, phantom.slices(patients=20, slices_per_patient=2, image_size=32, seed=4), strict=True
    ):
        header, read = few.images.header(case), few.images.read(case, 3)
        assert (header.height, header.width, header.channels, header.dtype) == (32, 32, 1, "uint8")
        assert read.shape == (32, 32, 3)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read[..., 2], one.stored())


@pytest.mark.parametrize("name", ["patients", "slices_per_patient", "image_size", "seed"])
def test_a_number_below_its_least_is_refused(name):
    with pytest.raises(errors.ConfigError, match=f"{name} .* Received: -1"):
        phantom.slices(**{name: -1})
