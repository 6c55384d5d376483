"""What does the server cost, beside the same SavedModel called in process?

Exports a network with random weights, serves it by `--mode=serve --enable_batching` in a process of its own, and lets
32 clients ask for one image each, again and again: float32 tensors over gRPC, PNG files over REST. Beside them, in
rounds that take turns, the same SavedModel is called in this process with the batch size that is fastest here, found
at the beginning. Prints images a second, the clients' median and 99th percentile, the processor milliseconds that an
image took in the server, and the ratio to the call in process. Clients and server share the processors of one machine,
so the server's rate includes what its clients take.

    apt-get install nghttp2-client
    PYTHONPATH=. python benchmarks/serving.py [--network=resnet] [--side=96] [--channels=3] [--clients=32] [--rounds=5]
"""

from __future__ import annotations

import argparse
import base64
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import grpc
import numpy as np
import serving_load
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

BATCHES = (1, 2, 4, 8, 16, 32, 64)


def in_process(folder: pathlib.Path, picture: np.ndarray) -> Callable[[int, float], float]:
    """Returns a function of batch size and seconds that returns images a second."""
    # The model lives as long as its signature is called.
    model = tf.saved_model.load(str(folder))
    call = model.signatures["serving_default"]

    def measure(batch: int, seconds: float) -> float:
        images = tf.constant(np.repeat(picture[np.newaxis], batch, 0), tf.float32)
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            call(image=images)["probabilities"].numpy()
            count += batch
        return count / (time.perf_counter() - begin)

    for batch in BATCHES:
        measure(batch, 0)
    measure.model = model  # type: ignore[attr-defined]
    return measure


def fastest(measure: Callable[[int, float], float]) -> int:
    """Returns the batch size with most images a second."""
    rates = {batch: statistics.median(measure(batch, 1) for _ in range(3)) for batch in BATCHES}
    print("in process:", ", ".join(f"{batch}: {rate:.0f}/s" for batch, rate in rates.items()), flush=True)
    return max(BATCHES, key=lambda batch: rates[batch])


def grpc_target(server: int, port: int, picture: np.ndarray) -> serving_load.Target:
    """Returns Predict with one image as a tensor, tried once."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "model"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(picture[np.newaxis].astype(np.float32)))
    with grpc.insecure_channel(f"{serving_load.HOST}:{port}") as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    return serving_load.Target(
        f"http://{serving_load.HOST}:{port}/tensorflow.serving.PredictionService/Predict",
        serving_load.framed(request.SerializeToString()),
        serving_load.GRPC,
        server,
        len(serving_load.framed(answer.SerializeToString())),
    )


def rest_target(server: int, port: int, picture: np.ndarray) -> serving_load.Target:
    """Returns `:predict` with one image as a PNG file."""
    content = base64.b64encode(tf.io.encode_png(picture).numpy()).decode()
    body = json.dumps({"signature_name": "serve_bytes", "instances": [{"b64": content}]}).encode()
    url = f"http://{serving_load.HOST}:{port}/v1/models/model:predict"
    return serving_load.Target(url, body, serving_load.REST, server)


def compare(place: pathlib.Path, asked: argparse.Namespace) -> None:
    """Prints rounds and medians."""
    folder = place / "model" / "1"
    serving_load.export(folder, network=asked.network, side=asked.side, channels=asked.channels)
    picture = serving_load.picture(asked.side, asked.channels)
    measure = in_process(folder, picture)
    with serving_load.ours(folder.parent, place, "--enable_batching", *asked.flag) as (server, rest, port):
        targets = {"gRPC tensors": grpc_target(server, port, picture), "REST bytes": rest_target(server, rest, picture)}
        best = fastest(measure)
        for target in targets.values():
            serving_load.run(target, clients=asked.clients, seconds=3)
        ratios: dict[str, list[float]] = {name: [] for name in targets}
        for number in range(asked.rounds):
            before = measure(best, asked.seconds / 2)
            loads = {
                name: serving_load.run(target, clients=asked.clients, seconds=asked.seconds)
                for name, target in targets.items()
            }
            alone = (before + measure(best, asked.seconds / 2)) / 2
            print(f"round {number + 1}: in process, batches of {best}: {alone:.1f}/s")
            for name, load in loads.items():
                ratios[name].append(load.rate / alone)
                print(f"    {name:<14} {load}, ratio {load.rate / alone:.2f}", flush=True)
    for name, found in ratios.items():
        print(f"{name:<14} ratio {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def main() -> None:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--flag", action="append", default=[], help="of the server, besides --enable_batching")
    with tempfile.TemporaryDirectory() as place:
        compare(pathlib.Path(place), parser.parse_args())


if __name__ == "__main__":
    main()
