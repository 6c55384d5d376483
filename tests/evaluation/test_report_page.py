"""What a report says of a model that refuses, of its groups, and to the checklists."""

import copy
import dataclasses
import html.parser
import re

import numpy as np
import pytest

from medkeras.evaluation import classification, intervals, operating, report, stylesheet
from medkeras.evaluation.page import answers, checklists, content, explained, measures, opening
from medkeras.evaluation.page import groups as grouping

LIMIT = "It is not a medical device."
NEW_KEYS = ("calibration", "operating_points", "subgroups", "conformal", "prevalence")


class Reader(html.parser.HTMLParser):
    """Gathers words, headings and the attributes of every tag."""

    def __init__(self, source):
        super().__init__()
        self.words, self.tags, self.sections, self.headings = [], [], {}, []
        self._section, self._heading = None, None
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.words.append(data)
        self.sections.setdefault(self._section, []).append(data)

    def said(self, section=None):
        words = self.words if section is None else self.sections[section]
        return " ".join(" ".join(words).split())


@pytest.fixture(scope="module")
def rich(make_table):
    """A report of two classes with everything that a model can say of itself."""
    table = make_table(240, 2, classes=("well", "ill"))
    rng = np.random.default_rng(5)
    table = dataclasses.replace(
        table,
        sets=table.probabilities >= 0.3,
        abstain=np.arange(240) % 20 == 0,
        familiarity=np.where(np.arange(240) % 20 == 0, 0.01, rng.uniform(0.1, 1, 240)).astype(np.float32),
        metadata={"sex": tuple("FM"[i % 2] for i in range(240)), "site": ("a",) * 234 + ("b",) * 6},
    )
    validation, test = table.take(np.arange(80)), table.take(np.arange(80, 240))
    points = operating.choose(validation, "sensitivity:0.9")
    metrics = classification.evaluate(test, resamples=30, operating_points=points, prevalence=0.1)
    metrics["source"] = {"model": "m", "version": 3, "data": "folder:scans"}
    metrics["conformal"] |= {"alpha": 0.1, "kind": "marginal", "warnings": ["The promise is broken here"]}
    metrics["input_gate"] = {
        "auroc": {"noise": 1.0, "wrong_scale": 0.97},
        "flagged": {"noise": 1.0, "wrong_scale": 0.81},
        "false_alarm_rate": 0.05,
        "false_alarm_interval": [0.02, 0.09],
        "level": 0.02,
        "images": {"noise": 100, "wrong_scale": 100},
    }
    metrics["explanations"] = {
        "method": "occlusion",
        "n": 12,
        "inside": {"n": 7, "share": 0.25, "chance": 0.02, "hits": 0.75},
        "curves": {
            "fractions": [0.0, 0.5, 1.0],
            "deletion": [0.9, 0.2, 0.1],
            "insertion": [0.1, 0.8, 0.9],
            "deletion_area": 0.35,
            "insertion_area": 0.65,
            "random_deletion_area": 0.5,
            "random_insertion_area": 0.51,
        },
        "randomised": {"n": 4, "stages": [{"down_to": "all", "layers": 9, "correlation": 0.071}]},
        "missing": 0.043,
    }
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 1), dtype=np.uint8)
    mistakes = [report.Mistake(test.case_id[i], "ill", "well", 0.9, picture, np.eye(4)) for i in (20, 21)]
    card = {
        "created": "2026-01-02T03:04:05+00:00",
        "libraries": {"keras": "3.15.1"},
        "task": {"classes": ["well", "ill"], "multilabel": False, "outputs": ["probabilities", "abstain"]},
        "input": {"height": 96, "width": 90, "channels": 1, "units": "Hounsfield units (HU)"},
        "training": {"source": "folder:scans"},
        "leakage": {"exact": {"groups": 26, "cases": 54, "across_splits": 8, "conflicting_labels": 3}},
        "fitted": {
            "calibration": {"method": "platt"},
            "conformal": {"kind": "marginal", "alpha": 0.1},
            "abstain": {"familiarity": 0.02, "confidence": 0.6, "risk": 0.2},
            "operating_points": [points[0].to_json()],
        },
    }
    return report.Report(
        title="m, version 3",
        metrics=metrics,
        predictions=test,
        history=[{"epoch": e, "loss": 1 / (e + 1)} for e in range(3)],
        mistakes=mistakes,
        data_counts={"train": {"ill": 10, "well": 30}, "test": {"ill": 70, "well": 90}},
        patient_counts={"train": 617, "test": 35},
        settings={"train.loss": "focal", "preprocessing.denoise": "median", "data.on_error": "raise"},
        model_facts={"Network": "cnn, 7 parameters"},
        data_check=("Groups of identical pictures in two splits: 8",),
        limits=(LIMIT, "Another hospital needs its own figures."),
        card=card,
    )


