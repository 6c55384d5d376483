"""TensorFlow Serving's configuration files."""

from __future__ import annotations

import json

import pytest

from medkeras import errors
from medkeras.serving import batching, config_files
from tests.serving import sockets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ("prometheus_config: { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: false path: "/m" }', ""),
        ("", ""),
    ],
)
def test_where_prometheus_reads(tmp_path, text, expected) -> None:
    (tmp_path / "monitoring").write_text(text)
    assert config_files.metrics_path(tmp_path / "monitoring") == expected


def test_models(tmp_path) -> None:
    (tmp_path / "models").write_text(
        'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
        'version_labels { key: "stable" value: 3 } } }'
    )
    (found,) = config_files.models(tmp_path / "models").model_config_list.config
    assert (found.name, found.base_path, dict(found.version_labels)) == ("a", "/a", {"stable": 3})


def test_tls(tmp_path) -> None:
    chosen = sockets.make_certificate(tmp_path, "a")
    key, chain = (tmp_path / "a.key").read_text(), (tmp_path / "a.pem").read_text()
    (tmp_path / "ssl").write_text(f"server_key: {json.dumps(key)}\nserver_cert: {json.dumps(chain)}")
    found = config_files.certificate(tmp_path / "ssl")
    assert (found.key.decode(), found.chain.decode(), found.clients) == (key, chain, b"")
    assert found.context().verify_mode.name == "CERT_NONE"
    with open(tmp_path / "ssl", "a") as file:
        file.write(f"\ncustom_ca: {json.dumps(chain)} client_verify: true")
    assert config_files.certificate(tmp_path / "ssl").context().verify_mode.name == "CERT_REQUIRED"
    assert chosen.encrypted


def test_batching(tmp_path) -> None:
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 500 } allowed_batch_sizes: 4 allowed_batch_sizes: 8 "
        'num_batch_threads { value: 3 } enable_large_batch_splitting { value: true } thread_pool_name { value: "a" }'
    )
    assert config_files.batching_parameters(tmp_path / "batching") == batching.Parameters(
        max_batch_size=8,
        batch_timeout_micros=500,
        num_batch_threads=3,
        allowed_batch_sizes=(4, 8),
        enable_large_batch_splitting=True,
    )


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (config_files.batching_parameters, "max_batch_size: 4", "is no BatchingParameters as protobuf text"),
        (config_files.batching_parameters, "max_batch_sizes { value: 4 }", "is no BatchingParameters"),
        (
            config_files.batching_parameters,
            "num_batch_threads { value: 0 }",
            "num_batch_threads must be positive; was 0",
        ),
        (config_files.batching_parameters, "pad_variable_length_inputs: true", "put together as they are"),
        (config_files.metrics_path, "prometheus { }", "is no MonitoringConfig as protobuf text"),
        (config_files.metrics_path, 'prometheus_config { enable: true path: "m" }', "begins with a slash"),
        (config_files.models, "{", "is no ModelServerConfig"),
        (config_files.certificate, 'server_key: "SECRET', "is no SSLConfig as protobuf text$"),
        (config_files.certificate, "client_verify: true", "has custom_ca"),
    ],
)
def test_mistakes(tmp_path, read, text, words) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(errors.ConfigError, match=words) as refused:
        read(tmp_path / "file")
    assert "SECRET" not in str(refused.value)


def test_a_file_that_is_missing(tmp_path) -> None:
    with pytest.raises(errors.ConfigError, match="No such file"):
        config_files.models(tmp_path / "absent")
