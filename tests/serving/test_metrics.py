"""What Prometheus reads: upstream's names, and no more labels than there are models."""

from __future__ import annotations

import pathlib

import prometheus_client.parser
import pytest

from medkeras.serving import metrics, status


@pytest.fixture
def measured() -> metrics.Metrics:
    found = metrics.Metrics(known={"half", 'a"b\\c'}.__contains__)
    found.request("half", api="predict", entrypoint="REST", code=status.Code.OK, seconds=0.0001)
    found.request("half", api="Predict", entrypoint="GRPC", code=status.Code.OK, seconds=30)
    found.request("half", api="predict", entrypoint="REST", code=status.Code.INVALID_ARGUMENT, seconds=1)
    found.runtime("half", api="Predict", seconds=0.002)
    found.examples("half", 3)
    found.load(pathlib.Path("/secret/place/half/123"), code=status.Code.OK, seconds=1.5)
    found.warmup(pathlib.Path("/secret/place/half/123"), code=status.Code.OK, seconds=0.5, records=2)
    found.batch(0.001)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="half",status="OK"} 2',
        ':tensorflow:serving:request_count{model_name="half",status="INVALID_ARGUMENT"} 1',
        "# TYPE :tensorflow:serving:request_latency histogram",
        ':tensorflow:serving:request_latency_bucket{model_name="half",API="predict",entrypoint="REST",le="58.32"} 0',
        ':tensorflow:serving:request_latency_bucket{model_name="half",API="predict",entrypoint="REST",le="104.976"} 1',
        ':tensorflow:serving:request_latency_sum{model_name="half",API="predict",entrypoint="REST"} 100',
        ':tensorflow:serving:request_latency_count{model_name="half",API="Predict",entrypoint="GRPC"} 1',
        ':tensorflow:serving:runtime_latency_sum{model_name="half",API="Predict",runtime="TF1"} 2000',
        ':tensorflow:serving:request_example_count_total{model_name="half"} 3',
        ':tensorflow:serving:request_example_counts_bucket{model_name="half",le="4"} 1',
        ':tensorflow:cc:saved_model:load_attempt_count{model_path="half/123",status="success"} 1',
        ':tensorflow:cc:saved_model:load_latency{model_path="half/123"} 1500000',
        ':tensorflow:serving:model_warmup_records_read{model_path="half/123"} 2',
        ":tensorflow:serving:batching_session:wrapped_run_count 1",
    ],
)
def test_names_and_values_are_those_of_tensorflow_serving(measured, line) -> None:
    assert line in measured.text().decode().splitlines()


def test_histograms_have_upstreams_buckets(measured) -> None:
    text = measured.text().decode()
    bounds = [line for line in text.splitlines() if 'request_latency_bucket{model_name="half",API="predict"' in line]
    assert len(bounds) == 34
    assert bounds[0].endswith('le="10"} 0')
    assert bounds[-1].endswith('le="+Inf"} 1')


def test_prometheus_reads_it_and_no_path_is_in_it(measured) -> None:
    text = measured.text().decode()
    families = {family.name for family in prometheus_client.parser.text_string_to_metric_families(text)}
    assert ":tensorflow:serving:request_latency" in families
    assert "process_resident_memory_bytes" in families
    assert "secret" not in text


def test_names_that_clients_make_up_do_not_become_labels(measured) -> None:
    for number in range(1000):
        measured.request(f"m{number}", api="predict", entrypoint="REST", code=status.Code.NOT_FOUND, seconds=0.1)
    lines = measured.text().decode().splitlines()
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 1000' in lines
    assert not any("m999" in line for line in lines)


def test_labels_are_escaped(measured) -> None:
    measured.examples('a"b\\c', 1)
    assert r':tensorflow:serving:request_example_count_total{model_name="a\"b\\c"} 1' in measured.text().decode()
