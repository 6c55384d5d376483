"""How many requests a second does our server answer, beside MLServer and Triton?

Exports two networks with random weights: `cnn` at 28x28, which takes no time, so that a server meets its own cost, and
`resnet` at 96x96, which takes all there is. Each is served by `--mode=serve --enable_batching`, by MLServer with a
runtime of a few lines around the same SavedModel, and by Triton, as pytriton runs it around a function of a few lines;
all with adaptive batching, each in processes of its own. 32 clients ask each of them over gRPC for one image as a
float32 tensor, in rounds that take turns. Prints requests a second, the clients' median and 99th percentile, the
processor milliseconds that a request took in the server and all its processes, and the ratio of our rate to theirs.

    apt-get install nghttp2-client
    python3.11 -m venv MLSERVER
    MLSERVER/bin/pip install mlserver==1.7.1 tensorflow-cpu==2.21.* "protobuf<7" "uvloop<0.22"
    /usr/bin/python3 -m venv TRITON
    TRITON/bin/pip install nvidia-pytriton tensorflow-cpu==2.21.* "numpy<2"
    PYTHONPATH=. python benchmarks/serving_peers.py --mlserver=MLSERVER [--triton=TRITON] [--clients=32] [--rounds=5]

Triton's own libraries want the system's Python.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import statistics
import tempfile
from collections.abc import Iterator

import grpc
import numpy as np
import serving
import serving_load

MODELS = {"cnn": (28, 1), "resnet": (96, 3)}
METHOD = "/inference.GRPCInferenceService/ModelInfer"
RUNTIME = """
import mlserver, mlserver.codecs, mlserver.types, tensorflow as tf

class Runtime(mlserver.MLModel):
    async def load(self):
        self._model = tf.saved_model.load(self.settings.parameters.uri)
        self._call = self._model.signatures["serving_default"]
        return True

    async def predict(self, payload):
        image = mlserver.codecs.NumpyCodec.decode_input(payload.inputs[0])
        found = self._call(image=tf.constant(image))["probabilities"].numpy()
        output = mlserver.codecs.NumpyCodec.encode_output("probabilities", found)
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=[output])
"""
FUNCTION = """
import sys
import numpy as np, tensorflow as tf
from pytriton import decorators, triton
from pytriton.model_config import ModelConfig, Tensor

folder, side, channels, http, grpc = sys.argv[1], *map(int, sys.argv[2:])
model = tf.saved_model.load(folder)
call = model.signatures["serving_default"]

@decorators.batch
def infer(image):
    return {"probabilities": call(image=tf.constant(image))["probabilities"].numpy()}

config = triton.TritonConfig(http_port=http, grpc_port=grpc, allow_metrics=False)
with triton.Triton(config=config) as server:
    server.bind(
        "model", infer, [Tensor(name="image", dtype=np.float32, shape=(side, side, channels))],
        [Tensor(name="probabilities", dtype=np.float32, shape=(-1,))], config=ModelConfig(max_batch_size=64),
    )
    server.serve()
