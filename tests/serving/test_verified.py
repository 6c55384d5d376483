"""Which model folders are loaded."""

from __future__ import annotations

import hashlib
import json
import pathlib

import pytest

from medkeras import errors
from medkeras.export import card
from medkeras.serving import status, verified


@pytest.fixture
def model(tmp_path) -> pathlib.Path:
    folder = tmp_path / "secret" / "brain" / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "report.html").write_bytes(b"figures")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


@pytest.fixture
def carded(model) -> pathlib.Path:
    card.write(card.Card(name="brain", version=1, task={}, input={}, model={}, training={}), model)
    return model


def sums(folder: pathlib.Path) -> str:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n" for path in paths)


def refusal(verifier: verified.Verifier, folder: pathlib.Path) -> str:
    with pytest.raises(status.StatusError) as refused:
        verifier.check(folder)
    assert refused.value.code is status.Code.FAILED_PRECONDITION
    assert "secret" not in refused.value.message
    return refused.value.message


def test_a_model_that_is_what_its_card_says_is_loaded(carded) -> None:
    verified.Verifier().check(carded)


def change(folder: pathlib.Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"another graph")


def remove(folder: pathlib.Path) -> None:
    (folder / "variables" / "variables.index").unlink()


def add(folder: pathlib.Path) -> None:
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"records")


def break_card(folder: pathlib.Path) -> None:
    (folder / card.NAME).write_text("{}")


def empty_card(folder: pathlib.Path) -> None:
    values = json.loads((folder / card.NAME).read_text())
    (folder / card.NAME).write_text(json.dumps(values | {"files": {}}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change, "another saved_model.pb"),
        (remove, "another variables/variables.index"),
        (add, "another assets.extra/tf_serving_warmup_requests"),
        (break_card, "one that medkeras wrote"),
        (empty_card, "has saved_model.pb"),
    ],
)
@pytest.mark.parametrize("unverified", [False, True])
def test_a_model_that_is_not_is_refused_whatever_the_operator_allows(carded, damage, words, unverified) -> None:
    damage(carded)
    assert words in refusal(verified.Verifier(unverified=unverified), carded)


def test_what_is_not_loaded_may_be_there_or_not(carded) -> None:
    (carded / "README.txt").write_text("a note")
    (carded / "report.html").unlink()
    verified.Verifier().check(carded)


def test_a_model_without_a_card_needs_a_list_or_a_word(model, tmp_path) -> None:
    assert "--allow_unverified_models" in refusal(verified.Verifier(), model)
    verified.Verifier(unverified=True).check(model)
    listed = tmp_path / "sums"
    listed.write_text(sums(model))
    verified.Verifier(listed).check(model)
    change(model)
    assert "saved_model.pb" in refusal(verified.Verifier(listed), model)


def test_what_the_list_allows_under_one_name_is_not_allowed_under_another(model, tmp_path) -> None:
    listed = tmp_path / "sums"
    listed.write_text(sums(model))
    (model / "saved_model.pb").write_bytes((model / "variables" / "variables.index").read_bytes())
    assert "saved_model.pb" in refusal(verified.Verifier(listed), model)


@pytest.mark.parametrize("text", ["abc  file", "x" * 64, f"{'0' * 64}  "])
def test_a_list_that_is_none_is_refused(tmp_path, text) -> None:
    listed = tmp_path / "sums"
    listed.write_text(text)
    with pytest.raises(errors.ConfigError, match="line 1"):
        verified.Verifier(listed)


def test_a_list_that_is_missing_is_told(tmp_path) -> None:
    with pytest.raises(errors.ConfigError, match="text file that can be read"):
        verified.Verifier(tmp_path / "absent")


def test_a_folder_without_a_graph_is_left_to_the_loader_to_refuse(tmp_path) -> None:
    verified.Verifier().check(tmp_path)
