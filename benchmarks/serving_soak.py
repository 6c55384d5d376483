"""Does the server hold while versions are exchanged under it, and while strangers send it everything but requests?

Starts `--mode=serve` in a process of its own and lets good clients ask it without pause, each answer compared with the
first one. Phase one exchanges the version every `--swap` seconds. Phase two sends hostile traffic, drawn from the seed:
fuzzed JSON and protobuf, nests of 100,000 lists, bad gzip, wrong types, garbage, path traversals, a megabyte of header,
100 GB declared, headers and bodies that never end, connections half closed. Prints the requests that failed, the good
clients' latency in each phase, the memory of the server before and after, and what the strangers were told.

    python main.py --mode=train
    python benchmarks/serving_soak.py --model=saved_models/phantom-resnet_small/1 [--minutes=2] [--hostile=10]
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import gzip
import io
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from medkeras.export import card
from medkeras.serving import client, status

HOST = "127.0.0.1"
ROOT = pathlib.Path(__file__).resolve().parent.parent
SLOW = 12.0
STRANGERS = 6


class Good:
    """Asks without pause, by REST and gRPC in turn; notes latencies and everything that is not the right answer."""

    def __init__(self, ports: tuple[int, int], image: np.ndarray) -> None:
        self._ports, self._image = ports, image
        self.latencies: list[float] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._expected: np.ndarray | None = None
        self._threads = [threading.Thread(target=self._ask, args=(scheme,)) for scheme in ("http", "grpc")]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> tuple[int, float, float, int]:
        """Returns requests, median and 95th percentile in milliseconds, and failures, since the last call."""
        latencies, self.latencies = self.latencies, []
        failures, self.failures = self.failures, []
        for line, count in collections.Counter(failures).most_common(5):
            print(f"    failed: {count} x {line}")
        cuts = statistics.quantiles(latencies, n=20) if len(latencies) > 1 else [float("nan")] * 19
        return len(latencies), 1000 * cuts[9], 1000 * cuts[18], len(failures)

    def _ask(self, scheme: str) -> None:
        buffer = io.BytesIO()
        Image.fromarray(self._image).save(buffer, format="PNG")
        port = self._ports[scheme == "grpc"]
        with client.Client(f"{scheme}://{HOST}:{port}", "model", retries=0, timeout=20) as asking:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    answer = asking.predict_bytes([buffer.getvalue()])["probabilities"]
                except (status.StatusError, OSError) as error:
                    self.failures.append(f"{scheme} {type(error).__name__} {error}")
                    continue
                self.latencies.append(time.monotonic() - began)
                if self._expected is None:
                    self._expected = answer
                if not np.allclose(answer, self._expected, atol=1e-5):
                    self.failures.append(f"{scheme} another answer")


class Strangers:
    """Sends hostile traffic from some threads; counts by kind and by what came back."""

    def __init__(self, ports: tuple[int, int], seed: int) -> None:
        self._rest, self._grpc = ports
        self.told: collections.Counter[str] = collections.Counter()
        self._stop = threading.Event()
        draws = [random.Random(f"{seed} {number}") for number in range(STRANGERS)]
        self._threads = [threading.Thread(target=self._work, args=(draw,)) for draw in draws]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, draw: random.Random) -> None:
        kinds: list[Callable[[random.Random], str]] = [
            *(self._fuzzed_json, self._nested, self._wrong_types, self._bad_gzip, self._garbage, self._traversal),
            *(self._large_header, self._declared, self._slow_headers, self._slow_body, self._half_closed),
            *(self._fuzzed_grpc, self._pipelined, self._vanishing),
        ]
        weights = [8, 2, 6, 3, 4, 4, 1, 1, 1, 1, 2, 4, 2, 4]
        while not self._stop.is_set():
            (kind,) = draw.choices(kinds, weights)
            try:
                told = kind(draw)
            except OSError as error:
                told = type(error).__name__
            self.told[f"{kind.__name__[1:]:<14} {told}"] += 1

    def _post(self, body: bytes, *headers: str, target: str = "/v1/models/model:predict") -> str:
        lines = [f"POST {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
        return self._send("\r\n".join(lines).encode() + body)

    def _send(self, content: bytes, *, port: int = 0, wait: float = 10) -> str:
        with socket.create_connection((HOST, port or self._rest), timeout=wait) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(content)
            reply = connection.recv(4096)
        return _line(reply)

    def _fuzzed_json(self, draw: random.Random) -> str:
        body = bytearray(
            json.dumps({"signature_name": "serve_bytes", "instances": [{"b64": "iVBORw0KGgo="}] * 3}).encode()
        )
        for _ in range(draw.randrange(1, 6)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        return self._post(bytes(body))

    def _nested(self, draw: random.Random) -> str:
        depth = draw.choice((300, 5000, 50_000, 100_000))
        opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
        return self._post(f'{{"instances":{opening * depth}1{closing * depth}}}'.encode())

    def _wrong_types(self, draw: random.Random) -> str:
        value = draw.choice(("null", "{}", '"x"', "[[]]", "[[[[1],[2,3]]]]", "true", "[NaN]", "[1e400]", '[{"b64":5}]'))
        return self._post(f'{{"instances":{value}}}'.encode())

    def _bad_gzip(self, draw: random.Random) -> str:
        body = bytearray(gzip.compress(b'{"instances":[1.0]}' + bytes(draw.randrange(2_000_000))))
        body[draw.randrange(len(body))] ^= 255
        return self._post(bytes(body), "Content-Encoding: gzip")

    def _garbage(self, draw: random.Random) -> str:
        return self._send(draw.randbytes(draw.randrange(1, 3000)) + b"\r\n\r\n", wait=SLOW)

    def _traversal(self, draw: random.Random) -> str:
        up = draw.choice(("../", "..%2f", "%2e%2e/", "..\\", "....//", "%252e%252e%252f", "/"))
        path = draw.choice(("/v1/models/", "/page/", "/", "/v1/models/model/versions/"))
        return self._send(f"GET {path}{up * draw.randrange(1, 9)}etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def _large_header(self, draw: random.Random) -> str:
        return self._send(b"GET /v1/models/model HTTP/1.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n")

    def _declared(self, draw: random.Random) -> str:
        return self._send(b"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n{")

    def _slow_headers(self, draw: random.Random) -> str:
        return self._slowly(b"GET /v1/models/model HTTP/1.1\r\n", b"X-%d: y\r\n")

    def _slow_body(self, draw: random.Random) -> str:
        return self._slowly(b"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"%d")

    def _slowly(self, begin: bytes, drop: bytes) -> str:
        began = time.monotonic()
        with socket.create_connection((HOST, self._rest), timeout=1) as connection:
            connection.sendall(begin)
            for number in range(20):
                if time.monotonic() - began > SLOW + 3:
                    return "still open after 15 s"
                with contextlib.suppress(TimeoutError):
                    reply = connection.recv(4096)
                    return _line(reply)
                connection.sendall(drop % number)
        return "never closed"

    def _half_closed(self, draw: random.Random) -> str:
        with socket.create_connection((HOST, self._rest), timeout=SLOW) as connection:
            connection.sendall(b"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            connection.shutdown(socket.SHUT_WR)
            return _line(connection.recv(4096))

    def _fuzzed_grpc(self, draw: random.Random) -> str:
        import grpc

        content = draw.randbytes(draw.randrange(0, 400))
        method = draw.choice(("PredictionService/Predict", "PredictionService/Classify", "ModelService/GetModelStatus"))
        with grpc.insecure_channel(f"{HOST}:{self._grpc}") as channel:
            call = channel.unary_unary(f"/tensorflow.serving.{method}")
            try:
                call(content, timeout=10)
            except grpc.RpcError as error:
                return error.code().name
        return "OK"

    def _pipelined(self, draw: random.Random) -> str:
        return self._send(b"GET /v1/models/model HTTP/1.1\r\nHost: x\r\n\r\n" * draw.randrange(2, 100))

    def _vanishing(self, draw: random.Random) -> str:
        image = base64.b64encode(draw.randbytes(50_000)).decode()
        body = json.dumps({"signature_name": "serve_bytes", "instances": [{"b64": image}]}).encode()
        with socket.create_connection((HOST, self._rest), timeout=5) as connection:
            head = f"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: draw.randrange(len(body))])
        return "left"


def _line(reply: bytes) -> str:
    return reply.partition(b"\r\n")[0].decode("latin-1")[:40] or "closed"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return found.getsockname()[1]


@contextlib.contextmanager
def served(base: pathlib.Path, log: pathlib.Path) -> Iterator[tuple[subprocess.Popen[str], tuple[int, int]]]:
    ports = free_port(), free_port()
    command = [sys.executable, str(ROOT / "main.py"), "--mode=serve", "--model_name=model", f"--model_base_path={base}"]
    flags = [f"--rest_api_port={ports[0]}", f"--port={ports[1]}", f"--access_log={log}"]
    with open(log.with_suffix(".err"), "w", encoding="utf-8") as errors:
        server = subprocess.Popen([*command, *flags], stdout=errors, stderr=errors, text=True, cwd=ROOT)
        try:
            with client.Client(f"http://{HOST}:{ports[0]}", "model", retries=0, timeout=5) as asking:
                while not asking.ready():
                    if server.poll() is not None:
                        raise SystemExit(f"The server did not start: {log.with_suffix('.err').read_text()[-2000:]}")
                    time.sleep(0.2)
            yield server, ports
        finally:
            server.terminate()
            server.wait()


def resident(server: subprocess.Popen[str]) -> float:
    """Returns the server's memory in MiB, that of its workers included."""
    total = 0
    for place in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(place.parent.name) == server.pid or int(fields[1]) == server.pid:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


