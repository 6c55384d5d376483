"""The tables of measures: of all cases, class by class, and at the operating points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medkeras.evaluation import figures, markup
from medkeras.evaluation.page import content

_MANY_CLASSES = 20
_SHOWN_CLASSES = 10
_SIGNED = ("cohen_kappa", "cohen_kappa_linear", "cohen_kappa_quadratic", "matthews_corrcoef")
_RATIOS = ("positive_likelihood_ratio", "negative_likelihood_ratio")

MEASURES = {
    "accuracy": ("Accuracy", "share of images called right"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall of the classes, each counting the same"),
    "auroc_macro": ("AUROC", "chance that a case of a class scores higher than another case"),
    "average_precision_macro": ("Average precision", "area under the precision-recall steps; mean of the classes"),
    "recall_macro": (
        "Recall (sensitivity)",
        "of the images of a class, the share that were found; mean of the classes",
    ),
    "specificity_macro": (
        "Specificity",
        "of the images not of a class, the share that were not called it; mean of the classes",
    ),
    "precision_macro": ("Precision", "of the images called a class, the share that are; mean of the classes"),
    "f1_macro": ("F1", "harmonic mean of precision and recall; mean of the classes"),
    "expected_calibration_error": ("Calibration error", "distance of stated from observed; lower is better"),
    "cohen_kappa": ("Cohen’s kappa", "agreement beyond chance: 0 none, 1 full"),
    "cohen_kappa_linear": ("Weighted kappa, linear", "only where the order of the classes means something"),
    "cohen_kappa_quadratic": ("Weighted kappa, quadratic", "only where the order of the classes means something"),
    "matthews_corrcoef": ("Matthews correlation", "correlation of calls and truth: 0 none, 1 full"),
    "brier_score_loss": ("Brier score", "squared error of the probabilities; lower is better"),
    "log_loss": ("Log loss", "surprise at the truth in nats, without an upper end; lower is better"),
    "auroc_micro": ("AUROC, micro", "over every probability of every class, in one ranking"),
    "average_precision_micro": ("Average precision, micro", "over every probability of every class, in one ranking"),
    "recall_micro": ("Recall, micro", "of all labels that are present, the share that were found"),
    "specificity_micro": ("Specificity, micro", "of all classes that a case is not of, the share not called"),
    "precision_micro": ("Precision, micro", "of all labels that were called, the share that are"),
    "f1_micro": ("F1, micro", "harmonic mean of precision and recall over all labels"),
}
_FIRST = tuple(MEASURES)[:9]
_MULTILABEL_MEANINGS = {
    "accuracy": "share of images with every label right",
    "balanced_accuracy": "mean of recall and specificity; mean of the classes",
    "cohen_kappa": "agreement beyond chance: 0 none, 1 full; mean of the classes",
    "matthews_corrcoef": "correlation of calls and truth: 0 none, 1 full; mean of the classes",
}
_CLASS_MEASURES = {
    "recall": "Recall<br>(sensitivity)",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "Average<br>precision",
}
_MORE_OF_CLASSES = {
    "positive_predictive_value": "PPV",
    "negative_predictive_value": "NPV",
    "positive_likelihood_ratio": "LR+",
    "negative_likelihood_ratio": "LR−",
    "balanced_accuracy": "Balanced<br>accuracy",
    "cohen_kappa": "Kappa",
    "matthews_corrcoef": "Matthews<br>correlation",
    "brier_score_loss": "Brier<br>score",
}
_AT_A_POINT = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "lr_positive": "LR+",
    "lr_negative": "LR−",
}


def is_ratio(sentence: str) -> bool:
    """Returns whether a sentence on something undefined is of a likelihood ratio: a good model has some without end."""
    return sentence.startswith(_RATIOS)


def ratio(value: float | None) -> str:
    """Returns a likelihood ratio with three digits, or a dash."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def overall(report: content.Report) -> content.Section:
    """Returns the measures of all cases, the important ones first."""
    shown = [key for key in MEASURES if key in report.metrics["metrics"] and key not in _needless(report)]
    first = _table(report, [key for key in shown if key in _FIRST])
    others = [key for key in shown if key not in _FIRST]
    more = markup.folded(f"{len(others)} more measures", _table(report, others)) if others else ""
    return content.Section(
        "measures", "Measures", f'<div class="stack"><div class="card wide">{first}</div>{more}</div>'
    )


