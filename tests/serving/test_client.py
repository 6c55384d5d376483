"""The client against a real server over sockets: arrays, encoded images, files, refusals, tries."""

from __future__ import annotations

import io
import json
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from medkeras import errors
from medkeras.serving import access, access_log, client, engine, metrics, options, process, rest, status
from tests.serving import registries, sockets


def grey(images: tf.Tensor) -> dict[str, tf.Tensor]:
    mean = tf.reduce_mean(images, axis=[1, 2, 3])
    return {"probabilities": tf.stack([mean, 255 - mean], axis=1) / 255, "abstain": mean < 10}


class Model(tf.Module):
    """Answers with how bright an image is, under the signatures that an exported model has."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32, name="image")])
    def serve(self, image):
        return grey(image)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve_bytes(self, image_bytes):
        decode = lambda each: tf.cast(tf.io.decode_png(each, channels=1), tf.float32)  # noqa: E731
        return grey(tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32, name="image")])
    def explain(self, image):
        return {**grey(image), "heatmap": image / 255}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="name")])
    def greet(self, name):
        return {"greeting_bytes": tf.strings.join([name, b"!\x00\xff"])}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "1"
    model = Model()
    signatures = {"serving_default": model.serve, "serve_bytes": model.serve_bytes}
    tf.saved_model.save(model, str(folder), signatures={**signatures, "explain": model.explain, "greet": model.greet})
    return engine.Loaded(folder, intra_op_threads=1)


@pytest.fixture(scope="module")
def registry(loaded):
    return registries.Versions({"scans of a head": {1: loaded, 2: loaded}}, {"scans of a head": {"stable": 1}})


@pytest.fixture(scope="module")
def rest_port(registry):
    chosen = options.Options(port=0)
    log = access_log.AccessLog(io.StringIO())
    answer = lambda request, models: rest.answer(request, models, chosen)  # noqa: E731
    with sockets.serving(process.Parts(chosen, registry, answer, metrics.Metrics(), log)) as run:
        yield run.port
    log.close()


@pytest.fixture(scope="module")
def asking(rest_port):
    with client.Client(f"http://127.0.0.1:{rest_port}", "scans of a head") as found:
        yield found


IMAGES = np.stack([np.full((3, 4, 1), value, np.uint8) for value in (0, 51, 255)])
EXPECTED = {"probabilities": [[0, 1], [0.2, 0.8], [1, 0]], "abstain": [True, False, False]}


def test_what_the_signatures_are(asking) -> None:
    found = asking.signatures()
    assert found["serving_default"].inputs == {"image": client.Tensor(np.dtype(np.float32), (None, None, None, 1))}
    assert found["serve_bytes"].inputs["image_bytes"] == client.Tensor(np.dtype(object), (None,))
    assert found["explain"].outputs["abstain"].dtype == np.dtype(bool)


def test_arrays(asking) -> None:
    answer = asking.predict(IMAGES)
    assert {name: value.dtype for name, value in answer.items()} == {"probabilities": np.float32, "abstain": np.bool_}
    np.testing.assert_allclose(answer["probabilities"], EXPECTED["probabilities"], atol=1e-6)
    np.testing.assert_array_equal(answer["abstain"], EXPECTED["abstain"])


def test_explanations(asking) -> None:
    np.testing.assert_allclose(asking.explain(IMAGES)["heatmap"], IMAGES / np.float32(255), atol=1e-6)


def test_encoded_images(asking) -> None:
    encoded = [tf.io.encode_png(image).numpy() for image in IMAGES]
    np.testing.assert_allclose(asking.predict_bytes(encoded)["probabilities"], EXPECTED["probabilities"], atol=1e-6)


def test_files_of_one_frame_and_of_several(asking, tmp_path) -> None:
    Image.fromarray(IMAGES[1, ..., 0]).save(tmp_path / "one.png")
    np.testing.assert_allclose(asking.predict_file(tmp_path / "one.png")["probabilities"], [[0.2, 0.8]], atol=1e-6)
    with pytest.raises(errors.BadInputError):
        asking.predict_file(tmp_path / "none.png")


def test_a_dicom_file(asking) -> None:
    from pydicom import data as examples

    path = examples.get_testdata_file("CT_small.dcm")
    answer = asking.predict_file(path)
    assert answer["probabilities"].shape == (1, 2)


def test_bytes_come_back_as_they_were(asking) -> None:
    answer = asking.run("greet", {"name": np.array([b"a", b""], object)})
    assert answer["greeting_bytes"].tolist() == [b"a!\x00\xff", b"!\x00\xff"]


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ({"version": 2}, None),
        ({"label": "stable"}, None),
        ({"version": 9}, "NOT_FOUND"),
        ({"label": "x"}, "INVALID_ARGUMENT"),
    ],
)
def test_versions_and_labels(rest_port, which, code) -> None:
    with client.Client(f"http://127.0.0.1:{rest_port}", "scans of a head", **which) as found:
        if code is None:
            assert found.predict(IMAGES)["abstain"].tolist() == EXPECTED["abstain"]
        else:
            with pytest.raises(status.StatusError) as caught:
                found.predict(IMAGES)
            assert caught.value.code.name == code
        assert found.ready() == (code is None)


def test_a_refusal_of_the_graph(asking) -> None:
    with pytest.raises(status.StatusError) as caught:
        asking.predict_bytes([b"no image"])
    assert caught.value.code is status.Code.INVALID_ARGUMENT


def test_what_is_wrong_before_anything_is_sent(asking) -> None:
    with pytest.raises(errors.ConfigError, match="serving_defualt"):
        asking.predict(IMAGES, signature="serving_defualt")
    with pytest.raises(errors.ConfigError, match="imgae"):
        asking.run("serving_default", {"imgae": IMAGES})


@pytest.mark.parametrize(
    ("url", "options_"),
    [
        ("localhost:8501", {}),
        ("ftp://localhost", {}),
        ("http://", {}),
        ("http://localhost:1/v1", {}),
        ("http://hospital.example:8501", {"token": "secret"}),
        ("http://localhost:1", {"version": 1, "label": "stable"}),
        ("http://localhost:1", {"retries": 9}),
        ("grpcs://localhost:1", {"certificates": "nowhere.pem"}),
    ],
)
def test_servers_that_cannot_be(url, options_) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        client.Client(url, "m", **options_)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there(scheme) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with client.Client(f"{scheme}://127.0.0.1:{port}", "m", retries=0, timeout=2) as found:
        assert not found.ready()
        with pytest.raises(status.StatusError) as caught:
            found.predict(IMAGES)
    assert caught.value.code in (status.Code.UNAVAILABLE, status.Code.DEADLINE_EXCEEDED)


class Busy:
    """Answers 503 so many times, then with metadata of no signature; counts."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.calls = refusals, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.calls += 1
                busy = self.calls <= self.refusals
                inside = {"error": "busy"} if busy else {"metadata": {"signature_def": {"signature_def": {"s": {}}}}}
                line = "503 Busy" if busy else "200 OK"
                body = json.dumps(inside)
                connection.sendall(
                    f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
                )


