import json

import numpy as np
import pytest
from scipy import optimize

from medkeras import errors
from medkeras.evaluation import learning_curve

SIZES = (50, 100, 200, 400, 800, 1600)


def measured(seed, *, floor=0.05, scale=2.0, exponent=0.6, tested=2000, sizes=SIZES):
    """Returns points of a model whose error is floor + scale * n^-exponent, each counted on other test cases."""
    rng, points = np.random.default_rng(seed), []
    for n in sizes:
        value = 1 - rng.binomial(tested, min(floor + scale * n**-exponent, 1)) / tested
        reach = 1.96 * np.sqrt(value * (1 - value) / tested)
        points.append({"n": n, "value": value, "low": max(value - reach, 0), "high": min(value + reach, 1)})
    return points


def exact(floor, scale, exponent, sizes=SIZES):
    values = [1 - floor - scale * n**-exponent for n in sizes]
    return [{"n": n, "value": v, "low": v - 0.005, "high": v + 0.005} for n, v in zip(sizes, values, strict=True)]


@pytest.mark.parametrize(("floor", "exponent"), [(0.05, 0.6), (0.0, 0.4), (0.1, 1.0)])
def test_finds_the_curve_that_made_the_points(floor, exponent):
    found = learning_curve.fit(exact(floor, 3.0, exponent))
    assert found["floor"] == pytest.approx(floor, abs=0.004)
    assert found["exponent"] == pytest.approx(exponent, rel=0.04)
    assert found["doubling"]["n"] == 3200
    gain = 3 * (1600**-exponent - 3200**-exponent)
    assert found["doubling"]["gain"]["value"] == pytest.approx(gain, rel=0.05)
    assert found["doubling"]["accuracy"]["value"] == pytest.approx(1 - floor - 3 * 3200**-exponent, abs=5e-4)


@pytest.mark.parametrize(("seed", "floor"), [(3, 0.05), (0, 0.0), (1, 0.0), (2, 0.0)])
def test_no_search_finds_a_better_curve(seed, floor):
    points = measured(seed, floor=floor)
    found = learning_curve.fit(points)
    n, wrong = np.array([p["n"] for p in points]), 1 - np.array([p["value"] for p in points])
    spread = np.array([(p["high"] - p["low"]) / 3.92 for p in points])

    def missed(x):
        return (x[0] + x[1] * (n / 400.0) ** -x[2] - wrong) / spread

    best = optimize.least_squares(missed, (0.1, 0.1, 0.5), bounds=([0, 0, 0.05], [1, 10, 2]), xtol=1e-14)
    ours = missed((found["floor"], found["scale"] * 400.0 ** -found["exponent"], found["exponent"]))
    assert found["floor"] >= 0
    assert np.sum(ours**2) <= 2 * best.cost * 1.01 + 1e-3


def test_bands_hold_the_truth_of_twice_the_data():
    held = np.zeros(2)
    for seed in range(60):
        doubling = learning_curve.fit(measured(seed), seed=seed)["doubling"]
        truths = {"accuracy": 0.95 - 2 * 3200**-0.6, "gain": 2 * 1600**-0.6 - 2 * 3200**-0.6}
        held += [doubling[name]["low"] <= truth <= doubling[name]["high"] for name, truth in truths.items()]
    assert (held >= 52).all()


def test_curve_reaches_to_twice_the_data_and_never_falls():
    found = learning_curve.fit(measured(0))
    assert found["curve"][0]["n"] == pytest.approx(50)
    assert found["curve"][-1]["n"] == pytest.approx(3200)
    assert {name: found["curve"][-1][name] for name in ("value", "low", "high")} == pytest.approx(
        found["doubling"]["accuracy"]
    )
    values = [point["value"] for point in found["curve"]]
    assert values == sorted(values)
    assert all(0 <= point["low"] <= point["value"] <= point["high"] <= 1 for point in found["curve"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_summary_says_the_numbers():
    found = learning_curve.fit(exact(0.05, 3.0, 0.6))
    assert found["summary"].startswith(
        "Twice the training cases (1,600 to 3,200) would bring about 1.2 points of accuracy ("
    )


def test_order_and_seed():
    points = measured(1)
    assert learning_curve.fit(points[::-1])["exponent"] == learning_curve.fit(points)["exponent"]
    assert learning_curve.fit(points, seed=1) == learning_curve.fit(points, seed=1)
    assert learning_curve.fit(points, seed=1)["doubling"] != learning_curve.fit(points, seed=2)["doubling"]


@pytest.mark.parametrize(
    ("points", "summary"),
    [
        (measured(0, sizes=(50, 100, 200)), "trained on 4 numbers of cases. There are 3."),
        (measured(0, sizes=(50, 50, 50, 50, 100)), "There are 2."),
        (measured(0, floor=0.2, scale=0.0), "does not rise with the number of training cases by more than chance"),
        (exact(0.05, 3.0, 0.6)[::-1][:1] * 4 + exact(0.2, 0.0, 1.0), "scatter about any smooth curve"),
        (
            [p | {"value": 1 - p["value"], "low": 1 - p["high"], "high": 1 - p["low"]} for p in measured(0)],
            "does not rise",
        ),
        ([{"n": n, "value": 1.0, "low": 1.0, "high": 1.0} for n in SIZES], "does not rise"),
    ],
)
def test_says_why_it_says_nothing(points, summary):
    found = learning_curve.fit(points)
    assert summary in found.pop("summary")
    assert set(found.values()) == {None}


def test_flat_curves_are_seldom_taken_for_rising_ones():
    risen = [learning_curve.fit(measured(seed, floor=0.2, scale=0.0))["doubling"] for seed in range(100)]
    assert sum(each is not None for each in risen) <= 8


@pytest.mark.parametrize("change", [{"value": 1.2}, {"n": 0}, {"low": 0.9, "high": 0.8}, {"low": float("nan")}])
def test_points_out_of_range_are_refused(change):
    with pytest.raises(errors.DataError, match="accuracy with limits between 0 and 1. Received: {'n'"):
        learning_curve.fit([*measured(0), measured(0)[0] | change])


def test_no_points_are_refused():
    with pytest.raises(errors.DataError, match="Received: none"):
        learning_curve.fit([])
