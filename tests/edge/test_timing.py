"""Measuring: whatever times are found, they are consistent, of the right model, and of no broken one."""

from __future__ import annotations

import itertools
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from medkeras import errors
from medkeras.edge import machine, timing, timing_litert, timing_onnx, timing_process, timing_tensorflow

# A runtime of which every moment is known: it tells each call in a file, and does what the model's name says.
RUNTIME = """
import os, pathlib, signal, time
import numpy as np
from medkeras.edge import timing_model

def load(path, threads, shape):
    if "refuses" in path:
        raise ValueError("this is no\\nmodel.")
    ballast = np.ones(64 * 2**17) if "heavy" in path else None

    def run(images):
        with open(pathlib.Path(path).parent / "calls", "a") as file:
            file.write(f"{pathlib.Path(path).name} {threads} {len(images)}\\n")
        if "dies" in path and len(images) > 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hangs" in path:
            time.sleep(60)
        time.sleep(0.002 * len(images))
        print("what a library prints is no reply")
        return {"mean": images.mean((1, 2, 3), dtype=np.float32), "bright": images.max((1, 2, 3)) > 100}, ballast

    return timing_model.Loaded(lambda images: run(images)[0], (4, 3, 1), "uint8")
"""
SHORT = timing.Plan(seconds=0.03, rounds=2, threads=(1, 2), batches=(1, 4))


@pytest.fixture
def subject(tmp_path, monkeypatch):
    """Returns a model of the runtime that is told what to do by its name."""
    (tmp_path / "runtime_of_a_test.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(timing_process.RUNTIMES, "test", "runtime_of_a_test")
    return lambda name: timing.Subject(name, tmp_path / name, "test", 7)


@pytest.fixture
def started(monkeypatch) -> list[timing_process.Process]:
    """The processes that were started."""
    found = []

    class Noted(timing_process.Process):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(timing_process, "Process", Noted)
    return found


def ended(processes: list[timing_process.Process]) -> bool:
    return all(process._process.returncode is not None for process in processes)


def test_figures_are_consistent(subject, started) -> None:
    found, faults = timing.measure([subject("one")], SHORT)
    one = found["one"]
    assert not faults
    assert (one["runtime"], one["size_bytes"], one["threads"], one["starts"]) == ("test", 7, 2, 2)
    assert one["input"] == {"shape": [4, 3, 1], "dtype": "uint8"}
    assert one["start_ms"] == pytest.approx(one["import_ms"] + one["load_ms"] + one["first_ms"])
    assert one["latency_ms"] == one["latency_ms_by_threads"]["2"]
    for latency in one["latency_ms_by_threads"].values():
        assert 2.0 <= latency["median"] <= latency["p95"] <= latency["p99"]
        assert latency["calls"] >= SHORT.rounds
    for by_batch in one["throughput"].values():
        assert list(by_batch) == ["1", "4"]
        # Two milliseconds a picture, and never less.
        assert all(0 < rate <= 500 for rate in by_batch.values())
    assert one["spread"] >= 1
    assert len(started) == 2
    assert ended(started)


def test_models_take_turns_and_another_is_first_in_each_round(subject, tmp_path) -> None:
    timing.measure([subject("one"), subject("two"), subject("three")], SHORT)
    lines = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    for threads in ("1", "2"):
        calls = [(name, batch) for name, at, batch in lines if at == threads]
        turns = [key for key, _ in itertools.groupby(calls)]
        names = ["one", "two", "three"]
        # The first answers, joined by the first turn of the model that has it at once after its start.
        assert turns[:3] == [(name, "1") for name in names]
        assert turns[3:6] == [(name, "1") for name in names]
        assert turns[6:9] == [(name, "4") for name in names]
        assert turns[9:] == [(name, "1") for name in ("two", "three", "one")]


def test_the_number_of_threads_reaches_the_runtime(subject, tmp_path) -> None:
    timing.measure([subject("one")], timing.Plan(seconds=0.01, rounds=1, threads=(1, 3), batches=(1,)))
    assert {line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()} == {"1", "3"}


def test_memory_is_the_models_own(subject) -> None:
    plan = timing.Plan(seconds=0.01, rounds=1, threads=(1,), batches=(1,))
    # The one that asks has far more, which a process that it starts does not count as its own.
    ballast = np.ones(300 * 2**17)
    found, _ = timing.measure([subject("light"), subject("heavy")], plan)
    light, heavy = (found[name]["peak_mib"] for name in ("light", "heavy"))
    assert ballast.nbytes == 300 * 2**20
    assert 5 < light < 150
    assert heavy - light == pytest.approx(64, abs=8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuses", r"cannot be run \(ValueError: this is no model\)"),
        ("dies", r"the process that ran it ended \(SIGSEGV\)"),
    ],
)
def test_a_model_at_fault_costs_the_others_nothing(subject, started, name, reason) -> None:
    found, faults = timing.measure([subject(name), subject("one")], SHORT)
    assert list(found) == ["one"]
    assert found["one"]["latency_ms"]["calls"] >= SHORT.rounds
    assert list(faults) == [name]
    assert faults[name].startswith(str(subject(name).path))
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(faults[name])
    assert ended(started)


def test_a_model_that_does_not_answer_is_not_waited_for(subject, monkeypatch, started) -> None:
    monkeypatch.setattr(timing_process, "_PATIENCE", 1.5)
    found, faults = timing.measure([subject("hangs")], SHORT)
    assert not found
    assert "SIGKILL" in faults["hangs"]
    assert ended(started)


