"""`audit.html`: what was found, the grave things first, with the pictures side by side; one file, without scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from medkeras import version
from medkeras.audit import copies, counting, findings, groups, sheets, suspects
from medkeras.data import cases
from medkeras.evaluation import markup

MOST_PAIRS = 40
MOST_SUSPECTS = 24
MOST_ROWS = 60
MOST_SHEETS = 24

_SIDE = 160
_STYLE = """
h3 { margin-top: 18px; }
.grave { border-color: #c0392b; border-left-width: 5px; }
.grave > b { color: #c0392b; }
.good { border-left: 5px solid #2e8b57; }
.twins { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 16px;
  margin: 14px 0; }
.twins .card { padding: 12px; }
.twins figcaption, .tiles figcaption { margin-top: 8px; overflow-wrap: anywhere; }
.twins figcaption b, .tiles figcaption b { color: var(--ink); }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
.sides img, .tiles img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: 5px;
  display: block; image-rendering: auto; }
.sides small { display: block; color: var(--muted); font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 12px; margin: 14px 0; }
.tiles figcaption { font-size: 12px; line-height: 1.35; }
.badge { display: inline-block; border-radius: 4px; padding: 0 7px; font-size: 12px; background: var(--track); }
.badge.bad { background: #c0392b; color: #fff; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 16px; }
.sheet img { width: 100%; display: block; border-radius: 6px; margin-top: 8px; }
.sheet + .sheet { margin-top: 10px; }
summary { cursor: pointer; }
@media print { .grave, .twins figure, .tiles figure { break-inside: avoid; } }
"""
_SUSPECTS = {
    "constant": ("Constant", "Every pixel holds one value", "value"),
    "nearly_black": ("Nearly black", "Almost nothing is brighter than the black of the other pictures", "brightness"),
    "inverted": ("Inverted polarity", "Looks like the negative of most others", "likeness to the negative"),
    "burned_in_text": ("Writing in the picture", "What looks like a line of text near the top or bottom", "strokes"),
    "borders": ("Bars and frames", "Even bars along a side that end in a straight edge", "share of the picture"),
    "burned_in_header": ("Writing announced", "The header says that annotations are burned into the pixels", ""),
}


def render(found: findings.Findings, pictures: Pictures, *, title: str, pages: Mapping[str, bytes]) -> str:
    """Returns the page.

    Args:
        found: What the audit found.
        pictures: Gives a case as `<img>`.
        title: The heading.
        pages: File name of each contact sheet, and the sheet as JPEG.
    """
    sections = (
        _headline(found, title),
        _grave(found),
        _data(found),
        _copies(found, pictures),
        _patients(found),
        _shortcuts(found),
        _suspects(found, pictures),
        _problems(found),
        _sheets(pages),
        _method(found),
    )
    footer = "An audit finds what it looks for; a clean page is no proof of clean data."
    return markup.page(title, "\n".join(sections), footer=footer, style=_STYLE)


class Pictures:
    """Cases as `<img>` elements, each read once.

    Args:
        images: Where pixels come from.
    """

    def __init__(self, images: cases.ImageSource) -> None:
        self._images = images
        self._made: dict[str, str] = {}

    def __call__(self, case: cases.Case) -> str:
        """Returns the picture of a case, its data inside; a dash where it cannot be read."""
        if case.case_id not in self._made:
            pixels = sheets.read(case, self._images)
            self._made[case.case_id] = "–" if pixels is None else _image(pixels, case.case_id)
        return self._made[case.case_id]


def _image(pixels: np.ndarray, description: str) -> str:
    buffer = io.BytesIO()
    sheets.thumbnail(pixels, _SIDE).save(buffer, "JPEG", quality=85)
    return _inline(buffer.getvalue(), "jpeg", f"Case {description}")


def _inline(data: bytes, kind: str, description: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img loading="lazy" alt="{markup.text(description)}" src="data:image/{kind};base64,{text}">'


def _headline(found: findings.Findings, title: str) -> str:
    across = len(found.exact.across_splits) + len(found.near.across_splits)
    numbers = (
        ("Images", len(found.case_set.cases), f"{_counted(len(found.unreadable), 'file')} cannot be read"),
        ("Identical pictures", _members(found.exact), f"in {_counted(len(found.exact.groups), 'group')}"),
        ("Near copies", _members(found.near), f"in {_counted(len(found.near.groups), 'group')}"),
        ("Groups across splits", across, _shared_patients(found)),
    )
    cards = "".join(
        f'<div class="card"><div class="name">{name}</div><div class="value">{value:,}</div>'
        f'<div class="muted">{remark}</div></div>'
        for name, value, remark in numbers
    )
    return (
        f'<p class="eyebrow">Data audit</p><h1>{markup.text(title)}</h1>'
        f'<p class="lead">{_lead(found)}</p><div class="headline">{cards}</div>'
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _shared_patients(found: findings.Findings) -> str:
    if not found.case_set.patients_known:
        return "the data name no patients"
    return f"{_counted(len(found.patients), 'patient')} in two splits"


def _lead(found: findings.Findings) -> str:
    if found.invalidating:
        return "A test on these splits would not measure what it seems to measure."
    if found.warnings or found.case_set.notes:
        return "Nothing was found that would invalidate a test result; some things are worth a look."
    return "Nothing was found."


def _grave(found: findings.Findings) -> str:
    parts = []
    if found.invalidating:
        items = "".join(f"<li>{markup.text(sentence)}</li>" for sentence in found.invalidating)
        parts.append(
            f'<div class="note grave" role="note"><b>This would invalidate a test result</b><ul>{items}</ul></div>'
        )
    remarks = [*found.warnings, *found.case_set.notes]
    if remarks:
        items = "".join(f"<li>{markup.text(sentence)}</li>" for sentence in dict.fromkeys(remarks))
        parts.append(f'<div class="note" role="note"><b>Worth a look</b><ul>{items}</ul></div>')
    return "".join(parts)


def _data(found: findings.Findings) -> str:
    counts = counting.count(found.case_set, found.seen, found.facts)
    by_split = counts["split_class"]
    classes = list(dict.fromkeys(name for table in by_split.values() for name in table))
    rows = [
        [markup.text(name), *(f"{table.get(name, 0):,}" for table in by_split.values())]
        for name in sorted(classes)[:MOST_ROWS]
    ]
    if len(classes) > 1:
        rows.append(["All", *(f"{counts['split'].get(split, 0):,}" for split in by_split)])
    patients = counts["patient"]
    if patients["known"]:
        rows.append(["Patients", *(f"{patients['by_split'].get(split, 0):,}" for split in by_split)])
    table = markup.table(("Class", *map(markup.text, by_split)), rows, numeric=range(1, len(by_split) + 1))
    kinds = ("size", "bit_depth", "channels", "format", "modality")
    small = "".join(_small_table(name, counts[name]) for name in kinds)
    return (
        f'<h2>What there is</h2><div class="card">{table}</div><div class="grid" style="margin-top:16px">{small}</div>'
    )


def _small_table(name: str, table: Mapping[str, int], most: int = 10) -> str:
    rows = [[markup.text(value), f"{number:,}"] for value, number in list(table.items())[:most]]
    if len(table) > most:
        rows.append([f"{len(table) - most} more", f"{sum(list(table.values())[most:]):,}"])
    title = name.replace("_", " ").capitalize()
    return f'<div class="card">{markup.table((title, "Images"), rows, numeric=(1,))}</div>'


def _members(found: copies.Copies) -> int:
    return sum(len(group.members) for group in found.groups)


def _copies(found: findings.Findings, pictures: Pictures) -> str:
    return "<h2>Copies</h2>" + "".join(
        _kind(title, meaning, kind, pictures)
        for title, meaning, kind in (
            ("Identical pictures", "The decoded pixels are equal, whatever file they came in.", found.exact),
            ("Near copies", "Not equal, and too alike to be two pictures: altered, shifted or turned.", found.near),
        )
    )


def _kind(title: str, meaning: str, found: copies.Copies, pictures: Pictures) -> str:
    if not found.groups:
        return f'<h3>{title}</h3><p class="muted">None.</p>'
    chosen = sorted(found.groups, key=_gravity)[:MOST_PAIRS]
    shown = "" if len(chosen) == len(found.groups) else f" The gravest {len(chosen)} are shown."
    return (
        f'<h3>{title}</h3><p class="muted">{meaning} {_counted(len(found.groups), "group")}, {_members(found):,} '
        f"cases; {_counted(len(found.across_splits), 'group')} across splits, "
        f"{len(found.conflicting_labels):,} with two labels."
        f'{shown}</p><div class="twins">{"".join(_group(group, found, pictures) for group in chosen)}</div>'
    )


def _gravity(group: copies.Group) -> tuple[Any, ...]:
    """Sorts what is gravest first: two labels across splits, two labels, across splits, the rest."""
    across, conflicting = group.across_splits, group.conflicting_labels
    return not (conflicting and across), not conflicting, not across


def _group(group: copies.Group, found: copies.Copies, pictures: Pictures) -> str:
    pair = groups.telling_pair(group, found)
    sides = "".join(
        f"<div>{pictures(case)}<small>{_badge(case.split or counting.NO_SPLIT)} "
        f"<b>{markup.text(', '.join(counting.labels_of(case)) or counting.NO_LABEL)}</b><br>"
        f"{markup.text(case.case_id)}</small></div>"
        for case in (pair.first, pair.second)
    )
    marks = [_badge("two labels", bad=True)] * group.conflicting_labels
    marks += [_badge("two splits", bad=True)] * group.across_splits
    more = len(group.members) - 2
    words = [f"{pair.kind}, likeness {pair.score:.3f}"] if found.pairs else []
    words += [f"and {more} more {'copy' if more == 1 else 'copies'}"] if more else []
    caption = f"{' '.join(marks)} {markup.text(', '.join(words))}".strip()
    return f'<figure class="card"><div class="sides">{sides}</div><figcaption>{caption}</figcaption></figure>'


def _badge(words: str, *, bad: bool = False) -> str:
    return f'<span class="badge{" bad" if bad else ""}">{markup.text(words)}</span>'


def _patients(found: findings.Findings) -> str:
    if not found.patients:
        return ""
    rows = [
        [
            markup.text(patient),
            "; ".join(f"{markup.text(split)} {len(ids)}" for split, ids in groups.by_split(members).items()),
        ]
        for patient, members in list(found.patients.items())[:MOST_ROWS]
    ]
    return f'<h2>Patients in two splits</h2><div class="card">{markup.table(("Patient", "Cases"), rows)}</div>'


def _shortcuts(found: findings.Findings) -> str:
    measured = [each for each in found.shortcuts if each.auroc is not None]
    others = [each for each in found.shortcuts if each.auroc is None]
    rows = [
        [
            markup.text(each.feature.replace("_", " ")) + (" " + _badge("warning", bad=True) if each.warns else ""),
            markup.number(each.auroc),
            f"{markup.number(each.low)} – {markup.number(each.high)}",
            markup.bar({"value": each.auroc, "low": each.low, "high": each.high}),
            f"{markup.text(each.told)} {markup.number(each.told_auroc)}",
        ]
        for each in measured
    ]
    header = (
        "Property",
        "AUROC",
        "95% interval",
        '<span class="scale"><span>0</span><span>1</span></span>',
        "Best told",
    )
    table = f'<div class="card">{markup.table(header, rows, numeric=(1, 2))}</div>' if rows else ""
    reasons: dict[str, list[str]] = {}
    for each in others:
        reasons.setdefault(each.reason, []).append(each.feature.replace("_", " "))
    rest = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    missing = f'<p class="muted">Not measured: {markup.text(rest)}.</p>' if rest else ""
    return (
        '<h2>Shortcuts</h2><p class="muted">How well a tree of four levels tells the classes apart on patients held '
        "out, from one property alone: 0.5 is guessing, 1 gives the class away. How a picture is stored should say "
        "nothing of the disease. Mean, standard deviation and border belong to the picture itself, and a disease may "
        f"well change them.</p>{table}{missing}"
    )


def _suspects(found: findings.Findings, pictures: Pictures) -> str:
    of_id = {case.case_id: case for case in found.case_set.cases}
    parts = []
    for kind, members in found.suspects.items():
        title, meaning, unit = _SUSPECTS[kind]
        if members:
            first = _first(len(members), MOST_SUSPECTS)
            parts.append(
                f'<h3>{title}: {len(members):,}</h3><p class="muted">{meaning}{first}.</p>'
                f'<div class="tiles">{_tiles(members[:MOST_SUSPECTS], of_id, pictures, unit)}</div>'
            )
    empty = [_SUSPECTS[kind][0].lower() for kind, members in found.suspects.items() if not members]
    none = f'<p class="muted">None for: {markup.text(", ".join(empty))}.</p>' if empty else ""
    return f'<h2>Suspects</h2><p class="muted">Not verdicts: look at them.</p>{"".join(parts)}{none}'


def _first(count: int, most: int) -> str:
    return f"; the first {most} are shown" if count > most else ""


def _tiles(members: Iterable[suspects.Suspect], of_id: Mapping[str, cases.Case], pictures: Pictures, unit: str) -> str:
    return "".join(_tile(of_id[each.case_id], each.score, pictures, unit) for each in members)


def _tile(case: cases.Case, score: float, pictures: Pictures, unit: str) -> str:
    told = f"<br>{unit} {score:.3g}" if unit else ""
    return (
        f"<figure>{pictures(case)}<figcaption>{_badge(case.split or counting.NO_SPLIT)} "
        f"<b>{markup.text(', '.join(counting.labels_of(case)))}</b> "
        f"{markup.text(sheets.shortened(case.case_id, 40))}{told}</figcaption></figure>"
    )


def _problems(found: findings.Findings) -> str:
    parts = []
    for title, rows in (
        ("Cannot be read", found.unreadable),
        ("Unpaired", [(each.path, each.reason) for each in found.of_kind("unpaired")]),
        ("Series of slices", [(each.path, each.reason) for each in found.of_kind("series")]),
        ("Names behind a claim of having none", [(each.path, each.reason) for each in found.of_kind("identity")]),
        ("Headers that contradict each other, the standard or the pixels", found.headers),
        ("Masks", [(each.path, each.reason) for each in found.of_kind("mask")]),
    ):
        if rows:
            table = markup.table(
                ("File", "Reason"), [[markup.text(path), markup.text(reason)] for path, reason in rows[:MOST_ROWS]]
            )
            parts.append(
                f'<h3>{title}: {len(rows):,}</h3><p class="muted">All of them stand in audit.json'
                f'{_first(len(rows), MOST_ROWS)}.</p><div class="card">{table}</div>'
            )
    return f"<h2>Files with faults</h2>{''.join(parts)}" if parts else ""


def _sheets(pages: Mapping[str, bytes]) -> str:
    if not pages:
        return ""
    parts = "".join(
        f'<details class="card sheet"><summary>{markup.text(name)}</summary>{_inline(data, "jpeg", name)}</details>'
        for name, data in list(pages.items())[:MOST_SHEETS]
    )
    meaning = "A sample of each class and split, also as PNG beside this page."
    return f'<h2>Contact sheets</h2><p class="muted">{meaning}</p>{parts}'


def _method(found: findings.Findings) -> str:
    facts = {
        "Data": found.case_set.name,
        "Fingerprint": groups.fingerprint(found.seen.records)[:12],
        "Seed": found.seed,
        "medkeras": version.VERSION,
        **{key: value for key, value in found.settings.items() if key.startswith("data.")},
    }
    return f'<h2>How it was made</h2><div class="card">{markup.facts(facts)}</div>'