@pytest.fixture(scope="module")
def source(rich):
    return report.render(rich)


@pytest.fixture(scope="module")
def page(source):
    return Reader(source)


def test_summary_says_what_a_call_misses_and_what_was_refused(rich, page):
    said = page.said(None)
    (point,) = rich.metrics["operating_points"]
    counts = point["counts"]
    assert f"missing {counts['fn']} of {counts['tp'] + counts['fn']}" in said
    assert f"{counts['fp']} false alarms in {counts['fp'] + counts['tn']}" in said
    assert "declined to answer on 8 of 160 images (5.0%)" in said
    assert "at least 81.0% (fewest: wrong scale)" in said
    assert "On 160 images of" in said
    assert "from folder:scans" in said


def test_right_among_answers_is_counted_by_patient(rich, page):
    answered = ~rich.predictions.abstain
    right = rich.correct[answered]
    low, high = intervals.proportion(right, np.ones(len(right)), rich.predictions.take(answered).patients)
    assert f"of those it answered, {100 * right.mean():.1f}% ({100 * low:.1f}% to {100 * high:.1f}%)" in page.said()


def test_warnings_stand_before_the_numbers(page):
    said = page.said()
    known = said[said.index("Before you read") : said.index("Measures")]
    assert "The promise is broken here" in known
    assert "stand in two parts of the data" in known


def test_what_is_no_device_is_said_once(page):
    assert page.said().count(LIMIT) == 1
    assert "Another hospital needs" in page.said("limits")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("operating", ("at least 0.9", "On validation", "False alarms (FP)", "10.0%")),
        ("calibration", ("ECE, debiased", "biased upwards", "platt")),
        ("sets", ("90.0%", "The promise is broken here", "over all cases together")),
        ("refusal", ("8 of 160", "Wrong among the surest 50%", "20.0%", "0.600")),
        ("gate", ("wrong scale", "0.970", "81.0%", "5.0% (2.0% to 9.0%)")),
        ("subgroups", ("By sex", "By site", "fewer than 10 patients")),
        ("explanations", ("0.350 (0.500)", "25.0% (2.0%)", "75.0% of 7 images", "0.071", "4.3%")),
        ("mistakes", ("unfamiliar", "declined to answer", "set: ")),
        ("data-check", ("identical pictures", "Identical pictures 26 54 8 3")),
        ("model", ("2026-01-02 03:04:05", "keras 3.15.1", "Hounsfield units (HU)", answers.AUTHORS)),
    ],
)
def test_each_section_says_its_numbers(page, section, words):
    for expected in words:
        assert expected in page.said(section)


def test_names_of_columns_and_groups_are_text(rich):
    groups = copy.deepcopy(rich.metrics["subgroups"]["sex"])
    groups["groups"][0]["name"] = '"><img src=x onerror=y>'
    shown = dataclasses.replace(rich, metrics=rich.metrics | {"subgroups": {'"><script>alert(1)</script>': groups}})
    body = grouping.subgroups(shown).body
    assert "<script" not in body
    assert "<img" not in body
    assert "By &quot;&gt;&lt;script&gt;" in body


@pytest.mark.parametrize(
    ("changes", "failures"),
    [({}, 0), ({"deletion_area": 0.5}, 1), ({"deletion_area": 0.6, "insertion_area": 0.5}, 2)],
)
def test_heatmaps_no_better_than_chance_are_said_to_be(rich, changes, failures):
    found = copy.deepcopy(rich.metrics["explanations"])
    found["curves"] |= changes
    assert len(explained.failed(found)) == failures
    found["inside"]["share"] = found["inside"]["chance"]
    assert len(explained.failed(found)) == failures + 1
    found["missing"] = 0.31
    assert "miss 31.0% of the answer" in explained.failed(found)[-1]


