"""One SavedModel in its session: what it takes, what it refuses, what it does not hold against a request."""

from __future__ import annotations

import pathlib
import shutil
import threading

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from medkeras.serving import engine, status


class Model(tf.Module):
    """A signature for each thing that may go wrong."""

    def __init__(self) -> None:
        self.count = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def half(self, x):
        return {"y": x / 2, "rows": tf.shape(x)[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def strings(self, s):
        return {"s": s, "joined": tf.strings.reduce_join(s)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.bfloat16, name="x")])
    def brain(self, x):
        return {"y": x * 2}

    @tf.function(input_signature=[])
    def increment(self):
        return {"count": self.count.assign_add(1)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="steps")])
    def slow(self, steps):
        return {"y": tf.while_loop(lambda i: i < steps, lambda i: (i + 1,), [tf.constant(0)])[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def parse(self, examples):
        return {"y": tf.io.parse_example(examples, {"p": tf.io.FixedLenFeature([1], tf.float32)})["p"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("engine") / "1"
    model = Model()
    names = ("half", "strings", "brain", "increment", "slow", "parse")
    tf.saved_model.save(model, str(place), signatures={name: getattr(model, name) for name in names})
    return place


@pytest.fixture(scope="module")
def loaded(folder):
    with_threads = engine.Loaded(folder, intra_op_threads=1, inter_op_threads=2)
    yield with_threads
    with_threads.close()


def test_signatures_are_those_of_the_graph(loaded) -> None:
    assert {"half", "strings", "brain", "increment", "slow", "parse"} <= set(loaded.signatures)
    assert "\udcdb" not in loaded.signatures
    assert loaded.signatures["half"].inputs["x"].dtype == tf.float32.as_datatype_enum


@pytest.mark.parametrize("shape", [(3, 1), (2, 5), (4,), (0, 1), (1, 2, 3)])
def test_a_declared_shape_is_not_enforced(loaded, shape) -> None:
    x = np.full(shape, 3, np.float32)
    answer = loaded.run("half", {"x": x}, ["y", "rows"])
    np.testing.assert_array_equal(answer["y"], x / 2)
    assert answer["y"].dtype == np.float32
    assert answer["rows"] == shape[0]


def test_strings_keep_their_bytes(loaded) -> None:
    given = np.array([b"a\x00", b"", b"\xff\x00\x00"], object)
    answer = loaded.run("strings", {"s": given}, ["s", "joined"])
    assert answer["s"].tolist() == given.tolist()
    assert answer["joined"].item() == b"a\x00\xff\x00\x00"


def test_bfloat16(loaded) -> None:
    answer = loaded.run("brain", {"x": np.array([1.5, -2], ml_dtypes.bfloat16)}, ["y"])["y"]
    assert answer.dtype == ml_dtypes.bfloat16
    assert answer.astype(np.float32).tolist() == [3, -4]


def test_state_is_the_models_and_each_loaded_model_has_its_own(loaded, folder) -> None:
    assert [int(loaded.run("increment", {}, ["count"])["count"]) for _ in range(2)] == [1, 2]
    other = engine.Loaded(folder, intra_op_threads=1)
    assert int(other.run("increment", {}, ["count"])["count"]) == 1
    other.close()


def test_a_wrong_type_is_told_as_tensorflow_serving_tells_it(loaded) -> None:
    with pytest.raises(status.StatusError) as caught:
        loaded.run("half", {"x": np.array([b"a"], object)}, ["y"])
    assert caught.value.code is status.Code.INVALID_ARGUMENT
    assert caught.value.message == "Expects arg[0] to be float but string is provided"


def test_what_the_graph_refuses_keeps_its_code_and_words(loaded) -> None:
    with pytest.raises(status.StatusError) as caught:
        loaded.run("parse", {"examples": np.array([b""], object)}, ["y"])
    assert caught.value.code is status.Code.INVALID_ARGUMENT
    assert "is required but could not be found" in caught.value.message


def test_words_that_quote_bytes_of_the_input(loaded) -> None:
    with pytest.raises(status.StatusError) as caught:
        loaded.run("parse", {"examples": np.array([b"\xff\xfe\x80"], object)}, ["y"])
    assert caught.value.code is status.Code.INVALID_ARGUMENT


def test_a_run_that_takes_too_long_is_given_up_and_the_next_one_runs(loaded) -> None:
    with pytest.raises(status.StatusError) as caught:
        loaded.run("slow", {"steps": np.int32(2_000_000_000)}, ["y"], timeout=0.3)
    assert caught.value.code is status.Code.DEADLINE_EXCEEDED
    assert loaded.run("slow", {"steps": np.int32(10)}, ["y"], timeout=30)["y"] == 10


def test_many_threads(loaded) -> None:
    faults = []

    def ask(number: int) -> None:
        for _ in range(30):
            x = np.full((2, 1), number, np.float32)
            if not np.array_equal(loaded.run("half", {"x": x}, ["y"])["y"], x / 2):
                faults.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def copy(folder, place):
    shutil.copytree(folder, place)
    return place


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda place: (place / "saved_model.pb").unlink(), "NOT_FOUND"),
        (lambda place: (place / "saved_model.pb").write_bytes((place / "saved_model.pb").read_bytes()[:200]), None),
        (lambda place: (place / "saved_model.pb").write_bytes(b"\x00" * 100), None),
        (lambda place: next((place / "variables").glob("*.index")).unlink(), None),
        (lambda place: next((place / "variables").glob("*.data*")).write_bytes(b""), None),
        (lambda place: next((place / "variables").glob("*.data*")).unlink(), None),
    ],
    ids=["no graph", "half a graph", "zeros", "no index", "empty data", "no data"],
)
def test_folders_that_hold_no_whole_model(folder, tmp_path, spoil, code) -> None:
    place = copy(folder, tmp_path / "2")
    spoil(place)
    with pytest.raises(status.StatusError) as caught:
        engine.Loaded(place, intra_op_threads=1)
    assert code is None or caught.value.code.name == code
    assert str(tmp_path) not in caught.value.message
    assert "Graph execution error" not in caught.value.message


def test_tags_that_the_model_has_not(folder) -> None:
    with pytest.raises(status.StatusError):
        engine.Loaded(folder, tags=["train"])


def write_of_tensorflow_1(place: pathlib.Path) -> None:
    """Writes `y = w * x + table[name]` as TensorFlow 1 wrote models: reference variables, a table, an initialiser."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        scale = tf.compat.v1.get_variable("w", initializer=3.0, use_resource=False)
        assert scale.op.type == "VariableV2"
        entries = tf.lookup.KeyValueTensorInitializer(["a", "b"], [10.0, 20.0])
        table = tf.lookup.StaticHashTable(entries, -1.0)
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        name = tf.compat.v1.placeholder(tf.string, [None], name="name")
        y = tf.add(scale * x, table.lookup(name), name="y")
        session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()])
        builder = tf.compat.v1.saved_model.Builder(str(place))
        info = tf.compat.v1.saved_model.build_tensor_info
        signature = tf.compat.v1.saved_model.build_signature_def(
            {"x": info(x), "name": info(name)}, {"y": info(y)}, "tensorflow/serving/predict"
        )
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=tf.compat.v1.tables_initializer()
        )
        builder.save()


def test_a_model_of_tensorflow_1(tmp_path) -> None:
    write_of_tensorflow_1(tmp_path / "1")
    model = engine.Loaded(tmp_path / "1")
    feeds = {"x": np.array([1, 2, 3], np.float32), "name": np.array([b"a", b"b", b"?"], object)}
    np.testing.assert_array_equal(model.run("serving_default", feeds, ["y"])["y"], [13, 26, 8])
    model.close()