def _needless(report: content.Report) -> set[str]:
    """Returns the measures that equal another one here, or mean nothing."""
    if report.predictions.multilabel:
        return {"cohen_kappa_linear", "cohen_kappa_quadratic"}
    needless = {"recall_micro", "precision_micro", "f1_micro"}
    if len(report.predictions.classes) == 2:
        needless |= {
            "cohen_kappa_linear",
            "cohen_kappa_quadratic",
            "recall_macro",
            "specificity_macro",
            "specificity_micro",
        }
    return needless


def _table(report: content.Report, keys: Iterable[str]) -> str:
    meanings = _MULTILABEL_MEANINGS if report.predictions.multilabel else {}
    rows = [
        [
            MEASURES[key][0],
            markup.number(entry["value"]),
            markup.limits(entry),
            _bar(key, entry),
            f'<span class="muted">{meanings.get(key, MEASURES[key][1])}</span>',
        ]
        for key in keys
        for entry in (report.metrics["metrics"][key],)
    ]
    scale = '<span class="scale"><span>0</span><span>1</span></span>'
    header = ("Measure", "Value", "95% interval", scale, "What it is")
    return markup.table(header, rows, numeric=(1, 2), label="Measures")


def _bar(key: str, entry: content.Entry) -> str:
    if key == "log_loss":
        return ""
    if key not in _SIGNED:
        return markup.bar(entry)
    return (
        f'{markup.bar(entry, least=-1.0, mark=0.0)}<span class="scale small"><span>−1</span><span>0</span>'
        "<span>1</span></span>"
    )


def classes(report: content.Report) -> content.Section:
    """Returns the measures of each class; of very many those found least often, and all when asked."""
    found = report.metrics["per_class"]
    names = list(found)
    many = len(names) > _MANY_CLASSES
    if many:
        names = sorted(names, key=lambda name: (found[name]["recall"]["value"] is None, found[name]["recall"]["value"]))
    first = _of_classes(found, names[:_SHOWN_CLASSES] if many else names, _CLASS_MEASURES)
    words = f" Here the {_SHOWN_CLASSES} that are found least often." if many else ""
    every = markup.folded(f"All {len(found)} classes", _of_classes(found, found, _CLASS_MEASURES)) if many else ""
    return content.Section(
        "classes",
        "Class by class",
        f'<p class="muted">Each class against all others, with 95% intervals; called is {_called(report)}. A dash: '
        f"undefined on these cases.{words}</p>"
        f'<div class="stack"><div class="card">{first}</div>{every}{_more_of_classes(report)}</div>',
    )


def _called(report: content.Report) -> str:
    multilabel = report.predictions.multilabel
    return "every class with a probability of at least 0.5" if multilabel else "the most probable class"


def _more_of_classes(report: content.Report) -> str:
    found = report.metrics["per_class"]
    known = {key: title for key, title in _MORE_OF_CLASSES.items() if key in next(iter(found.values()))}
    if not known:
        return ""
    stated = report.metrics.get("prevalence")
    prevalence = f"a prevalence of {content.percent(stated)}" if stated else "the prevalence of these cases"
    endless = "; ".join(sentence for sentence in report.metrics["undefined"] if is_ratio(sentence))
    body = (
        f'<p class="muted">PPV and NPV (predictive values): of those called, or not called, the share for which that '
        f"is right, at {prevalence}. LR+ and LR− (likelihood ratios): what a call, or none, makes of the odds; 1 tells "
        f"nothing.{f' Without a number: {markup.text(endless)}.' if endless else ''}</p>"
    )
    return markup.folded(
        "Predictive values, likelihood ratios and more of each class", body + _of_classes(found, found, known)
    )