def test_only_the_refused_mistake_is_marked(page):
    said = page.said("mistakes")
    assert said.count("unfamiliar") == 1
    assert said.count("declined to answer") == 2  # once in the words above the pictures


def test_classes_of_the_data_stand_in_the_order_of_the_classes(page):
    said = page.said("data")
    assert said.index("well") < said.index("ill")


def test_patients_that_are_not_known_are_not_counted(rich):
    table = dataclasses.replace(rich.predictions, patient_id=rich.predictions.case_id)
    said = Reader(report.render(dataclasses.replace(rich, predictions=table, mistakes=()))).said()
    assert "Patients 617" not in said
    assert "160 images from folder:scans" in said
    assert "no patients are named" in said


def test_headings_go_down_one_step_at_a_time(page):
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_what_is_seen_is_also_said(page):
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in drawings)
    assert {attrs.get("scope") for tag, attrs in page.tags if tag == "th"} == {"col", "row"}


def test_contents_lead_to_every_section(page):
    targets = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{target}" for target in targets]
    assert len(targets) == 21


def test_what_is_folded_is_open_on_paper(source):
    assert "<details" in source
    assert "<details open" not in source
    on_paper = stylesheet.CSS[stylesheet.CSS.index("@media print") :]
    assert re.search(r"details::details-content \{[^}]*content-visibility: visible", on_paper)


def test_text_stands_out_from_its_ground_in_both_themes():
    def luminance(color):
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    for theme in re.findall(r":root \{ ([^}]*) \}", stylesheet.CSS):
        colors = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6});", theme))
        for ink in ("ink", "muted", "link"):
            for ground in ("page", "card", "note"):
                light, dark = sorted((luminance(colors[ink]), luminance(colors[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_numbers_of_a_confusion_matrix_stand_out_too(make_table):
    """The strongest cell: 0.55 of the series' colour over the card, under the ink."""

    def luminance(parts):
        parts = np.asarray(parts) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    def channels(color):
        return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])

    for theme in re.findall(r":root \{ ([^}]*) \}", stylesheet.CSS):
        colors = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6});", theme))
        for series in ("series-0", "series-1"):
            cell = luminance(0.55 * channels(colors[series]) + 0.45 * channels(colors["card"]))
            light, dark = sorted((cell, luminance(channels(colors["ink"]))), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, series


def test_metrics_of_an_earlier_version_still_make_a_page(rich):
    metrics = {key: value for key, value in copy.deepcopy(rich.metrics).items() if key not in NEW_KEYS}
    for name in ("specificity_macro", "auroc_micro", "cohen_kappa_linear"):
        del metrics["metrics"][name]
    for values in metrics["per_class"].values():
        for name in ("positive_predictive_value", "positive_likelihood_ratio", "brier_score_loss"):
            del values[name]
    del metrics["input_gate"], metrics["explanations"], metrics["source"]
    table = dataclasses.replace(rich.predictions, sets=None, abstain=None, familiarity=None, metadata={})
    old = Reader(report.render(report.Report("old", metrics, table)))
    assert {"measures", "classes", "refusal"} <= set(old.sections)
    assert not {"operating", "sets", "gate", "subgroups", "explanations", "model", "data"} & set(old.sections)


@pytest.mark.parametrize(("k", "multilabel"), [(2, True), (12, False)])
def test_many_labels_and_many_classes_are_worded_as_such(make_table, k, multilabel):
    table = make_table(150, k, multilabel=multilabel)
    metrics = classification.evaluate(table, resamples=10)
    shown = content.Report("t", metrics, table)
    said = Reader(measures.overall(shown).body + measures.classes(shown).body).said()
    assert ("Recall, micro" in said) == multilabel
    assert ("Weighted kappa" in said) == (not multilabel)
    assert ("at least 0.5" in said) == multilabel
    assert "least often is" in " ".join(opening.summary(shown))


def test_a_hundred_classes_are_folded_away(make_table):
    rng = np.random.default_rng(0)
    target = np.eye(40, dtype=np.int8)[np.arange(400) % 40]
    scores = rng.random((400, 40)) + target
    names = tuple(f"kind {k}" for k in range(40))
    table = make_table(400, 2, classes=names, target=target, probabilities=scores / scores.sum(axis=1, keepdims=True))
    source = report.render(report.Report("t", classification.evaluate(table, resamples=5), table))
    said = Reader(source)
    assert "All 40 classes" in said.said("classes")
    assert "the 10 that are found least often" in said.said("classes")
    assert 'aria-label="Confusion matrix' not in source
    assert len(source) < 1_000_000


def test_two_dozen_mistakes_make_no_more_than_three_megabytes(rich):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :300] / 300
    picture = 120 + 60 * np.sin(9 * x) * np.cos(7 * y) + rng.normal(0, 12, (300, 300))
    picture = np.clip(picture, 0, 255).astype(np.uint8)[..., None]
    mistakes = [report.Mistake(f"c{i}", "ill", "well", 0.9, picture, rng.random((7, 7))) for i in range(30)]
    source = report.render(dataclasses.replace(rich, mistakes=mistakes))
    assert source.count("under its heatmap") == 24
    assert len(source.encode()) < 3_000_000


