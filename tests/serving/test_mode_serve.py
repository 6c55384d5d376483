"""The mode serve, from its command line to its ports."""

from __future__ import annotations

import http.client
import json
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from medkeras import errors
from medkeras.export import card
from medkeras.serving import options
from medkeras.workflows import serving
from tests.serving import sockets, test_process

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 90
TOKEN = {"authorization": "Bearer 0123456789abcdef"}


class HalfPlusTwo(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x / 2 + 2}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("half") / "1"
    module = HalfPlusTwo()
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return folder


class Program:
    """`main.py --mode=serve` as a process; what it says on standard error, line by line."""

    def __init__(self, *flags: str) -> None:
        self.port, self.grpc_port = test_process.free_port(), test_process.free_port()
        ports = (f"--port={self.grpc_port}", f"--rest_api_port={self.port}")
        command = [sys.executable, "main.py", "--mode=serve", *ports, *flags]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=lambda: [self.lines.put(line) for line in self.process.stderr], daemon=True).start()

    def says(self, words: str) -> None:
        """Waits for a line that holds words."""
        while words not in self.lines.get(timeout=PATIENCE):
            pass

    def ask(self, method: str, target: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(sockets.HOST, self.port, timeout=PATIENCE)
        connection.request(method, target, body=body, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def predict(self, **metadata: str) -> predict_pb2.PredictResponse:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
        with grpc.insecure_channel(f"{sockets.HOST}:{self.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return stub.Predict(request, metadata=tuple(metadata.items()), timeout=PATIENCE)

    def end(self) -> tuple[int, list[str]]:
        """Ends it as a container's runtime does; returns the exit code and what it wrote on standard output."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE)
        return code, self.process.stdout.read().splitlines()


@pytest.fixture
def start():
    started = []

    def begin(*flags: str) -> Program:
        started.append(Program(*flags))
        return started[-1]

    yield begin
    for program in started:
        program.process.kill()
        program.process.communicate()


def test_ports_open_with_the_first_version_and_a_signal_ends_it(start, saved, tmp_path) -> None:
    base = tmp_path / "half"
    base.mkdir()
    tokens = tmp_path / "tokens"
    tokens.write_text("tester 0123456789abcdef\n")
    program = start(
        f"--model_base_path={base}",
        "--model_name=half",
        "--allow_unverified_models",
        f"--token_file={tokens}",
        "--json",
    )
    program.says("a model is code")
    program.says("Waiting for model half: its base path holds no version yet")
    with pytest.raises(ConnectionRefusedError):
        program.ask("GET", "/v1/models/half")
    shutil.copytree(saved, tmp_path / "tmp-1")
    (tmp_path / "tmp-1").rename(base / "1")
    program.says(f"http://127.0.0.1:{program.port}")
    asked = ("POST", "/v1/models/half:predict", '{"instances": [1.0, 2.0]}')
    assert program.ask(*asked)[0] == 401
    status, body = program.ask(*asked, **TOKEN)
    assert (status, json.loads(body)) == (200, {"predictions": [2.5, 3.0]})
    np.testing.assert_array_equal(tf.make_ndarray(program.predict(**TOKEN).outputs["y"]), [2.5, 3.0])
    with pytest.raises(grpc.RpcError) as refused:
        program.predict()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    code, lines = program.end()
    calls = [json.loads(line) for line in lines]
    assert code == 0
    assert calls.pop() == {"mode": "serve"}
    assert [(call["status"], call["user"], call["version"]) for call in calls] == [
        *((401, "", 0), (200, "tester", 1)),
        *((200, "tester", 1), (401, "", 0)),
    ]
    assert str(base) not in "".join(lines)


def test_a_signal_ends_it_while_it_waits(start, tmp_path) -> None:
    program = start(f"--model_base_path={tmp_path}")
    program.says("Waiting for model default")
    assert program.end()[0] == 0


def serve(*models: pathlib.Path, **flags) -> str:
    with pytest.raises(errors.UserError) as refused:
        serving.serve(models, options.from_flags(flags), tell=lambda _: None)
    return str(refused.value)


def test_a_model_without_a_card_is_refused_at_once(saved) -> None:
    assert "--allow_unverified_models" in serve(model_base_path=str(saved.parent))
    assert "--allow_unverified_models" in serve(saved)


def test_a_model_that_was_changed_is_refused_at_once(saved, tmp_path) -> None:
    folder = tmp_path / "half" / "1"
    shutil.copytree(saved, folder)
    card.write(card.Card(name="half", version=1, task={}, input={}, model={}, training={}), folder)
    (folder / "saved_model.pb").write_bytes(b"another graph")
    assert "another saved_model.pb" in serve(folder.parent, allow_unverified_models=True)


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no graph")
    told = serve(model_base_path=str(tmp_path), allow_unverified_models=True, max_num_load_retries=0)
    assert told.startswith("Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: ")
    assert str(tmp_path) not in told


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "needs --model, --model_base_path or --model_config_file"),
        ({"model_base_path": "relative"}, "to have an absolute path or URI; got base_path()=relative"),
        ({"model_base_path": "/x", "token_file": "/no/such/file"}, "/no/such/file: No such file"),
        ({"model_base_path": "/x", "model_hashes_file": "/no/such/file"}, "text file that can be read"),
    ],
)
def test_mistakes(flags, words) -> None:
    assert words in serve(**flags)


def test_models_are_folders_of_versions_or_versions(saved, tmp_path) -> None:
    assert "a folder of numbered versions" in serve(tmp_path / "absent")
    assert "Received: --model and another" in serve(saved, model_base_path="/x")
    other = tmp_path / saved.parent.name / "1"
    shutil.copytree(saved, other)
    assert "differ in name" in serve(saved, other)
    shutil.copytree(saved, tmp_path / "half" / "newest")
    assert "a folder of numbered versions" in serve(tmp_path / "half" / "newest")
