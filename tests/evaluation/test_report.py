import html.parser
import re

import numpy as np
import pytest

from medkeras.evaluation import classification, markup, report

VOID = {"meta", "br", "img", "link", "hr", "input"}
NASTY = "<script>alert('x')</script>"


class Page(html.parser.HTMLParser):
    """Checks that every tag is closed in order, and gathers what a reader would see."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.words, self.ids = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def full_report(make_table):
    """Builds a report in which everything that can be given is given, with names that attack the page."""

    def build(k=3, *, multilabel=False, **changes):
        names = (NASTY, '"><img src=http://evil/x onerror=y>', *[f"class {i}" for i in range(k - 2)])[:k]
        table = make_table(150, k, multilabel=multilabel, classes=names)
        image = np.random.default_rng(0).integers(0, 256, (300, 200, 1), dtype=np.uint8)
        mistakes = [
            report.Mistake("case/<b>1", names[0], names[1], 0.97, image, np.eye(7)),
            report.Mistake("case 2", names[1], names[0], 0.91, image[:28, :28].repeat(3, axis=2)),
        ]
        content = {
            "title": f"A {NASTY} title",
            "metrics": classification.evaluate(table, resamples=50),
            "predictions": table,
            "history": [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "learning_rate": 1e-3} for e in (1, 2, 3)],
            "mistakes": mistakes,
            "data_counts": {"train": {names[0]: 1234, names[1]: 5}, "test": {names[0]: 70}},
            "patient_counts": {"train": 617, "test": 35},
            "settings": {"train.epochs": 12, "data.source": f"folder:{NASTY}"},
            "model_facts": {"network": NASTY},
            "notes": [f"17 copies of {NASTY}"],
            "limits": ["It is not a medical device.", f"Nothing else than {NASTY}."],
        }
        return report.Report(**content | changes)

    return build


@pytest.fixture(scope="module")
def source(full_report):
    """The page of three classes, rendered once."""
    return report.render(full_report(3))


@pytest.mark.parametrize(("k", "multilabel"), [(2, False), (10, False), (4, True)])
def test_page_is_well_formed_and_refers_to_nothing(full_report, tmp_path, k, multilabel):
    report.write_report(tmp_path / "r.html", full_report(k, multilabel=multilabel))
    source = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(source)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name.endswith(("src", "href", "data")):
                assert value.startswith(("data:image/", "#")), (tag, name, value)
    assert not re.search(r"url\((?!#)|@import", source)
    assert len(source.encode()) < 3_000_000


def test_ids_are_unique_and_their_references_resolve(source):
    page = Page(source)
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", source)) <= set(page.ids)
    assert {a["xlink:href"][1:] for _, a in page.tags if "xlink:href" in a} <= set(page.ids)


def test_untrusted_names_are_shown_as_text_and_never_run(source):
    assert "<script" not in source
    assert "<img src=http" not in source
    text = Page(source).text
    assert text.count(NASTY) > 8
    assert "case/<b>1" in text


def test_page_forbids_itself_to_load_anything(source):
    policies = [a["content"] for tag, a in Page(source).tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_headline_says_the_numbers(full_report, source):
    content = full_report(3)
    entry = content.metrics["metrics"]["accuracy"]
    text = Page(source).text
    share, low, high = (f"{100 * entry[key]:.1f}%" for key in ("value", "low", "high"))
    patients = len(set(content.predictions.patient_id))
    assert (
        f"On 150 images of {patients} patients, the right class was named for {share} (95% interval {low} to {high})."
        in text
    )
    assert f"{content.metrics['metrics']['auroc_macro']['value']:.3f}" in text


def test_everything_that_was_given_is_on_the_page(source):
    text = Page(source).text
    for expected in ("1,234", "617", "train.epochs 12", "17 copies", "(0.97)", "Learning rate", "not a medical device"):
        assert expected in text
    assert "Resamples: 50, seed 0" in text


def test_what_was_not_given_leaves_no_empty_section(full_report, source):
    bare = full_report(3, history=(), mistakes=(), data_counts={}, settings={}, model_facts={}, notes=())
    page = report.render(bare)
    for heading in ("How it learned", "The worst mistakes", "The data", "Settings of the run", "Model card"):
        assert f"<h2>{heading}</h2>" not in page
        assert f"<h2>{heading}</h2>" in source
    assert "Before you read" not in page


def test_the_same_report_is_the_same_bytes(full_report, source):
    assert report.render(full_report(3)) == source


def test_missing_patients_undefined_and_flat_intervals_are_noted(make_table):
    table = make_table(30, 3, per_patient=1, target=np.eye(3)[[0, 1] * 15])
    table = make_table(
        30,
        3,
        patient_id=table.case_id,
        target=table.target,
        probabilities=0.9 * table.target + np.array([0.05, 0, 0.05]),
    )
    found = classification.evaluate(table, resamples=20)
    notes = " ".join(report.automatic_notes(found, table))
    assert "name no patients" in notes
    assert "recall of c: no case has this class" in notes
    assert "says nothing: " in notes
    assert "of 30 patients" not in Page(report.render(report.Report("t", found, table))).text


def test_a_good_table_is_noted_with_nothing(make_table):
    table = make_table(100, 3)
    assert report.automatic_notes(classification.evaluate(table, resamples=50), table) == []


def test_no_mistake_is_said_so(make_table):
    target = np.eye(2)[[0, 1] * 10]
    table = make_table(20, 2, target=target, probabilities=target)
    page = Page(report.render(report.Report("t", classification.evaluate(table, resamples=5), table)))
    assert "None: every image was called right." in page.text


def test_unprintable_names_can_be_written(make_table, tmp_path):
    table = make_table(40, 2, classes=("a\udc80\x00\x1b", "b"))
    content = report.Report("t\udcff", classification.evaluate(table, resamples=5), table)
    report.write_report(tmp_path / "r.html", content)
    Page((tmp_path / "r.html").read_text(encoding="utf-8"))


def test_overlay_leaves_cold_places_alone_and_colours_hot_ones():
    image = np.full((40, 60, 1), 100, np.uint8)
    heat = np.zeros((4, 6))
    heat[1, 2] = 1
    shown = markup.overlay(image, heat)
    assert (shown.shape, shown.dtype) == ((40, 60, 3), np.uint8)
    assert (shown[25:] == 100).all()
    red, green, blue = shown[14, 24].astype(int)
    assert red > green > blue
    assert red - blue > 60


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), -1.0)])
def test_overlay_of_no_heat_is_the_image(heat):
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(markup.overlay(image, heat), image)


def test_overlay_cuts_heat_above_one():
    image = np.zeros((8, 8, 1), np.uint8)
    np.testing.assert_array_equal(markup.overlay(image, np.full((2, 2), 9.0)), markup.overlay(image, np.ones((2, 2))))


@pytest.mark.parametrize(("shape", "kind"), [((28, 28, 1), "png"), ((500, 400, 3), "jpeg")])
def test_small_pictures_keep_their_pixels_and_large_ones_shrink(shape, kind):
    tag = markup.picture(np.zeros(shape, np.uint8), 'a "quoted" case')
    assert f"data:image/{kind};base64," in tag
    assert ('class="small"' in tag) == (kind == "png")
    assert 'alt="a &quot;quoted&quot; case"' in tag
    assert len(tag) < 20_000


def test_figures_follow_the_pages_theme(source):
    body = source[source.index("</style>") :]
    assert "var(--series-0)" in body
    assert "var(--ink)" in body
    assert "#1f2933" not in body
    assert "#0072b2" not in body


@pytest.mark.parametrize(("value", "shown"), [(0.12345, "0.123"), (-0.5, "−0.500"), (None, "–"), (float("nan"), "–")])
def test_numbers_have_three_decimals_or_a_dash(value, shown):
    assert markup.number(value) == shown