"""


def varint(number: int) -> bytes:
    """Returns a number as protocol buffers write it."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def field(number: int, content: bytes) -> bytes:
    """Returns a field of a protocol buffer that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def infer_request(picture: np.ndarray) -> bytes:
    """Returns a ModelInferRequest of the KServe protocol, version 2, its image as raw content."""
    image = picture[np.newaxis].astype(np.float32)
    shape = b"".join(map(varint, image.shape))
    tensor = field(1, b"image") + field(2, b"FP32") + field(3, shape)
    return field(1, b"model") + field(5, tensor) + field(7, image.tobytes())


def peer_target(server: int, port: int, picture: np.ndarray) -> serving_load.Target:
    """Returns ModelInfer with one image, tried once."""
    request = infer_request(picture)
    with grpc.insecure_channel(f"{serving_load.HOST}:{port}") as channel:
        answer = channel.unary_unary(METHOD)(request, timeout=60)
    url = f"http://{serving_load.HOST}:{port}{METHOD}"
    # An answer holds an id that a server makes up, of a length that may vary by little.
    return serving_load.Target(url, serving_load.framed(request), serving_load.GRPC, server, len(answer))


@contextlib.contextmanager
def mlserver(
    venv: pathlib.Path, model: pathlib.Path, place: pathlib.Path, *, workers: int
) -> Iterator[tuple[int, int]]:
    """Runs MLServer; gives its process and its gRPC port."""
    place.mkdir()
    rest, port, metrics = (serving_load.free_port() for _ in range(3))
    settings = {"host": serving_load.HOST, "http_port": rest, "grpc_port": port, "metrics_port": metrics}
    limits = {"parallel_workers": workers, "debug": False, "use_structured_logging": False}
    described = {
        "name": "model",
        "implementation": "runtime.Runtime",
        "max_batch_size": 64,
        "max_batch_time": 0.005,
        "parameters": {"uri": str(model)},
    }
    (place / "settings.json").write_text(json.dumps(settings | limits))
    (place / "model-settings.json").write_text(json.dumps(described))
    (place / "runtime.py").write_text(RUNTIME)
    url = f"http://{serving_load.HOST}:{rest}/v2/models/model/ready"
    command = [str(venv / "bin" / "mlserver"), "start", "."]
    with serving_load.process(command, place / "log", lambda: serving_load.answers(url)) as server:
        yield server, port


@contextlib.contextmanager
def triton(
    venv: pathlib.Path, model: pathlib.Path, place: pathlib.Path, *, side: int, channels: int
) -> Iterator[tuple[int, int]]:
    """Runs Triton; gives its process and its gRPC port."""
    place.mkdir()
    rest, port = serving_load.free_port(), serving_load.free_port()
    (place / "serve.py").write_text(FUNCTION)
    url = f"http://{serving_load.HOST}:{rest}/v2/models/model/ready"
    numbers = [str(number) for number in (side, channels, rest, port)]
    # Its server finds its Python by the path, as in an activated environment.
    environment = {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
    command = [str(venv / "bin" / "python"), str(place / "serve.py"), str(model), *numbers]
    with serving_load.process(
        command, place / "log", lambda: serving_load.answers(url), environment=environment
    ) as server:
        yield server, port


def compare(network: str, place: pathlib.Path, asked: argparse.Namespace) -> None:
    """Prints rounds and medians of one network."""
    side, channels = MODELS[network]
    folder = place / network / "1"
    serving_load.export(folder, network=network, side=side, channels=channels)
    picture = serving_load.picture(side, channels)
    print(f"{network} at {side}x{side}")
    with contextlib.ExitStack() as stack:
        ours, _, port = stack.enter_context(serving_load.ours(folder.parent, place, "--enable_batching"))
        targets = {"medkeras": serving.grpc_target(ours, port, picture)}
        for workers in asked.workers if asked.mlserver else ():
            name = f"MLServer, {workers} workers"
            server = mlserver(asked.mlserver, folder, place / f"{network}-mlserver{workers}", workers=workers)
            targets[name] = peer_target(*stack.enter_context(server), picture)
        if asked.triton:
            server = triton(asked.triton, folder, place / f"{network}-triton", side=side, channels=channels)
            targets["Triton"] = peer_target(*stack.enter_context(server), picture)
        for target in targets.values():
            serving_load.run(target, clients=asked.clients, seconds=3)
        take_turns(targets, asked)


def take_turns(targets: dict[str, serving_load.Target], asked: argparse.Namespace) -> None:
    """Loads the servers in turn, each round beginning with another one."""
    ratios: dict[str, list[float]] = {name: [] for name in targets}
    names = itertools.cycle(targets)
    for number in range(asked.rounds):
        turn = list(itertools.islice(names, len(targets)))
        next(names)
        loads = {name: serving_load.run(targets[name], clients=asked.clients, seconds=asked.seconds) for name in turn}
        print(f"round {number + 1}")
        for name in targets:
            ratios[name].append(loads["medkeras"].rate / loads[name].rate)
            print(f"    {name:<20} {loads[name]}", flush=True)
    for name, found in ratios.items():
        print(f"medkeras / {name:<20} {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def main() -> None:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlserver", type=lambda given: pathlib.Path(given).absolute())
    parser.add_argument("--triton", type=lambda given: pathlib.Path(given).absolute())
    parser.add_argument("--network", action="append", choices=sorted(MODELS), help="all of them unless told")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="of MLServer, beside its own process")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    for network in asked.network or MODELS:
        with tempfile.TemporaryDirectory() as place:
            compare(network, pathlib.Path(place), asked)


if __name__ == "__main__":
    main()