def publish(source: pathlib.Path, base: pathlib.Path, number: int) -> None:
    shutil.copytree(source, base / f"tmp-{number}")
    (base / f"tmp-{number}").rename(base / str(number))


def report(title: str, good: Good, server: subprocess.Popen[str]) -> None:
    count, median, late, failed = good.take()
    alive = "alive" if server.poll() is None else f"DEAD ({server.returncode})"
    print(
        f"{title:<22} {count:>7} answers, {failed} failed, median {median:6.1f} ms, p95 {late:6.1f} ms, "
        f"{resident(server):6.0f} MiB, server {alive}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--swap", type=float, default=2)
    parser.add_argument("--hostile", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    given = card.read(asked.model).input
    shape = (given["height"], given["width"], 3)[: 2 if given["channels"] == 1 else 3]
    image = np.random.default_rng(asked.seed).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as place:
        base = pathlib.Path(place, "models")
        base.mkdir()
        publish(asked.model, base, 1)
        with served(base, pathlib.Path(place, "access.log")) as (server, ports):
            good = Good(ports, image)
            good.start()
            time.sleep(20)
            good.take()
            time.sleep(20)
            report("nothing else", good, server)
            newest, until = 1, time.monotonic() + 60 * asked.minutes
            while time.monotonic() < until:
                newest += 1
                publish(asked.model, base, newest)
                time.sleep(asked.swap)
                shutil.rmtree(base / str(newest - 1))
            report(f"{newest - 1} exchanges", good, server)
            before = resident(server)
            strangers = Strangers(ports, asked.seed)
            strangers.start()
            time.sleep(60 * asked.hostile)
            report("hostile traffic", good, server)
            strangers.stop()
            good.take()
            time.sleep(20)
            report("afterwards", good, server)
            good.stop()
            print(f"memory {before:.0f} MiB before, {resident(server):.0f} MiB after hostile traffic")
            for told, count in sorted(strangers.told.items()):
                print(f"    {told:<60} {count}")


if __name__ == "__main__":
    main()
