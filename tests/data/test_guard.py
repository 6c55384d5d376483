"""The kinds of files that workers read: their sentences name the file and what such a file is called."""

from __future__ import annotations

import os

import numpy as np
import pytest

from medkeras import errors
from medkeras.data import guard
from tests.data import images


@pytest.fixture(autouse=True)
def faulty(monkeypatch):
    monkeypatch.setattr(guard, "KINDS", {**guard.KINDS, "faulty": ("tests.guard.faulty", "FAULTY file")})


@pytest.fixture
def path(tmp_path):
    (tmp_path / "scan").write_text("12")
    return str(tmp_path / "scan")


def reason(path: str, how: str) -> str:
    with pytest.raises(errors.BadInputError) as caught:
        guard.inspect("faulty", path, how=how)
    assert caught.value.path == path
    assert caught.value.__suppress_context__
    assert "Doe" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("exit", "the FAULTY file is damaged so that its decoder cannot go on"),
        ("huge", "decoding the file takes more memory than the 1 GB that a file may"),
        ("secret", "the FAULTY file is truncated or damaged"),
        ("library", "the FAULTY file is truncated or damaged"),
        ("refuse", "a rule. Received: something else"),
    ],
)
def test_every_fault_is_one_sentence_about_the_file(how, sentence, path):
    assert reason(path, how) == sentence
    assert guard.inspect("faulty", path, how="text") == {"text": "12"}


def test_the_deadline_is_told(path, monkeypatch):
    monkeypatch.setattr(guard, "DEADLINE", 0.5)
    assert reason(path, "spin") == "decoding the FAULTY file takes longer than 0.5 seconds"


def test_too_little_memory_here_is_told(path, monkeypatch):
    monkeypatch.setattr(guard._pool, "_answer", exhausted)
    with pytest.raises(errors.BadInputError, match="too little memory for the values of the FAULTY file"):
        guard.read("faulty", path)


def exhausted(*_: object) -> None:
    raise MemoryError


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, sentence in (("", "this is a folder, not an image file"), ("none", "there is no such file"),
                           ("pipe", "this is not a regular file"), ("nul\0", "this is not a file name")):  # fmt: skip
        for ask in (guard.read, guard.inspect):
            with pytest.raises(errors.BadInputError) as caught:
                ask("faulty", str(tmp_path / name))
            assert caught.value.reason == sentence


def test_readers_load_no_tensorflow(tmp_path):
    """One worker reads a file of each kind; then it is asked what it has loaded."""
    guard._pool.close()
    for kind in ("dicom", "nifti"):
        with pytest.raises(errors.BadInputError):
            guard.read(kind, str(images.write(tmp_path, b"nothing of this kind", kind)))
    picture = images.picture(9, 9, 1)[..., 0]
    path = str(images.write(tmp_path, images.tiff(picture), "sound"))
    np.testing.assert_array_equal(guard.read("image", path)[..., 0], picture)
    heavy = guard.inspect("faulty", path)["heavy"]
    assert {"pydicom", "tifffile"} <= set(heavy)
    assert not {"tensorflow", "keras"} & set(heavy)
