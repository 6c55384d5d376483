"""What is left when the program is interrupted or killed: the originals as they were, and nothing half-written."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from medkeras import errors
from medkeras.workflows import deidentify
from tests.privacy import canaries

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import signal, sys
from medkeras.workflows import deidentify
signal.signal(signal.SIGINT, signal.default_int_handler)
deidentify._MODULE = "tests.privacy.fragile"
try:
    deidentify.deidentify([sys.argv[1]], output=sys.argv[2], key=sys.argv[3])
except KeyboardInterrupt:
    sys.exit(130)
"""


def digests(folder: pathlib.Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def scans(tmp_path) -> pathlib.Path:
    """Returns a folder of a DICOM file and a picture that are soon done, and a picture that takes long."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(canaries.FILES / "CT_small.dcm", folder / "a.dcm")
    for name in ("b", "wait"):
        PIL.Image.fromarray(np.eye(16, dtype=np.uint8)).save(folder / f"{name}.png")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    return folder


@pytest.fixture
def at_work(scans, tmp_path):
    """Yields the process that cleans the folder, while some files are done and one is not."""
    command = [sys.executable, "-c", PROGRAM, str(scans), str(tmp_path / "out"), str(tmp_path / "key")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.deidentify-*/ready/n-*.png")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_ends_it_finds_nothing_half_written(number, scans, at_work, tmp_path) -> None:
    before = digests(scans)
    begin = time.monotonic()
    at_work.send_signal(number)
    assert at_work.wait(timeout=30) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert time.monotonic() - begin < 25
    assert digests(scans) == before
    seen = [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    assert seen == []
    if number == signal.SIGINT:
        assert not list((tmp_path / "out").iterdir())
        return
    # What a kill leaves is hidden, and is not built upon.
    with pytest.raises(errors.DataError, match="new or empty"):
        deidentify.deidentify([scans], output=tmp_path / "out", key=tmp_path / "key")


def test_the_report_comes_last(scans, tmp_path, monkeypatch) -> None:
    """A stop between two moves leaves files without a report, never a report of files that are not there."""
    moves: list[str] = []
    real = deidentify.os.replace

    def replace(source, target) -> None:
        if pathlib.Path(target).parent == tmp_path / "out":
            moves.append(pathlib.Path(target).name)
        real(source, target)

    monkeypatch.setattr(deidentify.os, "replace", replace)
    deidentify.deidentify([scans], output=tmp_path / "out", key=tmp_path / "key")
    assert len(moves) == 4
    assert moves[-1] == deidentify.REPORT
