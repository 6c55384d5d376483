"""The public names, and what every public function owes its reader."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

import medkeras

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "medkeras").rglob("*.py"))
NAMES = [
    "BadInputError",
    "Config",
    "ConfigError",
    "DataError",
    "DivergedError",
    "InternalError",
    "MODELS",
    "MedkerasError",
    "ModelError",
    "UserError",
    "audit_data",
    "benchmark",
    "compare",
    "convert",
    "crossval",
    "deidentify",
    "deploy",
    "evaluate",
    "evaluate_predictions",
    "export_model",
    "predict",
    "serve",
    "train",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Yields public functions, and public methods of public classes; overloads and nested functions aside."""
    for node in body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)


def arguments(function: Function) -> list[ast.arg]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    starred = [each for each in (given.vararg, given.kwarg) if each is not None]
    return [each for each in (*named, *starred) if each.arg not in ("self", "cls")]


def tree_of(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def label(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_public_names_are_these() -> None:
    assert medkeras.__all__ == NAMES
    assert len(NAMES) <= 30
    assert dir(medkeras) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_and_a_place_in_the_docs(name) -> None:
    value = getattr(medkeras, name)
    assert isinstance(value, Mapping) or inspect.getdoc(value)
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert re.search(rf"\b{name}\b", pages)


@pytest.mark.parametrize("name", ["evaluate", "export_model", "predict", "train"])
def test_a_mode_is_a_function_whatever_else_is_imported(name) -> None:
    for module in ("medkeras.export.card", "medkeras.evaluation.report", "medkeras.workflows.export"):
        importlib.import_module(module)
    assert inspect.isfunction(getattr(medkeras, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'medkeras' has no attribute 'fit'"):
        medkeras.fit  # noqa: B018


def test_importing_the_package_does_not_load_tensorflow() -> None:
    code = "import sys, medkeras; print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_public_functions_say_what_they_do_and_take(path) -> None:
    for function in public_functions(tree_of(path).body):
        where = f"{label(path)}:{function.lineno} {function.name}"
        assert ast.get_docstring(function), f"{where} has no docstring"
        assert function.returns is not None, f"{where} does not say what it returns"
        bare = [each.arg for each in arguments(function) if each.annotation is None]
        assert not bare, f"{where} leaves {bare} without a type"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_documented_arguments_exist(path) -> None:
    for function in public_functions(tree_of(path).body):
        block = re.search(r"^Args:\n((?: .*\n|\n)*)", ast.get_docstring(function) or "", re.M)
        documented = set(re.findall(r"^ {4}\*{0,2}(\w+):", block.group(1), re.M)) if block else set()
        unknown = documented - {each.arg for each in arguments(function)}
        assert not unknown, f"{label(path)}:{function.lineno} documents {unknown}"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_the_library_does_not_print_or_assert(path) -> None:
    for node in ast.walk(tree_of(path)):
        printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not printed, f"{label(path)}:{node.lineno} prints"
        assert not isinstance(node, ast.Assert), f"{label(path)}:{node.lineno} asserts"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_a_module_says_what_it_is(path) -> None:
    tree = tree_of(path)
    assert not tree.body or ast.get_docstring(tree), f"{label(path)} has no docstring"
