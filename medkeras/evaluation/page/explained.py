"""Whether the heatmaps can be believed: the sanity checks as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medkeras.evaluation import markup, trust_figures
from medkeras.evaluation.page import content

INCOMPLETE = 0.1


def explanations(report: content.Report) -> content.Section | None:
    """Returns the sanity checks of the heatmaps, where they were made."""
    found = report.metrics.get("explanations")
    if not found:
        return None
    curves = found["curves"]
    drawn = markup.drawing(
        trust_figures.evidence(curves),
        title="Do the hot places matter?",
        caption="The wider the two are apart, the more the answer hangs on what the heatmaps show.",
    )
    facts = {
        "Method": found["method"],
        "Images": f"{found['n']:,}",
        "Area as they vanish (random order)": _against(curves, "deletion"),
        "Area as they appear (random order)": _against(curves, "insertion"),
        **_inside(found.get("inside")),
        **_randomised(found.get("randomised")),
        **_missing(found.get("missing")),
    }
    return content.Section(
        "explanations",
        "Can its heatmaps be believed?",
        '<p class="muted">A heatmap can be wrong without looking wrong. Of good ones the answer falls soon as the '
        "hottest places vanish, and comes soon as they appear; and little is left of the map once the weights are "
        f"shuffled.</p>{markup.note('These heatmaps failed a check', failed(found))}"
        f'<div class="pair">{drawn}<div class="card"><h3>Checks</h3>{markup.facts(facts)}</div></div>',
    )


def failed(found: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each check that heatmaps fail which say nothing."""
    curves, inside, sentences = found["curves"], found.get("inside"), []
    if curves["deletion_area"] >= curves["random_deletion_area"]:
        sentences.append("The answer falls no sooner as the hottest places vanish than as random ones do.")
    if curves["insertion_area"] <= curves["random_insertion_area"]:
        sentences.append("The answer comes no sooner as the hottest places appear than as random ones do.")
    if inside and inside["share"] is not None and inside["share"] <= inside["chance"]:
        sentences.append("The heat lies within the lesion no more than chance would have it.")
    if (found.get("missing") or 0) > INCOMPLETE:
        sentences.append(
            f"The parts miss {content.percent(found['missing'])} of the answer that they should sum to: read them as "
            "an order and not as amounts."
        )
    return sentences


def _against(curves: Mapping[str, Any], name: str) -> str:
    return f"{markup.number(curves[f'{name}_area'])} ({markup.number(curves[f'random_{name}_area'])})"


def _inside(found: Mapping[str, Any] | None) -> dict[str, str]:
    if not found or found["share"] is None:
        return {}
    return {
        "Heat within the lesion (by chance)": f"{content.percent(found['share'])} ({content.percent(found['chance'])})",
        "Hottest place within the lesion": f"{content.percent(found['hits'])} of {found['n']:,} images",
    }


def _randomised(found: Mapping[str, Any] | None) -> dict[str, str]:
    if not found or not found["stages"]:
        return {}
    return {"Likeness once all weights are shuffled": markup.number(found["stages"][-1]["correlation"])}


def _missing(share: float | None) -> dict[str, str]:
    return {} if share is None else {"Of the answer, not accounted for": content.percent(share)}
