"""What the server counts, under the names that TensorFlow Serving's dashboards and alerts know.

Reference: TensorFlow Serving's `servables/tensorflow/util.cc` and `util/prometheus_exporter.cc`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import prometheus_client
import prometheus_client.registry
import prometheus_client.samples

from medkeras.serving import status

CONTENT_TYPE = "text/plain"
_SERVING = ":tensorflow:serving:"
_SAVED_MODEL = ":tensorflow:cc:saved_model:"
_MICROSECONDS = tuple(10 * 1.8**power for power in range(33))
_POWERS_OF_TWO = tuple(2.0**power for power in range(15))


class Metrics:
    """Counters and histograms of one server; every method may be called from any thread.

    A model's name becomes a label only if `known` says that the server serves it: else whoever calls would fill the
    memory with names of his own.

    Args:
        known: Whether a name is a model of this server; None: every name is.
    """

    def __init__(self, known: Callable[[str], bool] | None = None) -> None:
        self.known = known or bool
        self._registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        self._requests = _counter(registry, f"{_SERVING}request_count", "model_name", "status")
        self._latency = _histogram(registry, f"{_SERVING}request_latency", "model_name", "API", "entrypoint")
        self._runtime = _histogram(registry, f"{_SERVING}runtime_latency", "model_name", "API", "runtime")
        self._examples = _histogram(registry, f"{_SERVING}request_example_counts", "model_name", buckets=_POWERS_OF_TWO)
        self._example_total = _counter(registry, f"{_SERVING}request_example_count_total", "model_name")
        self._warmup = _histogram(registry, f"{_SERVING}model_warmup_latency", "model_path", "status")
        self._warmup_records = _counter(registry, f"{_SERVING}model_warmup_records_read", "model_path")
        self._queueing = _histogram(registry, f"{_SERVING}batching_session:queuing_latency")
        self._runs = _counter(registry, f"{_SERVING}batching_session:wrapped_run_count")
        self._loads = _counter(registry, f"{_SAVED_MODEL}load_attempt_count", "model_path", "status")
        self._load_latency = _counter(registry, f"{_SAVED_MODEL}load_latency", "model_path")

    def request(self, model: str, *, api: str, entrypoint: str, code: status.Code, seconds: float) -> None:
        """Counts a call; its time only if it was answered.

        Args:
            model: Name of the model, or empty.
            api: `predict`, `classify`, … over REST, `Predict`, `Classify`, … over gRPC; empty: its time is not kept.
            entrypoint: `REST` or `GRPC`.
            code: How it ended.
            seconds: How long it took.
        """
        model = model if self.known(model) else ""
        self._requests.labels(model, code.name).inc()
        if code is status.Code.OK and api:
            self._latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def runtime(self, model: str, *, api: str, seconds: float) -> None:
        """Counts the time that the graph took for a call."""
        self._runtime.labels(model if self.known(model) else "", api, "TF1").observe(seconds * 1e6)

    def examples(self, model: str, count: int) -> None:
        """Counts the examples of a call."""
        model = model if self.known(model) else ""
        self._examples.labels(model).observe(count)
        self._example_total.labels(model).inc(count)

    def load(self, path: pathlib.Path, *, code: status.Code, seconds: float) -> None:
        """Counts a try to load a version."""
        label = _short(path)
        self._loads.labels(label, "success" if code is status.Code.OK else "fail").inc()
        self._load_latency.labels(label).inc(seconds * 1e6)

    def warmup(self, path: pathlib.Path, *, code: status.Code, seconds: float, records: int) -> None:
        """Counts the warm-up of a version."""
        label = _short(path)
        self._warmup.labels(label, code.name).observe(seconds * 1e6)
        self._warmup_records.labels(label).inc(records)

    def batch(self, waited: float) -> None:
        """Counts a run of a batch, and the seconds that its first call had waited."""
        self._runs.inc()
        self._queueing.observe(waited * 1e6)

    def text(self) -> bytes:
        """Returns all of it in Prometheus' text format, the names as TensorFlow Serving writes them."""
        return "".join(_lines(self._registry)).encode()


def _short(path: pathlib.Path) -> str:
    """Returns model and version of a path: where models lie on this machine is nobody's business."""
    return "/".join(path.parts[-2:])


def _counter(registry: prometheus_client.CollectorRegistry, name: str, *labels: str) -> prometheus_client.Counter:
    """Makes a counter whose documentation is its exact name, which the library would lose."""
    return prometheus_client.Counter(name, name, labels, registry=registry)


def _histogram(
    registry: prometheus_client.CollectorRegistry, name: str, *labels: str, buckets: tuple[float, ...] = _MICROSECONDS
) -> prometheus_client.Histogram:
    return prometheus_client.Histogram(name, name, labels, registry=registry, buckets=buckets)


def _lines(registry: prometheus_client.CollectorRegistry) -> Iterator[str]:
    for metric in registry.collect():
        samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        # The client library ends every counter's name with _total; TensorFlow Serving does not.
        own = metric.documentation if metric.type == "counter" and metric.name.startswith(":") else None
        if samples:
            yield f"# TYPE {own or metric.name} {metric.type}\n"
        for sample in samples:
            yield f"{own or sample.name}{_labels(sample)} {_number(sample.value)}\n"


def _labels(sample: prometheus_client.samples.Sample) -> str:
    values = {name: _bound(value) if name == "le" else value for name, value in sample.labels.items()}
    texts = (f'{name}="{_escaped(value)}"' for name, value in values.items())
    return f"{{{','.join(texts)}}}" if values else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _bound(value: str) -> str:
    return value if value == "+Inf" else f"{float(value):g}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
