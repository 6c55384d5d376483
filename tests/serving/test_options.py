"""What the server is told: upstream's names and defaults, one sentence for each contradiction."""

from __future__ import annotations

import pytest

from medkeras import errors
from medkeras.serving import options


def test_defaults_are_upstreams() -> None:
    chosen = options.from_flags({})
    assert (chosen.port, chosen.rest_api_port, chosen.rest_api_timeout_in_ms) == (8500, 8501, 30_000)
    assert (chosen.max_num_load_retries, chosen.load_retry_interval_micros) == (5, 60_000_000)
    assert (chosen.file_system_poll_wait_seconds, chosen.model_config_file_poll_wait_seconds) == (1, 0)
    assert chosen.enable_model_warmup
    off = (chosen.enable_batching, chosen.rest_api_enable_cors_support, chosen.enable_grpc_healthcheck_service)
    assert off == (False, False, False)
    assert chosen.model_name == "default"
    assert chosen.loopback
    assert not options.warnings(chosen)


def test_flags_that_were_not_given_change_nothing() -> None:
    assert options.from_flags({"port": None, "model_name": "a"}) == options.Options(model_name="a")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"prot": 1}, "did you mean 'port'"),
        ({"port": 70000}, "--port is at most 65535"),
        ({"port": -1}, "--port is at least 0"),
        ({"port": True}, "a whole number"),
        ({"port": "8500"}, "a whole number"),
        ({"enable_batching": "yes"}, "true or false"),
        ({"port": 8501}, "--port and --rest_api_port differ"),
        ({"port": 0, "rest_api_port": 0}, "listens on"),
        ({"rest_api_timeout_in_ms": 0}, "at least 1"),
        ({"batching_parameters_file": "x"}, "needs --enable_batching"),
        ({"enable_per_model_batching_parameters": True}, "needs --enable_batching"),
        ({"monitoring_config_file": "x", "rest_api_port": 0}, "needs --rest_api_port"),
        ({"tls_certificate": "x"}, "--tls_certificate alone"),
        ({"tls_key": "x"}, "--tls_key alone"),
        ({"tls_key": "x", "tls_certificate": "x", "ssl_config_file": "x"}, "Received: both"),
    ],
)
def test_contradictions_are_told_in_one_sentence(flags, words) -> None:
    with pytest.raises(errors.ConfigError, match=words):
        options.from_flags(flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"host": "0.0.0.0"}, "without tokens and without TLS"),
        ({"host": "::", "token_file": "x"}, "without TLS"),
        ({"host": "10.0.0.1", "tls_key": "x", "tls_certificate": "x"}, "without tokens"),
        ({"allow_unverified_models": True}, "a model is code"),
    ],
)
def test_an_operator_is_warned(flags, words) -> None:
    (warning,) = options.warnings(options.from_flags(flags))
    assert words in warning


@pytest.mark.parametrize(
    "flags",
    [
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "127.9.9.9"},
        {"host": "0.0.0.0", "token_file": "x", "ssl_config_file": "y"},
    ],
)
def test_and_not_without_a_reason(flags) -> None:
    assert not options.warnings(options.from_flags(flags))