def test_no_process_outlives_an_interruption(subject, started) -> None:
    def interrupted(jobs, total, description):
        assert total == len(jobs)
        yield from jobs[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timing.measure([subject("one"), subject("two")], SHORT, track=interrupted)
    assert len(started) == 2
    assert ended(started)


def test_answers_come_back_as_they_are(subject) -> None:
    process = timing_process.Process(subject("one").path, "test", threads=1)
    try:
        process.start()
        images = np.random.default_rng(1).integers(0, 256, (9, 4, 3, 1)).astype(np.uint8)
        answers = process.run(images)
    finally:
        process.end()
    np.testing.assert_array_equal(answers["mean"], images.mean((1, 2, 3), dtype=np.float32))
    np.testing.assert_array_equal(answers["bright"], images.max((1, 2, 3)) > 100)
    assert answers["bright"].dtype == bool


@pytest.mark.parametrize("values", [{"seconds": 0.0}, {"seconds": float("nan")}, {"rounds": 0}])
def test_a_plan_without_time_is_refused(values) -> None:
    with pytest.raises(errors.ConfigError, match="Received: "):
        timing.Plan(**values)


def test_a_plan_counts_threads_up_to_the_processors() -> None:
    assert [timing.threads_up_to(n) for n in (1, 2, 3, 8, 12)] == [
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 4, 8),
        (1, 2, 4, 8, 12),
    ]


@pytest.fixture(scope="module")
def network() -> tf.Module:
    module = tf.Module()
    module.kernel = tf.Variable(tf.random.stateless_normal((12, 2), seed=(1, 2)))
    return module


def function(network: tf.Module, batch: int | None, dtype: tf.DType) -> tf.types.experimental.ConcreteFunction:
    @tf.function(input_signature=[tf.TensorSpec((batch, 4, 3, 1), dtype, name="image")])
    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.reshape(tf.cast(image, tf.float32), (-1, 12)) / 255.0
        return {"probabilities": tf.nn.softmax(pixels @ network.kernel)}

    return answer.get_concrete_function()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (7, 4, 3, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(network, images) -> np.ndarray:
    return tf.nn.softmax(images.reshape(7, 12).astype(np.float32) / 255 @ network.kernel).numpy()


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_tflite_file_answers_for_any_number_whatever_its_batch(network, images, expected, tmp_path, batch) -> None:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function(network, batch, tf.uint8)], network)
    path = tmp_path / "a.tflite"
    path.write_bytes(converter.convert())
    loaded = timing_litert.load(str(path), threads=1)
    assert (loaded.shape, loaded.dtype) == ((4, 3, 1), "uint8")
    for count in (7, 1, 2, 3):
        (answer,) = loaded.answer(images[:count]).values()
        np.testing.assert_allclose(answer, expected[:count], rtol=1e-5)
    assert loaded.pixels(5).shape == (5, 4, 3, 1)
    assert loaded.pixels(5).dtype == np.uint8


@pytest.fixture
def begun(monkeypatch) -> None:
    """What is set before TensorFlow computes cannot be set in this process, which has long begun."""
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(timing_tensorflow.tf.config.threading, name, lambda threads: None)


@pytest.mark.usefixtures("begun")
def test_a_saved_model_answers_as_the_network_does(network, images, expected, tmp_path) -> None:
    module = tf.Module()
    module.network = network
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": function(network, None, tf.float32)})
    loaded = timing_tensorflow.load(str(tmp_path), 1, (4, 3, 1))
    assert (loaded.shape, loaded.dtype) == ((4, 3, 1), "float32")
    kinds, contents = loaded.answer_bytes(images.astype(np.float32).tobytes(), len(images))
    assert kinds == [("probabilities", [7, 2], "float32")]
    np.testing.assert_allclose(np.frombuffer(contents[0], np.float32).reshape(7, 2), expected, rtol=1e-5)


@pytest.mark.usefixtures("begun")
def test_a_saved_model_without_our_signature_is_refused(tmp_path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="no signature serving_default"):
        timing_tensorflow.load(str(tmp_path), 1, (4, 3, 1))


def test_what_is_no_picture_is_refused(tmp_path) -> None:
    @tf.function(input_signature=[tf.TensorSpec((1, 12), tf.float32, name="image")])
    def answer(image: tf.Tensor) -> tf.Tensor:
        return image * 2.0

    path = tmp_path / "a.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([answer.get_concrete_function()]).convert())
    with pytest.raises(ValueError, match=r"no picture of stored values \[B, H, W, C\] but float32 \[1, 12\]"):
        timing_litert.load(str(path), threads=1)


def test_what_is_missing_for_onnx_is_told_in_a_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install medkeras\[onnx\]"):
        timing_onnx.load("any.onnx", 1)


@pytest.mark.parametrize(
    ("cpuinfo", "name", "sets"),
    [
        (
            "processor\t: 0\nmodel name\t: Some Xeon\nflags\t\t: avx avx2 avx512f avx512_vnni amx_int8\n\n",
            "Some Xeon",
            ["AVX2", "AVX-512", "AVX512-VNNI", "AMX-INT8"],
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd asimddp asimdhp\n\nHardware\t: BCM\nModel\t\t: Raspberry Pi 5\n",
            "Raspberry Pi 5",
            ["NEON", "NEON FP16", "NEON dotprod"],
        ),
        ("", "", []),
    ],
)
def test_a_processor_is_known_by_what_the_system_says(cpuinfo, name, sets) -> None:
    assert machine.processor(cpuinfo) == name
    assert machine.instructions(cpuinfo) == sets


def test_a_machine_describes_itself() -> None:
    found = machine.describe()
    assert found["processor"]
    assert found["processors"] == machine.processors() >= 1
    assert found["libraries"]["tensorflow"] == tf.__version__
    assert pathlib.Path("/proc/cpuinfo").exists() is bool(found["instructions"])
