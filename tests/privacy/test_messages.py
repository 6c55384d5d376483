"""What a library says of a file may quote it: only its kind, or the system's words, reach a sentence of ours."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "medkeras"
LAYERS = ("guard", "data", "evaluation", "tasks", "audit", "privacy", "workflows")
MODULES = [path.relative_to(PACKAGE).as_posix() for name in LAYERS for path in sorted((PACKAGE / name).rglob("*.py"))]
# Ours: the sentence was written here.
OURS = {"SeriesError", "HeldBackError", "StatusError"}
SAFE = {"strerror", "errno", "filename", "path", "reason"}
# What is quoted there is no scan: a command line, the grammar of a CSV file, a data set's name, a module.
QUOTING = {
    "data/table.py": {"read_rows"},
    "data/tfds.py": {"_attempt"},
    "guard/worker.py": {"_load"},
    "evaluation/predictions.py": {"read_csv"},
    "workflows/front.py": {"parse", "answer"},
}


def handlers(tree: ast.AST) -> Iterator[tuple[str, ast.ExceptHandler]]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name:
                    yield function.name, node


def caught(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(kind) for kind in kinds}


def quotes(handler: ast.ExceptHandler) -> bool:
    """Whether the exception itself is used, not its type or a safe attribute, and not as a cause alone."""
    allowed = set()
    for node in ast.walk(handler):
        if isinstance(node, ast.Attribute) and node.attr in SAFE:
            allowed.add(id(node.value))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("type", "isinstance"):
            allowed |= {id(argument) for argument in node.args}
        if isinstance(node, ast.Raise) and node.cause is not None:
            allowed.add(id(node.cause))
    uses = [node for node in ast.walk(handler) if isinstance(node, ast.Name) and node.id == handler.name]
    return any(id(node) not in allowed for node in uses)


def quoting(source: str) -> set[str]:
    found = set()
    for name, handler in handlers(ast.parse(source)):
        ours = all(kind.startswith("errors.") or kind.rpartition(".")[2] in OURS for kind in caught(handler))
        if quotes(handler) and not ours:
            found.add(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_sentence_quotes_the_exception_of_a_library(module) -> None:
    assert quoting((PACKAGE / module).read_text(encoding="utf-8")) <= QUOTING.get(module, set())


@pytest.mark.parametrize("quote", ["f'{error}'", "str(error)", "error.args[0]", "f'{error.strerror or error}'"])
def test_a_sentence_that_quotes_is_seen(quote) -> None:
    source = "def read():\n    try:\n        pass\n    except {}:\n        raise ValueError({}) from None\n"
    assert quoting(source.format("Exception as error", quote)) == {"read"}
    assert quoting(source.format("(OSError, struct.error) as error", quote)) == {"read"}
    assert quoting(source.format("errors.RefusalError as error", quote)) == set()
    assert quoting(source.format("Exception as error", "type(error).__name__, error.strerror")) == set()
