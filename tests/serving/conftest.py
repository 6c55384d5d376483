"""Models that many tests of the server share."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from medkeras.serving import engine
from tests.serving import golden, registries

_WRITTEN = ("multi", "types", "kseq", "kfun", "out")
_KEPT = {
    "half": "saved_model_half_plus_two_cpu",
    "three": "saved_model_half_plus_three",
    "tf2": "saved_model_half_plus_two_tf2_cpu",
    "two": "saved_model_half_plus_two_2_versions",
}


@pytest.fixture(scope="session")
def golden_folder() -> pathlib.Path:
    """Returns the folder of what was measured of TensorFlow Serving; skips where it is absent."""
    if not golden.FOLDER.is_dir():
        pytest.skip(f"nothing measured of TensorFlow Serving at {golden.FOLDER}")
    return golden.FOLDER


@pytest.fixture(scope="session")
def golden_models(golden_folder, tmp_path_factory) -> dict[str, pathlib.Path]:
    """Returns the base path of each model that the measurements speak of."""
    written = tmp_path_factory.mktemp("golden")
    command = [sys.executable, str(golden_folder / "golden_models.py"), str(written)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TF_NUM_INTRAOP_THREADS": "1"})
    kept = {name: golden_folder / "models" / folder for name, folder in _KEPT.items()}
    return {name: written / name for name in _WRITTEN} | kept


@pytest.fixture(scope="session")
def golden_registry(golden_models) -> registries.Versions:
    """Returns those models, all versions loaded, with the labels that they were measured with."""
    models = {
        name: {int(place.name): engine.Loaded(place, intra_op_threads=1) for place in base.iterdir()}
        for name, base in golden_models.items()
    }
    return registries.Versions(models, {"two": {"stable": 123, "canary": 124}})
