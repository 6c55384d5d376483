"""`.npz` archives are weighed before anything is inflated: bombs, lies and objects are one sentence."""

from __future__ import annotations

import io
import pathlib
import random
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from medkeras import errors
from medkeras.data import arrays, npz

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), np.uint8)
LABELS = np.arange(40, dtype=np.int64)[:, np.newaxis] % 2


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def archived(path: pathlib.Path, *, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> pathlib.Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, contents in members.items():
            archive.writestr(f"{name}.npy", contents)
    return path


def of_images(path: pathlib.Path, images: bytes, **options: int) -> pathlib.Path:
    return archived(path, train_images=images, train_labels=npy(LABELS), **options)


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(errors.BadInputError) as caught:
        arrays.load_npz(str(path))
    assert caught.value.path == str(path)
    return caught.value.reason


def bomb(path: pathlib.Path, size: int, *, stated: int | None = None) -> pathlib.Path:
    """Writes an archive whose images are `size` zeros, and says in its header that they are `stated`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("train_labels.npy", npy(LABELS))
        with archive.open("train_images.npy", "w", force_zip64=True) as member:
            member.write(header(f"(40, 5, {(stated or size) // 200})"))
            for _ in range(size // 2**20):
                member.write(bytes(2**20))
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", "<f8", "i8"])
def test_what_numpy_writes_is_read(tmp_path, save, dtype) -> None:
    save(tmp_path / "a.npz", one=IMAGES.astype(dtype), other=np.asfortranarray(LABELS), text=np.array("x"))
    found, names = npz.read(tmp_path / "a.npz", ["one", "other", "third"])
    assert names == ("one", "other", "text")
    assert set(found) == {"one", "other"}
    assert found["one"].dtype == dtype
    np.testing.assert_array_equal(found["one"], IMAGES)
    np.testing.assert_array_equal(found["other"], LABELS)


def test_a_large_archive_of_pictures_is_no_bomb(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(npz, "SMALL", 100)
    np.savez_compressed(tmp_path / "a.npz", one=IMAGES)
    assert len(npz.read(tmp_path / "a.npz", ["one"])[0]["one"]) == 40
    np.savez_compressed(tmp_path / "a.npz", one=np.zeros((40, 600, 500), np.uint8))
    with pytest.raises(errors.BadInputError, match="at most 100 times its compressed bytes. Received: one"):
        npz.read(tmp_path / "a.npz", ["one"])


@pytest.mark.parametrize("lies", [False, True], ids=["honest", "header says less"])
def test_a_bomb_costs_little(tmp_path, lies) -> None:
    path = bomb(tmp_path / "b.npz", 400 * 2**20, stated=2000 if lies else None)
    tracemalloc.start()
    begin = time.process_time()
    reason = refusal(path)
    seconds, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    expected = "takes the bytes that its shape and type say" if lies else "at most 100 times its compressed bytes"
    assert expected in reason
    assert seconds < 1
    assert peak < 2**23


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (header("(40, 100000, 100000)") + bytes(1000), "bytes that its shape and type say. Received: train_images, 4"),
        (header("(40, 6, 5)") + bytes(1199), "Received: train_images, 1328 bytes in 1327"),
        (header("(40, 6, 5)") + bytes(1201), "Received: train_images, 1328 bytes in 1329"),
        (header("(40, -6, 5)") + bytes(1200), "the shape of an array is whole numbers"),
        (header("(0, 9223372036854775808, 5)"), "the shape of an array is whole numbers"),
        (header("(True, 6, 5)") + bytes(30), "the shape of an array is whole numbers"),
        (header("'oops'"), "the shape of an array is whole numbers"),
        (header("[[" * 40), "the header of an array is damaged"),
        (header("(1,)", "[('a', '<f4')]"), "which holds something else"),
        (header("(1,)", "'<U9999999'"), "which holds something else"),
        (
            header("(1,)", "'|O'") + b"cos\nsystem\n(S'false'\ntR.",
            "which holds Python objects, which nothing unpickles",
        ),
        (b"\x93NUMPY\2\0\xff\xff\xff\x7f" + bytes(20000), "the header of an array is damaged"),
        (b"\x93NUMPY\1\0", "one is something else"),
        (b"hello", "one is something else"),
        (b"", "one is something else"),
    ],
)
def test_what_an_array_says_is_checked_before_it_is_read(tmp_path, contents, sentence) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = refusal(of_images(tmp_path / "a.npz", contents, method=method))
        assert reason.startswith("is not a readable .npz archive: ")
        assert sentence in reason


def test_arrays_beyond_the_memory_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(npz, "_memory", lambda: 2000)
    assert "take at most 1500 bytes on this machine. Received: 1776" in refusal(
        of_images(tmp_path / "a.npz", npy(IMAGES))
    )


def test_lies_of_the_directory_are_found(tmp_path) -> None:
    path = of_images(tmp_path / "a.npz", npy(IMAGES), method=zipfile.ZIP_STORED)
    sound = path.read_bytes()
    entry, end = sound.index(b"PK\1\2"), sound.index(b"PK\5\6")
    for at, form, value, sentence in (
        (entry + 20, "<I", 2**30, "lie one behind the other; these overlap"),
        (entry + 24, "<I", 2**30, "the bytes that its shape and type say"),
        (entry + 42, "<I", 2**30, "truncated or damaged"),
        (entry + 8, "<H", 1, "it is not encrypted"),
        (entry + 10, "<H", 99, "truncated or damaged"),
        (entry + 16, "<I", 7, "truncated or damaged"),
        (end + 10, "<H", 60000, "holds at most 1024 arrays. Received: 60000"),
        (end + 12, "<I", 2**31, "holds at most 1024 arrays"),
    ):
        lying = bytearray(sound)
        struct.pack_into(form, lying, at, value)
        path.write_bytes(lying)
        assert sentence in refusal(path)


def test_an_array_is_named_once(tmp_path) -> None:
    path = archived(tmp_path / "a.npz", train_images=npy(IMAGES), train_imagez=npy(IMAGES))
    path.write_bytes(path.read_bytes().replace(b"train_imagez", b"train_images"))
    assert "names each array once" in refusal(tmp_path / "a.npz")


def test_folders_are_refused_and_what_is_missing_is_said(tmp_path) -> None:
    assert "it is no regular file" in refusal(tmp_path)
    with pytest.raises(errors.DataError, match="npz: needs a file that exists"):
        arrays.load_npz(str(tmp_path / "absent.npz"))


def test_mutants_are_read_or_refused_in_one_sentence(tmp_path) -> None:
    draw = random.Random(0)
    sound = [of_images(tmp_path / "a.npz", npy(IMAGES), method=method).read_bytes() for method in (0, 8)]
    path, reasons = tmp_path / "m.npz", []
    for number in range(600):
        mutant = bytearray(sound[number % 2])
        for _ in range(draw.randint(1, 4)):
            mutant[draw.randrange(len(mutant))] = draw.randrange(256)
        path.write_bytes(mutant[: draw.randrange(len(mutant))] if number % 5 == 0 else mutant)
        try:
            arrays.load_npz(str(path))
        except errors.BadInputError as error:
            reasons.append(error.reason)
    assert len(reasons) > 300
    assert not any("\n" in reason or len(reason) > 250 for reason in reasons)
