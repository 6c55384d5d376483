"""Two checklists of good reporting, answered as far as a run can answer by itself.

The topics are in our own words; numbers and order are those of the published checklists, compared item by item: CLAIM
with the checklist of its 2024 update as the RSNA gives it, TRIPOD+AI with the checklist of 2024.

Reference:
    Tejani et al. (2024), Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update, Radiology:
    Artificial Intelligence 6(4). Collins et al. (2024), TRIPOD+AI statement, BMJ 385: e078378.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medkeras.evaluation import markup
from medkeras.evaluation.page import answers, content

Item = tuple[str, str, Callable[[content.Report], str] | None]

CLAIM: Sequence[Item] = (
    ("1", "Title: that it is about AI, and of what kind", answers.network),
    ("2", "Abstract with its usual parts", None),
    ("3", "Background, intended use and role", None),
    ("4", "Aims and hypotheses", None),
    ("5", "Prospective or retrospective", None),
    ("6", "Goal of the study", None),
    ("7", "Where the data come from", answers.sources),
    ("8", "Who was included and who was not", None),
    ("9", "What was done to the images first", answers.preprocessing),
    ("10", "Parts of the data that were selected", None),
    ("11", "How the data were de-identified", None),
    ("12", "What was done about missing data", answers.faulty),
    ("13", "How the images were acquired", None),
    ("14", "What the reference standard is", None),
    ("15", "Why that reference standard", None),
    ("16", "Who made the reference labels", None),
    ("17", "How the test set was labelled", None),
    ("18", "How much readers agree, with each other and themselves", None),
    ("19", "How cases were assigned to training, validation and test", answers.partitions),
    ("20", "At which level the parts are disjoint", answers.disjoint),
    ("21", "How many test cases were intended", answers.size),
    ("22", "The model in detail", answers.architecture),
    ("23", "Software and versions", answers.software),
    ("24", "Where the weights began", answers.initialisation),
    ("25", "How it was trained", answers.training),
    ("26", "How the final model was chosen", answers.selection),
    ("27", "Ensembles, if any", answers.ensemble),
    ("28", "Measures of performance", answers.metrics),
    ("29", "Uncertainty and significance", answers.uncertainty),
    ("30", "Robustness", answers.robustness),
    ("31", "Explanations", answers.explanation),
    ("32", "Evaluation on data of the same source", answers.internal),
    ("33", "Testing on data of another source", answers.external),
    ("34", "Registration of the trial", None),
    ("35", "Numbers included and left out", answers.partitions),
    ("36", "Who the patients of each part are", answers.demographics),
    ("37", "Performance, with its uncertainty", answers.performance),
    ("38", "Diagnostic performance and how precise it is", answers.diagnostic),
    ("39", "Analysis of failures", answers.failures),
    ("40", "Limitations", answers.limits),
    ("41", "What it means for practice", None),
    ("42", "Where the protocol is", None),
    ("43", "Whether software, model and data can be had", None),
    ("44", "Funding and its role", None),
)

TRIPOD: Sequence[Item] = (
    ("1", "Title", None),
    ("2", "Abstract", None),
    ("3a", "The medical setting and why a model", None),
    ("3b", "For which patients, for what, for whom", None),
    ("3c", "Known inequalities between groups", None),
    ("4", "Objectives", None),
    ("5a", "Sources of the data, and why these", answers.sources),
    ("5b", "Dates", None),
    ("6a", "Setting and centres", None),
    ("6b", "Who was eligible", None),
    ("6c", "Treatments received", None),
    ("7", "How the data were prepared, and their quality checked", answers.preprocessing),
    ("8a", "The outcome: what, when and how assessed", None),
    ("8b", "Who assessed it, where that takes judgement", None),
    ("8c", "Whether assessors were blind", None),
    ("9a", "Why these predictors", None),
    ("9b", "The predictors, and how they were measured", None),
    ("9c", "Who assessed them, where that takes judgement", None),
    ("10", "How the size was arrived at", answers.size),
    ("11", "Missing data", answers.faulty),
    ("12a", "How the data were used and divided", answers.partitions),
    ("12b", "How predictors were handled", answers.preprocessing),
    ("12c", "Type of model, how built, how validated within", answers.development),
    ("12d", "Differences between places or centres", None),
    ("12e", "Measures of performance and how computed", answers.uncertainty),
    ("12f", "Updating of the model after its evaluation, such as recalibration", answers.updating),
    ("12g", "How predictions were calculated", answers.architecture),
    ("13", "Imbalance of the classes", answers.imbalance),
    ("14", "Fairness", answers.fairness),
    ("15", "What the model answers, and thresholds", answers.output),
    ("16", "How the test data differ from those of training", answers.external),
    ("17", "Ethical approval", None),
    ("18a", "Funding", None),
    ("18b", "Conflicts of interest", None),
    ("18c", "Protocol", None),
    ("18d", "Registration", None),
    ("18e", "Sharing of data", None),
    ("18f", "Sharing of code", None),
    ("19", "Part that patients and public had", None),
    ("20a", "Flow of participants", None),
    ("20b", "Who the participants are", answers.demographics),
    ("20c", "Test data compared with those of training", None),
    ("21", "Numbers of participants and of events", answers.events),
    ("22", "The full model", answers.specification),
    ("23a", "Performance with intervals, also of groups", answers.performance),
    ("23b", "Performance between places or centres", None),
    ("24", "Results of updating", None),
    ("25", "Interpretation", None),
    ("26", "Limitations", answers.limits),
    ("27a", "What happens to poor or missing input", answers.refusals),
    ("27b", "What users must do and know", None),
    ("27c", "What should come next", None),
)


def claim(report: content.Report) -> content.Section:
    """Returns the checklist for studies of AI in medical imaging."""
    return content.Section("claim", "Checklist: CLAIM 2024", _checklist(report, CLAIM, "CLAIM 2024"))


def tripod(report: content.Report) -> content.Section:
    """Returns the checklist for studies of prediction models."""
    return content.Section("tripod", "Checklist: TRIPOD+AI", _checklist(report, TRIPOD, "TRIPOD+AI"))


def _checklist(report: content.Report, items: Sequence[Item], name: str) -> str:
    said = [(number, topic, answer(report) if answer else "") for number, topic, answer in items]
    rows = [[number, topic, markup.text(words) if words else _OPEN] for number, topic, words in said]
    known = sum(bool(words) for _, _, words in said)
    header = ("Item", "What it asks for", "What this run says")
    table = f'<div class="items">{markup.table(header, rows, label=name)}</div>'
    return (
        f'<p class="muted">The run can say something to {known} of {len(items)} items. Whether that is enough, and all '
        "else, is for the authors to judge. Topics are in other words than the checklist’s own; its text counts.</p>"
        f"{markup.folded(f'{len(items)} items', table)}"
    )


_OPEN = f'<span class="muted">{answers.AUTHORS}</span>'
