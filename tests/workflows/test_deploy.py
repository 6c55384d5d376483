"""`--mode=deploy`: which files go along, in which state, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from medkeras import errors
from medkeras.export import card, versions
from medkeras.serving import deploy as files
from medkeras.workflows import deploy

KEPT = [
    *("assets.extra/tf_serving_warmup_requests", "assets/words", "card.json", "fingerprint.pb", "saved_model.pb"),
    *("variables/variables.data-00000-of-00001", "variables/variables.index"),
]
LEFT = ["metrics.json", "model.keras", "predictions.csv", "report.html", "seen.npz"]


def publish(base: pathlib.Path, number: int, *, name: object = None, listed: object = None) -> pathlib.Path:
    """Writes a version with the files that a training leaves, each with a content of its own."""
    folder = base / str(number)
    for path in (*KEPT, *LEFT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{path} of {base.name} {number}")
    described = card.Card(
        name=base.name if name is None else name, version=number if listed is None else listed,
        task={"name": "classification"}, input={}, model={}, training={"source": "folder:scans"},
    )  # fmt: skip
    card.write(described, folder)
    return folder


@pytest.fixture
def base(tmp_path) -> pathlib.Path:
    """Returns a model of two versions."""
    for number in (3, 4):
        publish(tmp_path / "saved_models" / "lung", number)
    return tmp_path / "saved_models" / "lung"


def listing(folder: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def served(folder: pathlib.Path) -> dict[str, list[int]]:
    text = (folder / "config" / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    return {each.name: list(each.model_version_policy.specific.versions) for each in config}


def test_what_a_server_loads_goes_along_and_nothing_of_a_patient(base, tmp_path) -> None:
    done = deploy.deploy([base], output=tmp_path / "out")
    assert listing(tmp_path / "out" / "models" / "lung" / "4") == KEPT
    for path in set(KEPT) - {"card.json"}:
        copied = tmp_path / "out" / "models" / "lung" / "4" / path
        assert copied.read_bytes() == (base / "4" / path).read_bytes()
    assert served(tmp_path / "out") == {"lung": [4]}
    assert (done.folder, done.labels) == (tmp_path / "out", {"lung": {"stable": 4}})
    assert done.memory == files.memory(done.models) == 1280


def test_the_card_that_goes_along_is_true_of_what_goes_along(base, tmp_path) -> None:
    deploy.deploy([base / "3"], output=tmp_path / "out")
    copy = tmp_path / "out" / "models" / "lung" / "3"
    published, found = card.read(base / "3"), card.read(copy)
    card.verify(found, copy)
    assert sorted(found.files) == sorted(set(KEPT) - {"card.json"})
    assert dataclasses.replace(found, files=published.files) == published


def test_sums_are_those_of_the_files(base, tmp_path) -> None:
    deploy.deploy([base / "3", base / "4"], output=tmp_path / "out")
    models = tmp_path / "out" / "models"
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=models, check=False)
    assert done.returncode == 0
    assert len((models / "SHA256SUMS").read_text().splitlines()) == 2 * len(KEPT)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for path, digest in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "out" / path).read_bytes()).hexdigest() == digest
    for each in manifest["models"][0]["versions"]:
        own = base / str(each["version"]) / card.NAME
        assert each["published_card"] == hashlib.sha256(own.read_bytes()).hexdigest()
    everything = {f"models/lung/{number}/{path}" for number in (3, 4) for path in KEPT}
    assert set(listing(tmp_path / "out")) == {*manifest["files"], "manifest.json", *everything}


def test_several_models_and_versions(base, tmp_path) -> None:
    publish(tmp_path / "saved_models" / "skin", 1)
    models = [base / "4", tmp_path / "saved_models" / "skin", base / "3"]
    done = deploy.deploy(models, output=tmp_path / "out")
    assert done.labels == {"lung": {"stable": 4, "canary": 3}, "skin": {"stable": 1}}
    assert served(tmp_path / "out") == {"lung": [4, 3], "skin": [1]}
    assert sorted(path.name for path in (tmp_path / "out" / "kserve").iterdir()) == ["lung.yaml", "skin.yaml"]


def test_files_can_be_read_by_the_containers_user(base, tmp_path) -> None:
    (base / "4" / "saved_model.pb").chmod(0o600)
    before = os.umask(0o077)
    try:
        deploy.deploy([base], output=tmp_path / "out")
    finally:
        os.umask(before)
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        assert path.stat().st_mode & 0o044 == 0o044, path
    assert (tmp_path / "out" / "docker" / "ready.sh").stat().st_mode & 0o111 == 0o111


def refused(models: list[pathlib.Path], output: pathlib.Path, message: str) -> None:
    before = listing(output.parent)
    with pytest.raises(errors.UserError, match=message) as raised:
        deploy.deploy(models, output=output)
    assert "\n" not in str(raised.value)
    assert listing(output.parent) == before


def test_no_model_and_no_such_model_are_mistakes(tmp_path) -> None:
    refused([], tmp_path / "out", "--mode=deploy needs --model. Received: none")
    refused([tmp_path / "none"], tmp_path / "out", "A model is a folder that exists. Received: .*none")
    (tmp_path / "theirs").mkdir()
    refused([tmp_path / "theirs"], tmp_path / "out", "A medkeras model holds card.json. Received: ")


@pytest.mark.parametrize("path", ["saved_model.pb", "variables/variables.index", "report.html"])
def test_a_model_that_was_changed_is_not_deployed(base, tmp_path, path) -> None:
    (base / "4" / path).write_text("changed")
    refused([base], tmp_path / "out", f"{path}: does not have the SHA-256 that the card gives")


@pytest.mark.parametrize("name", ["lung\n}", 'lung" base_path: "/', "../lung", "..", "a/b", "", 7, None, ["a"], "lüng"])
def test_a_name_in_the_card_goes_into_no_file_unless_it_is_plain(tmp_path, name) -> None:
    folder = publish(tmp_path / "saved_models" / "lung", 1)
    values = json.loads((folder / card.NAME).read_text()) | {"name": name}
    (folder / card.NAME).write_text(json.dumps(values))
    refused([folder], tmp_path / "out", "A served model's name is 1 to 63|is not a card that medkeras wrote")


@pytest.mark.parametrize("number", ["1", "1/../../x", 0, -3, 1.5, True, None, 2**70])
def test_a_version_in_the_card_is_a_number(tmp_path, number) -> None:
    folder = publish(tmp_path / "saved_models" / "lung", 1)
    values = json.loads((folder / card.NAME).read_text()) | {"version": number}
    (folder / card.NAME).write_text(json.dumps(values))
    refused([folder], tmp_path / "out", "A served version is a whole number from 1. Received: ")


@pytest.mark.parametrize("path", ["../secret", "variables/../../secret", "/etc/hostname"])
def test_a_card_cannot_fetch_files_from_elsewhere(tmp_path, path) -> None:
    folder = publish(tmp_path / "saved_models" / "lung", 1)
    (tmp_path / "saved_models" / "lung" / "secret").write_text("secret")
    values = json.loads((folder / card.NAME).read_text())
    values["files"][path] = hashlib.sha256(b"secret").hexdigest()
    (folder / card.NAME).write_text(json.dumps(values))
    refused([folder], tmp_path / "out", "lists saved_model.pb and files of its own folder. Received: ")


def test_a_card_without_a_graph_is_refused(tmp_path) -> None:
    folder = publish(tmp_path / "saved_models" / "lung", 1)
    (folder / "saved_model.pb").unlink()
    card.write(card.read(folder), folder)
    refused([folder], tmp_path / "out", "Received: no saved_model.pb")


def test_nothing_is_overwritten_and_an_empty_folder_is_filled(base, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    deploy.deploy([base], output=tmp_path / "out")
    refused([base], tmp_path / "out", "new or empty: nothing is overwritten. Received: .*out")
    refused([base], base / "4" / "card.json", "new or empty: nothing is overwritten. Received: .*card.json")
    refused([base], tmp_path / "out" / "README.md" / "deep", "a folder that can be made. Received: .*Not a directory")


@pytest.mark.parametrize("place", ["9", "deploy", "4/deploy"])
def test_the_output_is_nowhere_that_a_server_looks(base, tmp_path, place) -> None:
    refused([base], base / place, "does not lie in the folder of a model, which servers watch. Received: ")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_nothing_is_left_when_it_ends_early(base, tmp_path, monkeypatch, kind) -> None:
    copied = []

    def copyfile(source: pathlib.Path, target: pathlib.Path) -> None:
        copied.append(target)
        if len(copied) == 3:
            raise kind
        pathlib.Path(target).write_bytes(pathlib.Path(source).read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with contextlib.suppress(KeyboardInterrupt, MemoryError):
        if isinstance(kind, OSError):
            refused([base], tmp_path / "work" / "out", "whole or not at all. Received: .*No space left on device")
        else:
            deploy.deploy([base], output=tmp_path / "work" / "out")
    assert len(copied) == 3
    assert listing(tmp_path / "work") == []


def test_a_file_that_changes_while_it_is_copied_is_noticed(base, tmp_path, monkeypatch) -> None:
    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda source, target: (real(source, target), target.write_text("torn")))
    refused([base], tmp_path / "out", "does not have the SHA-256 that the card gives")


def test_a_deployed_model_can_be_deployed_again(base, tmp_path) -> None:
    deploy.deploy([base / "3"], output=tmp_path / "one")
    deploy.deploy([tmp_path / "one" / "models" / "lung"], output=tmp_path / "two")
    first, second = (listing(tmp_path / name / "models") for name in ("one", "two"))
    assert first == second
    assert versions.latest(tmp_path / "two" / "models" / "lung") == tmp_path / "two" / "models" / "lung" / "3"
    sums = [(tmp_path / name / "models" / "SHA256SUMS").read_text() for name in ("one", "two")]
    assert sums[0] == sums[1]
