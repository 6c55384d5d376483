"""What the benchmarks of serving share: a model with random weights, our server, and a load that costs little.

The load is h2load (Debian's package nghttp2-client): one thread of C, a connection a client, each of which asks again
as soon as it is answered. It speaks HTTP/2, and so gRPC, where the request is the same bytes every time; and HTTP/1.1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np

from medkeras import config, models
from medkeras.data import store
from medkeras.export import saved_model
from medkeras.preprocessing import preprocessor
from medkeras.tasks import classification

HOST = "127.0.0.1"
ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = ("a", "b", "c")
PATIENCE = 180.0
GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
REST = ("--h1", "-H", "content-type: application/json")


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that answers.

    Attributes:
        url: Where.
        body: What it is asked, as it goes over the wire.
        flags: What h2load must know of its protocol.
        server: Its process.
        answer: Bytes of an answer, which each has; 0: a client sees from the status alone whether it failed.
    """

    url: str
    body: bytes
    flags: tuple[str, ...]
    server: int
    answer: int = 0


@dataclasses.dataclass(frozen=True)
class Load:
    """What a load met: answers a second, milliseconds until an answer, processor milliseconds that one took."""

    rate: float
    median: float
    late: float
    processor: float

    def __str__(self) -> str:
        return (
            f"{self.rate:7.1f}/s, median {self.median:6.1f} ms, p99 {self.late:6.1f} ms, "
            f"processor {self.processor:5.2f} ms"
        )


def export(folder: pathlib.Path, *, network: str, side: int, channels: int) -> None:
    """Writes a network with random weights that answers with `probabilities` alone."""
    keras.utils.set_random_seed(0)
    canvas = store.Canvas((side, side), channels, "uint8", "pad")
    task = classification.Classification(CLASSES, outputs=("probabilities",))
    layers = preprocessor.layers_for(
        config.PreprocessingConfig(), channels=channels, value_range=(0.0, 255.0), mean=[0.5] * channels,
        std=[0.25] * channels, network_normalise=models.MODELS[network].normalise,
    )  # fmt: skip
    built = models.build_model(network, image_shape=canvas.shape, preprocessing=layers, head=task.head, weights="none")
    saved_model.write(built.model, folder, task=task, canvas=canvas)


def picture(side: int, channels: int) -> np.ndarray:
    """Returns an image `[H, W, C]` uint8 that PNG packs about as well as a scan."""
    down, across = np.mgrid[:side, :side] / side
    smooth = 120 + 60 * np.sin(7 * down + 3 * across) + 40 * np.cos(11 * down * across)
    noise = np.random.default_rng(0).normal(0, 4, (side, side, channels))
    return np.clip(smooth[..., None] + noise, 0, 255).astype(np.uint8)


def run(target: Target, *, clients: int, seconds: float) -> Load:
    """Returns what `clients`, each with a connection of its own, met for `seconds`.

    Raises:
        SystemExit: A request failed.
    """
    with tempfile.TemporaryDirectory() as place:
        body, log = pathlib.Path(place, "body"), pathlib.Path(place, "log")
        body.write_bytes(target.body)
        before = processor(target.server)
        command = ["h2load", "-t1", "-m1", f"-c{clients}", f"-D{seconds:.0f}", f"-d{body}"]
        done = subprocess.run(
            [*command, f"--log-file={log}", *target.flags, target.url], capture_output=True, text=True, check=True
        )
        spent = processor(target.server) - before
        taken = [int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines()]
    _check(done.stdout, len(taken), target, clients)
    cuts = statistics.quantiles(taken, n=100)
    return Load(len(taken) / seconds, cuts[49], cuts[98], 1000 * spent / len(taken))


def processor(pid: int) -> float:
    """Returns the processor seconds that a process and all below it have taken."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for place in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(place.parent.name))
            ticks[int(place.parent.name)] = int(fields[11]) + int(fields[12])
    below, total = [pid], 0
    while below:
        each = below.pop()
        total += ticks.get(each, 0)
        below += children.get(each, [])
    return total / os.sysconf("SC_CLK_TCK")


def _check(told: str, answers: int, target: Target, clients: int) -> None:
    """Ends the benchmark if anything failed: a refusal is fast, and would count as a good answer."""
    failed = [int(number) for number in re.findall(r"(\d+) (?:failed|errored|timeout|3xx|4xx|5xx)", told)]
    found = re.search(r"\((\d+)\) data", told)
    # gRPC tells failures behind an answer that is then empty. Each client's last answer is cut off by the clock.
    wrong = target.answer and (not found or int(found[1]) < (answers - clients) * target.answer)
    if any(failed) or not answers or wrong:
        raise SystemExit(f"{target.url}: requests failed.\n{told}")


def framed(message: bytes) -> bytes:
    """Returns a message as gRPC sends it."""
    return struct.pack(">BI", 0, len(message)) + message


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def process(
    command: Sequence[str],
    log: pathlib.Path,
    ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Runs a server until the end of the context, which is entered when `ready`; gives its process.

    Raises:
        SystemExit: The server does not start.
    """
    # This checkout is for our server alone.
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(environment or {})
    with open(log, "w", encoding="utf-8") as lines:
        server = subprocess.Popen(command, stdout=lines, stderr=lines, cwd=log.parent, env=settings)
        deadline = time.monotonic() + PATIENCE
        try:
            while not ready():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start: {log.read_text()[-3000:]}")
                time.sleep(0.2)
            yield server.pid
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str) -> bool:
    """Returns whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return int(reply.status) == 200
    except OSError:
        return False


@contextlib.contextmanager
def ours(base: pathlib.Path, place: pathlib.Path, *flags: str) -> Iterator[tuple[int, int, int]]:
    """Runs `--mode=serve` with the model in `base` as `model`; gives its process and the ports of REST and gRPC."""
    rest, grpc = free_port(), free_port()
    command = [sys.executable, str(ROOT / "main.py"), "--mode=serve", "--model_name=model", f"--model_base_path={base}"]
    ports = [f"--rest_api_port={rest}", f"--port={grpc}", f"--access_log={place / 'access.log'}"]
    url = f"http://{HOST}:{rest}/v1/models/model/metadata"
    with process(
        [*command, *ports, "--allow_unverified_models", *flags], place / "ours.log", lambda: answers(url)
    ) as server:
        yield server, rest, grpc
