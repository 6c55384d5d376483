"""Which versions are on disk, and which are wanted: the rules of TensorFlow Serving as a table."""

from __future__ import annotations

import pathlib

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from medkeras.serving import status, versions


def config(text: str) -> model_server_config_pb2.ModelServerConfig:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def one(inside: str) -> versions.Configured:
    (model,) = versions.configured(
        config(f'model_config_list {{ config {{ name: "m" base_path: "/m" model_platform: "tensorflow" {inside} }} }}')
    )
    return model


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("", {3}),
        ("latest { }", {3}),
        ("latest { num_versions: 0 }", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("latest { num_versions: 9 }", {1, 2, 3}),
        ("all { }", {1, 2, 3}),
        ("specific { versions: 1 }", {1}),
        ("specific { versions: 1 versions: 3 }", {1, 3}),
        ("specific { versions: 1 versions: 9 }", {1}),
        ("specific { versions: 9 }", set()),
        ("specific { }", set()),
    ],
)
def test_policies(policy, wanted) -> None:
    given = f"model_version_policy {{ {policy} }}" if policy else ""
    assert one(given).policy.wanted([1, 2, 3]) == wanted


def test_labels_and_the_model_type_of_old_configurations() -> None:
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    assert one(labels).labels == (("canary", 2), ("stable", 1))
    (old,) = versions.configured(
        config('model_config_list { config { name: "m" base_path: "/m" model_type: TENSORFLOW } }')
    )
    assert old.base_path == pathlib.Path("/m")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (
            'config { name: "a" base_path: "/a" }',
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is a",
        ),
        (
            'config { name: "a" base_path: "/a" model_platform: "onnx" }',
            "Model a requests unsupported platform onnx",
        ),
        (
            'config { name: "dyn" base_path: "rel/path" model_platform: "tensorflow" }',
            "Expected model dyn to have an absolute path or URI; got base_path()=rel/path",
        ),
        (
            'config { name: "a" base_path: "/a" model_platform: "tensorflow" } '
            'config { name: "a" base_path: "/b" model_platform: "tensorflow" }',
            "Illegal to list model a multiple times in config list",
        ),
    ],
)
def test_refused_configurations(listed, message) -> None:
    with pytest.raises(status.StatusError) as caught:
        versions.configured(config(f"model_config_list {{ {listed} }}"))
    assert (caught.value.code, caught.value.message) == (status.Code.INVALID_ARGUMENT, message)


def test_what_is_a_version(tmp_path) -> None:
    for name in (
        "1",
        "0006",
        "00000123",
        "tmp-5",
        "7x",
        "-3",
        "18446744073709551616",
        "9223372036854775807",
        "³",
        "1.0",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file")
    (tmp_path / "9").symlink_to(tmp_path / "nowhere")
    assert versions.on_disk(tmp_path) == {
        1: tmp_path / "1",
        6: tmp_path / "0006",
        123: tmp_path / "00000123",
        9223372036854775807: tmp_path / "9223372036854775807",
    }


def test_a_folder_that_is_not_there(tmp_path) -> None:
    with pytest.raises(OSError):
        versions.on_disk(tmp_path / "none")
