"""Versions appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil

import pytest

from medkeras import errors
from medkeras.export import versions


def write(base: pathlib.Path, number: int) -> None:
    with versions.new_version(base, number) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text(str(number))


def test_a_version_appears_when_the_block_has_ended(tmp_path) -> None:
    base = tmp_path / "models" / "name"
    with versions.new_version(base, 1) as folder:
        (folder / "file").write_text("half")
        assert [entry.name for entry in base.iterdir()] == [folder.name]
        assert not folder.name.isdecimal()
        assert versions.latest(base) is None
        assert versions.next_version(base) == 1
    assert sorted(entry.name for entry in base.iterdir()) == [".newest", "1"]
    assert (base / "1" / "file").read_text() == "half"


def fail_with(error: BaseException, base: pathlib.Path) -> None:
    with versions.new_version(base, 2) as folder:
        (folder / "half").write_text("half")
        raise error


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, errors.DataError])
def test_nothing_is_left_when_the_block_fails(tmp_path, kind) -> None:
    write(tmp_path, 1)
    with pytest.raises(kind, match="stopped"):
        fail_with(kind("stopped"), tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".newest", "1"]
    assert versions.latest(tmp_path) == tmp_path / "1"
    assert versions.next_version(tmp_path) == 2


def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_left(tmp_path) -> None:
    with pytest.raises(errors.ModelError, match="whole or not at all. Received: .*No space left on device"):
        fail_with(OSError(28, "No space left on device"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_appeared_in_the_meantime_is_kept(tmp_path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "theirs").write_text("theirs")
    with pytest.raises(errors.ModelError, match="whole or not at all. Received: .*/1 "):
        write(tmp_path, 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "theirs"]


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.ModelError, match=r"a folder that can be made. Received: .*file.* \(Not a directory\)"):
        write(tmp_path / "file", 1)


def test_a_killed_process_of_the_same_number_is_not_in_the_way(tmp_path) -> None:
    (tmp_path / f"tmp-1-{os.getpid()}").mkdir()
    write(tmp_path, 1)
    assert (tmp_path / "1").is_dir()


def test_whether_a_folder_can_be_written_is_known_before(tmp_path, monkeypatch) -> None:
    versions.require_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.ModelError, match=r"Received: .*file/deep, where .*file is a file"):
        versions.require_writable(tmp_path / "file" / "deep")
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(errors.ModelError, match=r"Received: .*/a, where .* is read-only"):
        versions.require_writable(tmp_path / "a")


def test_the_next_number_is_above_all_of_every_folder(tmp_path) -> None:
    one, two = tmp_path / "models", tmp_path / "runs"
    assert versions.next_version(one, two) == 1
    for base, name in ((one, "2"), (one, "10"), (two, "9"), (one, "tmp-99-1"), (one, "099x"), (two, "v50")):
        (base / name).mkdir(parents=True)
    assert versions.next_version(one) == 11
    assert versions.next_version(two) == 10
    assert versions.next_version(one, two) == 11
    assert versions.latest(one) == one / "10"


def test_numbers_grow_also_after_an_older_version_was_deleted(tmp_path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
    (tmp_path / "1" / "inner" / "file").unlink()
    (tmp_path / "1" / "inner").rmdir()
    (tmp_path / "1").rmdir()
    assert versions.next_version(tmp_path) == 4


def test_a_number_is_not_used_again_after_the_newest_version_was_deleted(tmp_path) -> None:
    for number in (1, 2):
        write(tmp_path, number)
    shutil.rmtree(tmp_path / "2")
    assert versions.next_version(tmp_path) == 3
    assert versions.latest(tmp_path) == tmp_path / "1"
    shutil.rmtree(tmp_path / "1")
    assert versions.next_version(tmp_path) == 3
    assert versions.latest(tmp_path) is None


@pytest.mark.parametrize("note", ["", "three", "-5", "\x00", "9" * 5000])
def test_a_note_that_is_no_number_is_overlooked(tmp_path, note) -> None:
    write(tmp_path, 2)
    (tmp_path / ".newest").write_text(note)
    assert versions.next_version(tmp_path) == 3
    write(tmp_path, 3)
    assert (tmp_path / ".newest").read_text() == "3\n"


def test_a_smaller_number_leaves_the_note_as_it_is(tmp_path) -> None:
    write(tmp_path, 7)
    write(tmp_path, 2)
    assert versions.next_version(tmp_path) == 8


@pytest.mark.parametrize("empty", [True, False])
def test_a_new_folder_takes_the_place_of_nothing_but_an_empty_one(tmp_path, empty) -> None:
    final = tmp_path / "out"
    final.mkdir()
    if not empty:
        (final / "theirs").write_text("theirs")
    with contextlib.ExitStack() as stack:
        if not empty:
            stack.enter_context(pytest.raises(errors.ModelError, match="whole or not at all. Received: .*/out "))
        with versions.new_folder(final) as folder:
            (folder / "ours").write_text("ours")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "ours" if empty else "theirs"]


def test_everything_is_on_the_disk_before_the_version_has_its_name(tmp_path, monkeypatch) -> None:
    seen = []
    real = os.fsync

    def fsync(handle: int) -> None:
        seen.append((os.readlink(f"/proc/self/fd/{handle}"), (tmp_path / "1").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path, 1)
    before = [name.partition("tmp-1-")[2].partition("/")[2] for name, named in seen if not named]
    assert sorted(before) == ["", "inner", "inner/file"]
    assert seen[-1] == (str(tmp_path), True)