@pytest.mark.parametrize(("refusals", "retries", "answers"), [(0, 0, True), (2, 3, True), (1, 0, False), (3, 2, False)])
def test_a_busy_server_is_asked_again(refusals, retries, answers) -> None:
    server = Busy(refusals)
    with server.socket, client.Client(f"http://127.0.0.1:{server.port}", "m", retries=retries) as found:
        if answers:
            assert set(found.signatures()) == {"s"}
        else:
            with pytest.raises(status.StatusError) as caught:
                found.signatures()
            assert (caught.value.code, caught.value.message) == (status.Code.UNAVAILABLE, "busy")
    assert server.calls == min(refusals, retries) + 1


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with (
            client.Client(f"http://127.0.0.1:{silent.getsockname()[1]}", "m", retries=0, timeout=0.3) as found,
            pytest.raises(status.StatusError),
        ):
            found.signatures()
        assert time.monotonic() - began < 10


def test_tokens(registry, tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"hospital {'t' * 40}\n")
    path.chmod(0o600)
    chosen = options.Options(port=0, token_file=str(path))
    log = access_log.AccessLog(io.StringIO())
    answer = lambda request, models: rest.answer(request, models, chosen)  # noqa: E731
    parts = process.Parts(chosen, registry, answer, metrics.Metrics(), log, tokens=access.Tokens(str(path)))
    with sockets.serving(parts) as run:
        url = f"http://127.0.0.1:{run.port}"
        with client.Client(url, "scans of a head", token="t" * 40) as found:
            assert found.predict(IMAGES)["abstain"].tolist() == EXPECTED["abstain"]
        with client.Client(url, "scans of a head") as found, pytest.raises(status.StatusError) as caught:
            found.predict(IMAGES)
        assert caught.value.code is status.Code.UNAUTHENTICATED
    log.close()
