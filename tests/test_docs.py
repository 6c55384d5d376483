"""What the pages say is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags

import main  # noqa: F401  defines the flags
import medkeras
from medkeras import config
from medkeras.export import card
from medkeras.serving import options
from medkeras.workflows import commands

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LARGEST_FILE = 1_000_000
# Written as patterns, so that this file is not what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.*}/-])/(?:work|root|home/\w+)/")
REGISTRIES = re.compile(r"(?:pypi|pythonhosted|npmjs|proxy\.golang|deb\.debian|conda\.anaconda)\.(?:org|com|io)", re.I)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def label(page: pathlib.Path) -> str:
    return page.relative_to(ROOT).as_posix()


def rows(text: str, heading: str) -> list[list[str]]:
    """Returns the cells of the first table after a heading, without its two header lines."""
    lines = text.split(f"{heading}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def tracked() -> list[pathlib.Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git working tree")
    return [path for path in (ROOT / name for name in listed.stdout.split("\0") if name) if path.is_file()]


def accepted(field: dataclasses.Field) -> str:
    low, high = field.metadata["low"], field.metadata["high"]
    if field.metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in field.metadata["choices"])
    if field.type == "bool":
        return "`true`, `false`"
    if math.isfinite(low) or math.isfinite(high):
        return f"{low:.10g} to {high:.10g}"
    return "text"


def default(field: dataclasses.Field) -> str:
    value = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}"
    return f"`{value}`" if value else "empty"


def setting_rows() -> list[list[str]]:
    return [
        [f"`{name}`", default(field), accepted(field), field.metadata["help"]]
        for name, field in config.fields().items()
    ]


def test_the_settings_table_is_the_code() -> None:
    assert rows(read("docs/settings.md"), "## All settings") == setting_rows()


def test_every_mode_is_documented_and_no_other() -> None:
    documented = re.findall(r"^### `--mode=(\w+)`", read("docs/command_line.md"), re.M)
    assert sorted(documented) == sorted(commands.MODES)
    assert all(f"`{mode}`" in read("README.md") for mode in commands.MODES)


def test_every_flag_is_documented_and_no_other() -> None:
    defined = {flag.name: flag for flag in flags.FLAGS.flags_by_module_dict()["main"]}
    table = {
        re.match(r"`--(\w+)", cells[0]).group(1): cells for cells in rows(read("docs/command_line.md"), "## Flags")
    }
    server = {f"--{field.name}" for field in dataclasses.fields(options.Options)}
    assert {f"--{name}" for name in table} | server == {f"--{name}" for name in defined}


def test_the_table_of_the_servers_flags_is_the_code() -> None:
    fields = dataclasses.fields(options.Options)
    expected = [[f"`--{field.name}`", default(field), field.metadata["help"]] for field in fields]
    assert rows(read("docs/command_line.md"), "## Flags of `--mode=serve`") == expected


def test_the_help_of_mode_names_every_mode() -> None:
    assert set(re.findall(r"\w+", flags.FLAGS["mode"].help)) - {"or"} == set(commands.MODES)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_flags_in_commands_exist(page) -> None:
    commands = re.findall(r"python main\.py[^`\n]*", page.read_text(encoding="utf-8"))
    used = {name for command in commands for name in re.findall(r"--(\w+)", command)}
    assert used <= {*flags.FLAGS, "help"}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_settings_in_commands_can_be_set(page) -> None:
    for key, value in re.findall(r"--set[ =]([\w.]+)=([^\s`]+)", page.read_text(encoding="utf-8")):
        if key == "section.field":
            continue
        assert key in config.fields(), f"--set {key}"
        if not re.search(r"[A-Z…]{2}|…", value):
            config.Config().override([f"{key}={value}"])


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_relative_links_lead_somewhere(page) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?://|mailto:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_python_blocks_compile(page) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_recipes_named_exist(page) -> None:
    for name in re.findall(r"--recipe=([a-z]\w*)", page.read_text(encoding="utf-8")):
        assert (ROOT / "pipelines" / f"{name}.py").is_file()


def test_the_readme_lists_every_recipe() -> None:
    recipes = {path.stem for path in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    assert {cells[0].strip("`") for cells in rows(read("README.md"), "## Recipes")} == recipes


def test_the_dependencies_are_the_requirements() -> None:
    lines = [line for line in read("requirements.txt").splitlines() if line and not line.startswith("#")]
    required = [re.split(r"[<>=~! ]", line)[0] for line in lines]
    assert [cells[0].strip("`") for cells in rows(read("README.md"), "## Dependencies")] == required
    assert all(cells[1] for cells in rows(read("README.md"), "## Dependencies"))


def test_the_card_is_documented() -> None:
    documented = [cells[0].strip("`") for cells in rows(read("docs/model_folder.md"), "## card.json")]
    assert documented == [field.name for field in dataclasses.fields(card.Card)]


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\((\w+\.md)\)", read("docs/index.md")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_changelog_knows_this_version() -> None:
    assert re.search(rf"^## {re.escape(medkeras.__version__)}\b", read("CHANGELOG.md"), re.M)


def test_no_file_names_a_machine_or_a_registry() -> None:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            text = content.decode("utf-8", "replace")
            for pattern in (MACHINE_PATHS, REGISTRIES):
                found = pattern.search(text)
                assert not found, f"{label(path)}: {found.group() if found else ''}"


def test_files_are_small() -> None:
    large = {label(path): path.stat().st_size for path in tracked() if path.stat().st_size > LARGEST_FILE}
    assert large == {}


def test_json_in_the_pages_is_json() -> None:
    for page in PAGES:
        for block in re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            json.loads(block)


def test_the_example_of_the_training_page_runs_and_learns(tmp_path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", read("docs/training.md"), re.M | re.S)
    # In a process of its own, for it makes every later operation deterministic.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    accuracies = json.loads(done.stdout.splitlines()[-1])
    assert len(accuracies) == 5
    assert accuracies[-1] > 0.9
