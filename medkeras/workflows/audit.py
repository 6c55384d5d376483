"""`--mode=audit`: what is wrong with a data set, found before a model is trained on it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import config
from medkeras.audit import copies, counting, facts, findings, near, report, sheets, shortcuts, survey, suspects
from medkeras.data import cases, schemes
from medkeras.export import versions
from medkeras.workflows import terminal

JSON, HTML = "audit.json", "audit.html"


@dataclasses.dataclass(frozen=True)
class Audited:
    """What an audit leaves behind.

    Attributes:
        folder: Holds `audit.json`, `audit.html` and the contact sheets.
        findings: What `audit.json` holds.
        sentences: A summary for the terminal, the grave things first.
        invalidating: What would invalidate a test result, a sentence each.
    """

    folder: pathlib.Path
    findings: Mapping[str, Any]
    sentences: tuple[str, ...]
    invalidating: tuple[str, ...]


def audit_data(
    settings: config.Config, *, output: str | os.PathLike[str], key: str | os.PathLike[str] | None = None
) -> Audited:
    """Looks at every image of a data set and writes what it found; files that cannot be read never stop it.

    Args:
        settings: `data.source` names the data, which need no labels and no splits; `seed` is the root of the random
            numbers.
        output: Folder of the results, made where it is missing.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The data are missing, or the folder cannot be written.
    """
    versions.require_writable(output)
    case_set = schemes.read(settings.data, seed=settings.seed, key=key)
    found = examine(case_set, settings)
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    values = found.to_json()
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / JSON).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    readable = [record.case for record in found.seen.records]
    pages = sheets.write(case_set, readable, folder, seed=settings.seed)
    page = report.render(found, report.Pictures(case_set.images), title=case_set.name, pages=pages)
    (folder / HTML).write_text(page, encoding="utf-8", errors="backslashreplace")
    return Audited(folder, values, summary(found), found.invalidating)


def examine(case_set: cases.CaseSet, settings: config.Config) -> findings.Findings:
    """Returns all that can be found out about a data set."""
    measuring = suspects.Measuring(case_set.images)
    seen = survey.survey(dataclasses.replace(case_set, images=measuring), track=terminal.track)
    stated = facts.take(seen.records, track=terminal.track)
    members = [record.case for record in seen.records]
    prints = [record.fingerprint for record in seen.records]
    return findings.Findings(
        case_set=case_set,
        seen=seen,
        exact=copies.exact(members, prints),
        near=near.find(members, prints, patients_known=case_set.patients_known),
        suspects=suspects.find(seen.records, measuring.found, stated),
        shortcuts=_shortcuts(case_set, seen, stated, settings.seed),
        facts=stated,
        settings=settings.flat(),
        seed=settings.seed,
    )


def _shortcuts(
    case_set: cases.CaseSet, seen: survey.Survey, stated: Mapping[str, Mapping[str, str]], seed: int
) -> list[shortcuts.Shortcut]:
    members = [record.case for record in seen.records]
    labels = [case.labels if case_set.multilabel else (case.label,) for case in members]
    columns = shortcuts.features(seen.records, stated)
    return shortcuts.find(columns, labels, [case.patient_id for case in members], seed=seed)


def summary(found: findings.Findings) -> tuple[str, ...]:
    """Returns the lines for the terminal: what is grave, what is worth a look, and the numbers."""
    by_split = counting.count(found.case_set, found.seen, found.facts)["split_class"]
    lines = [f"{found.case_set.name}: {len(found.case_set.cases):,} cases, {len(found.case_set.classes)} classes"]
    for split, table in by_split.items():
        lines.append(f"  {split:<11}{', '.join(f'{label} {number:,}' for label, number in sorted(table.items()))}")
    if found.invalidating:
        lines += ["", "This would invalidate a test result:", *(f"  ! {each}" for each in found.invalidating)]
    if found.warnings:
        lines += ["", "Worth a look:", *(f"  - {each}" for each in found.warnings)]
    if not found.invalidating and not found.warnings:
        lines += ["", "Nothing was found."]
    return tuple(lines)
