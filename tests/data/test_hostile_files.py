"""Hostile files made by hand: each is refused with one sentence, or read right, within bounds."""

from __future__ import annotations

import os
import pathlib
import resource
import time

import pytest

from medkeras import errors
from medkeras.data import files, guard
from tests.data import hostile_files, images

SOURCE = files.FileImages()
FAMILIES = {"DICOM": hostile_files.DICOM, "NIfTI": hostile_files.NIFTI, "image": hostile_files.PACKED}
ALL = [(family, name) for family, table in FAMILIES.items() for name in table]
JARGON = (
    "not about",
    "\n",
    "Doe",
    "Errno",
    "Error",
    "Traceback",
    "object at",
    "0x",
    "None",
    "numpy",
    "pydicom",
    "nibabel",
)


def refusal(path: pathlib.Path) -> str:
    """Returns the reason for which a file is refused, or nothing."""
    try:
        pixels = SOURCE.read(images.case(path), 1)
    except errors.BadInputError as error:
        wrong = error.path != str(path) or not error.__suppress_context__
        return "not about this file alone" if wrong else error.reason
    assert pixels.dtype in ("uint8", "uint16", "float32")
    assert pixels.size
    return ""


def written(family: str, name: str, folder: pathlib.Path) -> pathlib.Path:
    return images.write(folder, FAMILIES[family][name](), f"{family}.bin")


def used(pid: int) -> tuple[int, float]:
    """Returns the most bytes that a process held, and its processor time in seconds."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    times = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024, seconds


def test_the_table_is_large_enough():
    assert len(hostile_files.DICOM) >= 80
    assert len(hostile_files.NIFTI) >= 35
    for family, names in hostile_files.READABLE.items():
        assert names <= set(FAMILIES[family])


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_hostile_file_is_one_sentence_or_read(family, name, tmp_path):
    path = written(family, name, tmp_path)
    started = time.monotonic()
    reason = refusal(path)
    assert time.monotonic() - started < guard.PATIENCE
    assert "takes longer" not in reason
    assert bool(reason) == (name not in hostile_files.READABLE[family]), reason
    assert not reason or 10 < len(reason) < 250
    assert not any(word in reason for word in JARGON)
    assert all(used(worker.pid)[0] < 1e9 for worker in guard._pool.workers())


SOUND = {
    "DICOM": hostile_files.dicom(),
    "NIfTI": hostile_files.nifti(),
    "image": images.tiff(images.picture(9, 9, 1)[..., 0]),
}


BOMBS = [(family, name) for family, names in hostile_files.BOMBS.items() for name in names]


@pytest.mark.parametrize(("family", "name"), BOMBS)
def test_a_bomb_costs_little(family, name, tmp_path):
    path = written(family, name, tmp_path)
    guard._pool.close()
    assert not refusal(images.write(tmp_path, SOUND[family], "sound"))
    (worker,) = guard._pool.workers()
    _, before = used(worker.pid)
    own = resource.getrusage(resource.RUSAGE_SELF)
    assert bool(refusal(path)) == (name not in hostile_files.READABLE[family])
    # Processor time, for the wall's depends on what else the machine does.
    peak, after = used(worker.pid)
    now = resource.getrusage(resource.RUSAGE_SELF)
    assert after - before < 1
    assert peak < 300e6
    assert now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime < 1
    assert now.ru_maxrss - own.ru_maxrss < 50_000
    assert [each.pid for each in guard._pool.workers()] == [worker.pid]
