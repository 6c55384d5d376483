"""What stands behind the logits: each layer equals its formula in NumPy, after saving and loading too."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.spatial import distance

from medkeras import models
from medkeras.confidence import appearance, assurance, familiarity, gaussian, honest, orientation
from medkeras.evaluation import conformal, predictions, scaling, selective
from medkeras.tasks import classification
from tests.confidence import made

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
RANDOM = np.random.default_rng(0)
RANGE = (0.0, 255.0)


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (13, 29), (3, 5)])
def test_a_thumbnail_is_the_mean_of_the_pixels_under_each_cell(size) -> None:
    pixels = RANDOM.uniform(-50, 300, (2, *size, 3)).astype(np.float32)
    # A cell of a picture that is eight times as large in both directions is a block of whole pixels.
    large = np.repeat(np.repeat(pixels.mean(-1), 8, axis=1), 8, axis=2)
    blocks = large.reshape(2, 8, size[0], 8, size[1]).mean((2, 4))
    found = appearance.Thumbnail((-50.0, 300.0))(pixels).numpy()
    np.testing.assert_allclose(found, ((blocks + 50) / 350).reshape(2, 64), atol=1e-5)


def test_statistics_are_those_of_numpy() -> None:
    pixels = RANDOM.uniform(0, 255, (3, 9, 11, 3)).astype(np.float32)
    scaled = pixels / 255
    bright = scaled.mean(-1)
    middle = bright[:, 1:-1, 1:-1]
    around = bright[:, 2:, 1:-1] + bright[:, :-2, 1:-1] + bright[:, 1:-1, 2:] + bright[:, 1:-1, :-2]
    expected = {
        "mean": bright.mean((1, 2)),
        "spread": bright.std((1, 2)),
        "across": np.abs(np.diff(bright, axis=2)).mean((1, 2)),
        "down": np.abs(np.diff(bright, axis=1)).mean((1, 2)),
        "fine": np.abs(4 * middle - around).mean((1, 2)),
        "colour": np.ptp(scaled, axis=-1).mean((1, 2)),
        "highest": bright.max((1, 2)),
        "lowest": bright.min((1, 2)),
    }
    found = appearance.Statistics(RANGE)(pixels).numpy()
    assert tuple(expected) == appearance.STATISTICS
    plain = np.stack(list(expected.values()), axis=1)
    np.testing.assert_allclose(found, np.concatenate([plain, np.log(plain + 1e-3)], axis=1), rtol=1e-4, atol=1e-5)


def test_a_distance_is_mahalanobis_where_every_direction_is_kept() -> None:
    training = RANDOM.normal(size=(500, 5)) @ RANDOM.normal(size=(5, 5)) + 3
    found = gaussian.fit(training, training)
    covariance = np.linalg.inv(np.cov(training.T, bias=True))
    others = RANDOM.normal(size=(7, 5)) * 4
    expected = [distance.mahalanobis(one, training.mean(0), covariance) for one in others]
    np.testing.assert_allclose(found.distance(others), expected, rtol=1e-2)


def test_a_direction_that_training_never_moved_in_is_strange() -> None:
    training = np.concatenate([RANDOM.normal(size=(200, 3)), np.zeros((200, 2))], axis=1)
    found = gaussian.fit(training[:100], training[100:])
    off = np.zeros((1, 5))
    off[0, 4] = 1.0
    assert found.score(off)[0] > 10
    assert abs(found.score(training[100:]).mean()) < 1e-9


def known(upright: bool) -> tuple[familiarity.Known, list[np.ndarray]]:
    training, held_out, others = ([RANDOM.normal(size=(count, size)) for size in (6, 4)] for count in (300, 200, 50))
    turned = [part + 1.0 for part in training] if upright else None
    return familiarity.fit(training, held_out, turned), others


@pytest.mark.parametrize("upright", [False, True])
def test_familiarity_is_the_share_of_held_out_cases_that_are_as_strange(upright, tmp_path) -> None:
    found, others = known(upright)
    layer = familiarity.Familiarity([each.basis.shape for each in found.gaussians], len(found.scores), upright)
    inputs = [keras.Input((6,)), keras.Input((4,))]
    model = keras.Model(inputs, layer(inputs))
    layer.remember(found)
    scores = [each.score(part) for each, part in zip(found.gaussians, others, strict=True)]
    if upright:
        scores.append(found.upright.score(np.concatenate(others, axis=1)))
    strangest = np.max(scores, axis=0)
    expected = (1 + (found.scores[None] >= strangest[:, None]).sum(1)) / 201
    given = [part.astype(np.float32) for part in others]
    # A score that equals a held-out one to the last digits may fall on either side of it.
    np.testing.assert_allclose(model(given), expected, atol=1.5 / 201)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "m.keras")(given), model(given))
    assert not model.trainable_weights


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_is_not_familiar(value) -> None:
    found, _ = known(upright=True)
    layer = familiarity.Familiarity([each.basis.shape for each in found.gaussians], len(found.scores), True)
    features = [np.full((1, 6), value, np.float32), np.zeros((1, 4), np.float32)]
    layer(features)
    layer.remember(found)
    assert layer(features).numpy() == pytest.approx(1 / 201)


def test_of_familiar_cases_a_share_of_x_has_a_familiarity_below_x() -> None:
    shares = []
    for _ in range(40):
        training, held_out, others = ([RANDOM.normal(size=(count, 5))] for count in (200, 99, 200))
        found = familiarity.fit(training, held_out, None)
        strangest = found.gaussians[0].score(others[0])
        shares.append(np.mean((1 + (found.scores[None] >= strangest[:, None]).sum(1)) / 100 <= 0.1))
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


def test_how_a_picture_lies_is_learnt() -> None:
    upright = RANDOM.normal(size=(300, 8)) + np.linspace(-1, 1, 8)
    found = orientation.fit(upright[:200], upright[:200, ::-1], upright[200:])
    assert found.score(upright[200:]).mean() == pytest.approx(0, abs=1e-4)
    assert (found.score(upright[200:, ::-1]) > 2).mean() > 0.95


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("method", scaling.METHODS)
@pytest.mark.parametrize("classes", [2, 4])
def test_calibrated_probabilities_are_those_of_the_fit(method, multilabel, classes) -> None:
    logits = RANDOM.normal(size=(300, classes)) * 5
    labels = RANDOM.integers(classes, size=300)
    logits[np.arange(300), labels] += 2
    fitted = scaling.fit(logits, np.eye(classes)[labels], method=method, multilabel=multilabel, patients=np.arange(300))
    assert fitted.method == method
    found = honest.Calibrated(fitted.to_json())(logits.astype(np.float32)).numpy()
    np.testing.assert_allclose(found, fitted.apply(logits.astype(np.float32)), atol=2e-5)


@pytest.mark.parametrize("labels", ["halves", "in turn", "drawn"])
@pytest.mark.parametrize("centre", [2e-4, 0.05, 0.5, 0.95, 1 - 2e-4])
def test_isotonic_tables_of_scores_a_millionth_apart_survive_float32(centre, labels) -> None:
    n = 300
    stated = centre + 1e-6 * np.arange(-n // 2, n // 2)
    logit = np.log(stated / (1 - stated))
    present = {"halves": np.arange(n) >= n // 2, "in turn": np.arange(n) % 2, "drawn": RANDOM.random(n) < 0.4}[labels]
    logits, target = np.stack([0 * logit, logit], axis=1).astype(np.float32), np.eye(2)[np.asarray(present, int)]
    for multilabel in (False, True):
        fitted = scaling.fit(logits, target, method="isotonic", multilabel=multilabel, patients=np.arange(n))
        assert fitted.method == "isotonic"
        found = honest.Calibrated(fitted.to_json())(logits).numpy()
        np.testing.assert_allclose(found, fitted.apply(logits), atol=1e-5)


@pytest.mark.parametrize("kind", conformal.KINDS)
def test_sets_are_those_of_the_fit(kind) -> None:
    probabilities = RANDOM.dirichlet(np.ones(3), 400).astype(np.float32)
    labels = np.array([RANDOM.choice(3, p=p / p.sum()) for p in probabilities.astype(np.float64)])
    labels[labels == 2] = 1
    labels[0] = 2
    fitted = conformal.fit(
        probabilities, np.eye(3)[labels], alpha=0.1, kind=kind, patients=np.arange(400), multilabel=False
    )
    assert np.isinf(fitted.thresholds).any() == (kind == "class")
    found = honest.PredictionSet(fitted.thresholds)(probabilities).numpy()
    np.testing.assert_array_equal(found, fitted.sets(probabilities))


@pytest.mark.parametrize(
    ("familiar", "sure", "expected"),
    [
        (0.5, 0.9, False),
        (0.05, 0.6, False),
        (0.01, 0.9, True),
        (0.5, 0.55, True),
        (np.nan, 0.9, True),
        (0.5, np.nan, True),
    ],
)
@pytest.mark.parametrize("multilabel", [False, True])
def test_abstaining(familiar, sure, expected, multilabel) -> None:
    layer = honest.Abstain(0.05, np.float32(0.6), multilabel)
    probabilities = np.array([[sure, 1 - sure]], np.float32)
    assert layer([probabilities, np.array([familiar], np.float32)]).numpy().tolist() == [expected]


@pytest.mark.parametrize("multilabel", [False, True])
def test_confidence_is_that_of_the_table(multilabel) -> None:
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], np.float32)
    names = ("a", "b", "c")
    table = predictions.Predictions(
        names, names, names, ("test",) * 3, ("x", "y"), None, probabilities, multilabel=multilabel
    )
    for least in np.unique(table.confidence):
        layer = honest.Abstain(0.0, least, multilabel)
        found = layer([probabilities, np.ones(3, np.float32)]).numpy()
        np.testing.assert_array_equal(found, table.confidence < least)


@pytest.mark.parametrize("name", ["cnn", "resnet_small"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_a_model_keeps_its_logits_and_gains_honest_outputs(name, multilabel, tmp_path) -> None:
    keras.utils.set_random_seed(0)
    task = classification.Classification(("a", "b", "c"), multilabel)
    shape = (24, 24, 1)
    plain = models.build_model(name, image_shape=shape, preprocessing=(), head=task.head, weights="none").model
    model = made.assured(plain, value_range=RANGE, multilabel=multilabel)
    given = made.images(50, shape, RANGE, seed=2)
    answer = model.predict_on_batch(given)
    np.testing.assert_allclose(answer["logits"], plain.predict_on_batch(given)["logits"], atol=1e-5)
    assert set(answer) == {"logits", *assurance.OUTPUTS}
    assert answer["prediction_set"].dtype == answer["abstain"].dtype == bool
    assert (answer["familiarity"] < 0.05).mean() < 0.2
    foreign = RANDOM.uniform(0, 255, given.shape).astype(np.float32)
    for strange in (foreign, given / 255, 255 - given, np.flip(given, 1).copy()):
        found = model.predict_on_batch(strange)
        assert (found["familiarity"] < 0.05).mean() > 0.9
        assert found["abstain"].mean() > 0.9
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras").predict_on_batch(given)
    for output, expected in answer.items():
        np.testing.assert_array_equal(again[output], expected)


@pytest.mark.parametrize("seed", range(6))
def test_rounding_decides_for_no_plateau_of_equal_probabilities(seed) -> None:
    """Isotonic calibration gives most sure cases one probability, which a threshold is then fitted to."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=1150)
    target, logits = np.eye(3)[labels], random.normal(size=(1150, 3)) * 3
    logits[np.arange(1150), labels] += 9
    logits = logits.astype(np.float32)
    patients = np.arange(150)
    fitted = scaling.fit(logits[:150], target[:150], method="isotonic", multilabel=False, patients=patients)
    stated = fitted.apply(logits)
    sets = conformal.fit(stated[:150], target[:150], alpha=0.1, kind="marginal", patients=patients, multilabel=False)
    served = honest.Calibrated(fitted.to_json())(logits)
    found = honest.PredictionSet(sets.thresholds)(served).numpy()
    np.testing.assert_array_equal(found, sets.sets(stated))
    correct = stated[:150].argmax(1) == labels[:150]
    least = selective.abstain_threshold(stated[:150].max(1), correct, patients, risk=0.2)
    abstains = honest.Abstain(0.0, least, False)([served, np.ones(1150, np.float32)]).numpy()
    np.testing.assert_array_equal(abstains, stated.max(1) < least - scaling.ROUNDING)