def _of_classes(found: Mapping[str, Any], names: Iterable[str], columns: Mapping[str, str]) -> str:
    rows = [
        [
            markup.text(name),
            f"{found[name]['support']:,}",
            *(
                _ratio_cell(found[name][key]) if key in _RATIOS else markup.with_limits(found[name][key])
                for key in columns
            ),
        ]
        for name in names
    ]
    header = ("Class", "Images", *columns.values())
    return markup.table(header, rows, numeric=range(1, len(header)), label="Class by class")


def _ratio_cell(entry: content.Entry) -> str:
    if entry["value"] is None or entry["low"] is None:
        return f"{ratio(entry['value'])}<small>&nbsp;</small>"
    high = "∞" if entry["high"] is None else ratio(entry["high"])
    return f"{ratio(entry['value'])}<small>{ratio(entry['low'])} – {high}</small>"


def operating(report: content.Report) -> content.Section | None:
    """Returns the thresholds, how they were chosen, and what they reach on the test split."""
    points = report.metrics.get("operating_points") or []
    if not points:
        return None
    rules = "; ".join(dict.fromkeys(content.rule(point["rule"]) for point in points))
    notes = [f"{point['class']}: {point['note']}." for point in points if point["note"]]
    words = (
        f'<p class="muted">A class is called from its threshold on, whatever the other classes. The rule: '
        f"{markup.text(rules)}. The thresholds were chosen on the validation split; the test split had no part in "
        "that, and tells what they reach. The rings on the ROC curves above mark them.</p>"
    )
    body = f"{words}{markup.note('About these thresholds', notes)}"
    if len(points) > _MANY_CLASSES:
        reached = markup.folded(f"The thresholds of {len(points)} classes", _points(points))
        counted = markup.folded("Their counts", _counts(points))
    else:
        reached, counted = (f'<div class="card">{part}</div>' for part in (_points(points), _counts(points)))
    return content.Section("operating", "At the operating point", f'{body}<div class="stack">{reached}{counted}</div>')


def _points(points: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            markup.text(point["class"]),
            markup.number(point["threshold"]),
            f"{markup.number(point['validation']['sensitivity'])} / "
            f"{markup.number(point['validation']['specificity'])}",
            *(
                _ratio_cell(point["test"][key]) if key.startswith("lr") else markup.with_limits(point["test"][key])
                for key in _AT_A_POINT
            ),
        ]
        for point in points
    ]
    header = ("Class", "Threshold", "On validation<br>(sens. / spec.)", *_AT_A_POINT.values())
    return markup.table(header, rows, numeric=range(1, len(header)), label="Operating points")


def _counts(points: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [markup.text(point["class"]), *(f"{point['counts'][key]:,}" for key in ("tp", "fn", "fp", "tn"))]
        + [content.percent(point["prevalence"])]
        for point in points
    ]
    header = (
        "Class",
        "Found (TP)",
        "Missed (FN)",
        "False alarms (FP)",
        "Rightly cleared (TN)",
        "PPV, NPV at prevalence",
    )
    return markup.table(header, rows, numeric=range(1, 6), label="Counts at the operating points")


def ranking(report: content.Report) -> content.Section:
    """Returns the ROC curves, operating points on them, and precision against recall."""
    reached = {
        point["class"]: (point["test"]["sensitivity"]["value"], point["test"]["specificity"]["value"])
        for point in report.metrics.get("operating_points") or []
    }
    known = {name: pair for name, pair in reached.items() if None not in pair}
    rings = " Rings: operating points." if known else ""
    roc = markup.drawing(
        figures.roc_curves(report.predictions, report.target, known),
        title="ROC curves",
        caption=f"Every threshold at once, and the area under each curve. Dotted: guessing.{rings}",
    )
    recall = markup.drawing(
        figures.precision_recall_curves(report.predictions, report.target),
        title="Precision and recall",
        caption="How many calls stay right as more cases of a class are found, and the average precision.",
    )
    return content.Section("ranking", "How well it ranks", f'<div class="pair">{roc}{recall}</div>')