def test_checklists_have_every_item_once():
    assert [number for number, _, _ in checklists.CLAIM] == [str(n) for n in range(1, 45)]
    numbers = [number for number, _, _ in checklists.TRIPOD]
    assert len(numbers) == len(set(numbers)) == 52
    assert {int(re.match(r"\d+", number)[0]) for number in numbers} == set(range(1, 28))


def test_checklists_leave_to_the_authors_what_a_run_cannot_know(rich, make_table):
    table = make_table(60, 3)
    bare = content.Report("t", classification.evaluate(table, resamples=5), table)
    for items in (checklists.CLAIM, checklists.TRIPOD):
        known = [sum(bool(answer(shown)) for _, _, answer in items if answer) for shown in (bare, rich)]
        assert 0 < known[0] < known[1] < len(items)
    said = Reader(checklists.claim(bare).body).said()
    assert f"44 Funding and its role {answers.AUTHORS}" in said


def test_checklists_tell_an_ensemble_and_that_calibration_came_before_the_test(rich):
    assert answers.ensemble(rich) == ""
    network = {"name": "mean of 5 cnn", "members": ["repeat1-fold1"]}
    several = dataclasses.replace(rich, card={**rich.card, "model": network})
    assert answers.ensemble(several).lower().startswith("mean of 5 cnn")
    assert answers.fitted(rich) in answers.development(rich)
    assert answers.updating(rich).startswith("None")


@pytest.mark.parametrize(
    ("tested", "expected"), [("folder:scans", ("On the test split", "None in this run.")), ("csv:b", ("", "Another"))]
)
def test_another_source_is_not_called_an_independent_one(rich, tested, expected):
    shown = dataclasses.replace(rich, metrics=rich.metrics | {"source": {"data": tested}})
    for answer, start in zip((answers.internal, answers.external), expected, strict=True):
        assert answer(shown).startswith(start)
    if tested == "csv:b":
        assert answers.AUTHORS in answers.external(shown)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (12.0, 0.5, "a call is strong evidence for it"),
        (2.0, 0.05, "no call is strong evidence against it"),
        (9.9, 0.11, "Neither a call nor its absence"),
    ],
)
def test_strength_of_evidence_is_read_off_the_weak_end_of_the_interval(rich, low, high, words):
    point = copy.deepcopy(rich.metrics["operating_points"][0])
    point["test"]["lr_positive"] = {"value": 20.0, "low": low, "high": None}
    point["test"]["lr_negative"] = {"value": 0.04, "low": 0.0, "high": high}
    shown = dataclasses.replace(rich, metrics=rich.metrics | {"operating_points": [point]})
    assert words in " ".join(opening.summary(shown))


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (34.76, "34.8"), (0.0635, "0.0635"), (1234.5, "1234")])
def test_likelihood_ratios_have_three_digits(value, shown):
    assert measures.ratio(value) == shown


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("youden", "the largest sum"),
        ("specificity:0.8", "a specificity of at least 0.8"),
        ("cost:5/1", "a miss costs 5"),
    ],
)
def test_rules_are_put_in_words(rule, words):
    assert words in content.rule(rule)
