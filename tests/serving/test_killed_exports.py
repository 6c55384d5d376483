"""Exporters killed at any moment: a server that watches the folder loads whole versions and nothing else."""

from __future__ import annotations

import pathlib
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from medkeras.serving import engine, manager, verified, versions

KILLS = 50
# Publishes one version after another, a file at a time in small pieces, as the export does; nothing of TensorFlow.
EXPORTER = """
import pathlib, sys, time
from medkeras.export import versions
source, base = map(pathlib.Path, sys.argv[1:])
print("ready", flush=True)
while True:
    with versions.new_version(base, versions.next_version(base)) as folder:
        for path in sorted(source.rglob("*")):
            place = folder / path.relative_to(source)
            if path.is_dir():
                place.mkdir()
                continue
            content = path.read_bytes()
            with open(place, "wb") as file:
                for start in range(0, len(content), 1 + len(content) // 8):
                    file.write(content[start : start + 1 + len(content) // 8])
                    file.flush()
                    time.sleep(0.001)
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("saved") / "model"

    class Triple(tf.Module):
        def __init__(self) -> None:
            self.factor = tf.Variable(tf.fill([2000], 3.0))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": x * tf.reduce_mean(self.factor)}

    model = Triple()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.__call__})
    return folder


def sums(folder: pathlib.Path, place: pathlib.Path) -> str:
    found = subprocess.run(
        ["sh", "-c", "find . -type f | xargs sha256sum"], cwd=folder, check=True, capture_output=True, text=True
    )
    place.write_text(found.stdout)
    return str(place)


def test_no_partial_version_is_ever_loaded(saved, tmp_path) -> None:
    base, draw = tmp_path / "models", random.Random(0)
    base.mkdir()
    verifier = verified.Verifier(sums(saved, tmp_path / "SHA256SUMS"))
    loads: list[int] = []

    def load(_: str, number: int, folder: pathlib.Path) -> engine.Loaded:
        loads.append(number)
        verifier.check(folder)
        return engine.Loaded(folder, intra_op_threads=1, inter_op_threads=1)

    kept = manager.Manager(load, manager.Timing(poll=0.005, retries=0, interval=0))
    kept.start(versions.single("triple", str(base)))
    try:
        for _ in range(KILLS):
            _kill_an_exporter(saved, base, after=draw.uniform(0, 0.12))
        kept.wait(threading.Event())
        states = kept.states("triple")
        assert {each.code for each in states} == {"OK"}
        assert len(set(loads)) >= 10
        with kept.lease("triple") as lease:
            np.testing.assert_array_equal(
                lease.servable.run("serving_default", {"x": np.float32([1, 2])}, ["y"])["y"], [3, 6]
            )
    finally:
        kept.close()
    assert any(each.name.startswith("tmp-") for each in base.iterdir()), "no exporter was killed while it wrote"


def _kill_an_exporter(saved: pathlib.Path, base: pathlib.Path, *, after: float) -> None:
    command = [sys.executable, "-c", EXPORTER, str(saved), str(base)]
    exporter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert exporter.stdout is not None
    assert exporter.stdout.readline() == "ready\n"
    threading.Event().wait(after)
    exporter.kill()
    exporter.wait()
    exporter.stdout.close()
