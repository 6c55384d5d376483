"""The card: written, read, and held against the files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib

import pytest

from medkeras import errors
from medkeras.export import card


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "data").write_bytes(bytes(range(256)))
    return tmp_path


def make(folder: pathlib.Path) -> card.Card:
    made = card.Card(
        name="näme", version=3, task={"name": "classification"}, input={"height": 8}, model={}, training={"seed": 1}
    )
    return card.write(made, folder)


def test_what_is_written_reads_back(folder) -> None:
    written = make(folder)
    found = card.read(folder)
    assert found == written
    assert found.files == {
        "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
        "variables/data": hashlib.sha256(bytes(range(256))).hexdigest(),
    }
    assert found.created.endswith("+00:00")
    assert set(found.libraries) == {"medkeras", "tensorflow", "keras", "numpy", "scikit-learn"}
    assert found.libraries["tensorflow"].startswith("2.")
    assert "not a medical device" in found.limits[0]
    card.verify(found, folder)


def test_the_card_is_text_that_a_person_can_read(folder) -> None:
    make(folder)
    text = (folder / card.NAME).read_text(encoding="utf-8")
    assert '"name": "näme"' in text
    assert json.loads(text)["format"] == card.FORMAT


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/data"])
@pytest.mark.parametrize("position", [0, -1])
def test_one_flipped_bit_is_refused_by_the_name_of_the_file(folder, name, position) -> None:
    written = make(folder)
    content = bytearray((folder / name).read_bytes())
    content[position] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(errors.ModelError, match=f"{name}: does not have the SHA-256"):
        card.verify(written, folder)


def test_a_missing_file_is_refused_and_a_new_one_is_not_ours_to_judge(folder) -> None:
    written = make(folder)
    (folder / "notes.txt").write_text("mine")
    card.verify(written, folder)
    (folder / "variables" / "data").unlink()
    with pytest.raises(errors.ModelError, match="variables/data: is listed in the card and missing"):
        card.verify(written, folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", '{"limits": [], "nme": 1}', "\x00"])
def test_what_is_no_card_of_ours_is_refused(folder, text) -> None:
    (folder / card.NAME).write_text(text)
    with pytest.raises(errors.ModelError, match="is not a card that medkeras wrote"):
        card.read(folder)


def test_a_path_whose_bytes_are_not_utf8_is_kept(folder) -> None:
    source = os.fsdecode(b"folder:sc\xe4ns")
    written = dataclasses.replace(make(folder), training={"source": source})
    card.write(written, folder)
    assert card.read(folder).training["source"] == source


def test_missing_folders_cards_and_later_formats_are_told_apart(folder) -> None:
    with pytest.raises(errors.ModelError, match="A model is a folder that exists. Received: '/no/such/folder'"):
        card.read("/no/such/folder")
    with pytest.raises(errors.ModelError, match=r"holds card.json. Received: .* without one"):
        card.read(folder)
    later = dataclasses.asdict(make(folder)) | {"format": 99}
    (folder / card.NAME).write_text(json.dumps(later))
    with pytest.raises(errors.ModelError, match="reads cards of format 1. Received: format 99"):
        card.read(folder)
