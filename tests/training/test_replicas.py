import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("two_replicas.py")
ROOT = SCRIPT.parents[2]


@pytest.fixture(scope="module")
def results():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_mirrored_strategy_takes_every_logical_cpu(results):
    assert results["replicas"] == 2


@pytest.mark.parametrize("run", ["clipped", "adamw", "arrays"])
def test_two_replicas_learn_and_measure_what_one_does(results, run):
    names = ["accuracy", "auc", "learning_rate", "loss", "val_accuracy", "val_auc", "val_loss"]
    assert results[run]["keys"] == names
    assert results[run]["weights"] < 1e-5
    assert results[run]["numbers"] < 1e-5


def test_the_clipped_gradient_is_that_of_both_replicas_together(results):
    assert results["clipped_step"] == pytest.approx(0.05, rel=1e-5)


def test_the_same_seed_gives_the_same_bytes(results):
    assert results["deterministic"] == {"same": True, "other": False}
