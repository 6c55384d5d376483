"""Which target is which call, and what is malformed."""

from __future__ import annotations

import pytest

from medkeras.serving import routing, status

CALL = routing.Call


@pytest.mark.parametrize(
    ("method", "target", "call"),
    [
        ("POST", "/v1/models/m:predict", CALL("predict", "m")),
        ("POST", "/v1/models/m:classify", CALL("classify", "m")),
        ("POST", "/v1/models/m:regress", CALL("regress", "m")),
        ("POST", "/v1/models/m/versions/00000123:predict", CALL("predict", "m", version=123)),
        ("POST", "/v1/models/m/versions/9223372036854775807:predict", CALL("predict", "m", version=2**63 - 1)),
        ("POST", "/v1/models/m/labels/stable:predict", CALL("predict", "m", label="stable")),
        ("POST", "/v1/models/m/labels/%73table%2f:predict", CALL("predict", "m", label="stable/")),
        ("POST", "/v1/models/h%61lf%zz:predict", CALL("predict", "half%zz")),
        ("POST", "/v1/models/%c3%a9%ff:predict", CALL("predict", "é\udcff")),
        ("POST", "/V1/Models/m/Versions/1:predict", CALL("predict", "m", version=1)),
        ("GET", "/v1/models", CALL("status", "")),
        ("GET", "/v1/models/m", CALL("status", "m")),
        ("GET", "/v1/models/m?x=1", CALL("status", "m?x=1")),
        ("GET", "/v1/models/m/versions/2", CALL("status", "m", version=2)),
        ("GET", "/v1/models/m/labels/canary", CALL("status", "m", label="canary")),
        ("GET", "/v1/models/m/metadata", CALL("metadata", "m")),
        ("GET", "/v1/models/m/METADATA", CALL("status", "m")),
        ("GET", "/v1/models/m/labels/canary/metadata", CALL("metadata", "m", label="canary")),
        ("GET", "/v1/models/metadata", CALL("status", "metadata")),
        ("GET", "/v1/models/versions/1", CALL("status", "", version=1)),
    ],
)
def test_targets_are_calls(method, target, call):
    assert routing.route(method, target) == call


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/"),
        ("GET", "/v1/foo"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/m/"),
        ("GET", "/v1/models/m/foo"),
        ("GET", "/v1/models/m:predict"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m/metadata"),
        ("POST", "/v1/models/m:explain"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m:predict\n"),
        ("POST", "/v1//models/m:predict"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/V1/MODELS/m:PREDICT"),
        ("POST", "/v1/models/m%3Apredict"),
        ("POST", "/v1/models/m/versions/abc:predict"),
        ("POST", "/v1/models/m/versions/-1:predict"),
        ("POST", "/v1/models/m/versions/١:predict"),
        ("POST", "/v1/models/m/versions/1/labels/x:predict"),
        ("POST", "/v1/models/m/version/1:regress"),
        ("PUT", "/v1/models/m:predict"),
        ("DELETE", "/v1/models/m"),
        ("HEAD", "/v1/models/m"),
        ("get", "/v1/models/m"),
    ],
)
def test_anything_else_is_malformed(method, target):
    with pytest.raises(status.StatusError) as caught:
        routing.route(method, target)

    assert caught.value.code is status.Code.INVALID_ARGUMENT
    assert caught.value.message == f"Malformed request: {method} {target}"


@pytest.mark.parametrize("version", ["9223372036854775808", "18446744073709551615", "9" * 5000])
@pytest.mark.parametrize(
    "request_line", [("POST", "/v1/models/m/versions/{}:predict"), ("GET", "/v1/models/m/versions/{}")]
)
def test_a_version_beyond_64_bits_is_refused_without_a_word(version, request_line):
    with pytest.raises(routing.UntoldError) as caught:
        routing.route(request_line[0], request_line[1].format(version))

    assert caught.value.code is status.Code.INVALID_ARGUMENT
