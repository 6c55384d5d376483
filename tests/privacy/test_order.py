"""A file that is held back can be found: the report gives its place in an order that anybody can make again."""

from __future__ import annotations

import pathlib
import re

from medkeras.privacy import pseudonyms
from medkeras.workflows import deidentify

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "privacy.md"
# Folders before and after files of the same beginning: no walk of the folders gives this order.
NAMES = ("a-b", "a.txt", "a/b/c", "a/z", "a0", "B", "b/a", "ä", "é/x", "~")


def test_positions_follow_the_names_sorted_as_text(tmp_path) -> None:
    for name in NAMES:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text", encoding="utf-8")
    (tmp_path / "in" / "a" / "link").symlink_to(tmp_path)
    (tmp_path / "key").write_bytes(bytes(32))
    done = deidentify.deidentify([tmp_path / "in"], output=tmp_path / "out", key=tmp_path / "key")
    hashes = [entry["file"] for entry in done.report["files"]]
    wanted = sorted([*NAMES, "a/link"])
    assert hashes == [pseudonyms.pseudonym(bytes(32), name, prefix="f") for name in wanted]
    assert [entry["position"] for entry in done.report["files"]] == list(range(len(wanted)))


def test_the_lines_of_the_page_find_what_was_held_back(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text", encoding="utf-8")
    (tmp_path / "key").write_bytes(bytes(32))
    deidentify.deidentify(["scans"], output="clean", key="key")
    (lines,) = re.findall(r"^```python\n(import json\n.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(lines, PAGE.name, "exec"), {})
    told = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == sorted(NAMES)
