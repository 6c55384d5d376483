"""The guard: whatever a decoder does, its caller gets a result or one sentence, in time, and goes on."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from medkeras import errors
from medkeras.data import guard

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def faulty(monkeypatch):
    monkeypatch.setattr(guard, "KINDS", {"faulty": ("tests.data.faulty", "FAULTY file")})


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
        ("abort", "the FAULTY file is damaged so that its decoder cannot go on"),
        ("crash", "the FAULTY file is damaged so that its decoder cannot go on"),
        ("fill", "decoding the file takes more memory than the 1 GB that a file may"),
        ("huge", "decoding the file takes more memory than the 1 GB that a file may"),
        ("panic", "the FAULTY file is truncated or damaged"),
        ("leave", "the FAULTY file is truncated or damaged"),
        ("interrupt", "the FAULTY file is truncated or damaged"),
        ("recurse", "the FAULTY file is truncated or damaged"),
        ("secret", "the FAULTY file is truncated or damaged"),
        ("library", "the FAULTY file is truncated or damaged"),
        ("no facts", "the FAULTY file is truncated or damaged"),
        ("system", "the file cannot be read (Permission denied)"),
        ("refuse", "a rule. Received: something else"),
        ("objects", "pixels are whole or floating-point numbers. Received: object"),
    ],
)
def test_every_fault_is_one_sentence_and_the_next_file_is_read(how, sentence, path):
    assert reason(path, how) == sentence
    assert guard.inspect("faulty", path, how="text") == {"text": "12"}


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_a_decoder_that_does_not_return_is_ended(how, path, monkeypatch):
    monkeypatch.setattr(guard, "DEADLINE", 0.5)
    monkeypatch.setattr(guard, "PATIENCE", 60.0 if how == "spin" else 0.5)
    guard.inspect("faulty", path)
    started = time.monotonic()
    assert reason(path, how) == "decoding the FAULTY file takes longer than 0.5 seconds"
    assert time.monotonic() - started < 20
    assert guard.inspect("faulty", path, how="text") == {"text": "12"}


def test_a_file_that_waits_for_the_processor_is_read(path, monkeypatch):
    """A busy machine refuses no file: the deadline is one of processor time."""
    monkeypatch.setattr(guard, "DEADLINE", 0.2)
    assert guard.inspect("faulty", path, how="wait a second") == {"text": "12"}


def test_a_worker_that_is_stopped_does_not_hold_its_caller(path, monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.5)
    monkeypatch.setattr(guard, "_GRACE", 0.5)
    os.kill(guard.inspect("faulty", path)["pid"], signal.SIGSTOP)
    assert "takes longer" in reason(path, "text")


def test_facts_arrive_as_they_are_and_the_worker_loads_what_it_needs(path):
    facts = guard.inspect("faulty", path)
    assert facts["pid"] != os.getpid()
    assert facts["heavy"] == []
    assert (facts["path"], facts["note"]) == (path, "µ\udce9")
    assert np.isnan(facts["spacing"][1])
    assert guard.inspect("faulty", path)["pid"] == facts["pid"]


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int16", "<i4", "int64", ">f4", "float64"])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3, 1), (0, 5), ()])
def test_arrays_arrive_as_they_are(dtype, shape, path):
    sent = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    got = guard.read("faulty", path, array=sent.tolist() if sent.size else [], dtype=dtype, order="F")
    assert got.dtype == sent.dtype.newbyteorder("=")
    assert got.flags.writeable
    np.testing.assert_array_equal(got, sent if sent.size else [])


def test_a_large_array(tmp_path):
    (tmp_path / "scan").write_text(str(50 * 2**20))
    got = guard.read("faulty", str(tmp_path / "scan"))
    assert (got.nbytes, got.min(), got.max()) == (200 * 2**20, 7, 7)


def test_memory_stays_below_one_gigabyte(path):
    assert 8e8 < guard.inspect("faulty", path, how="most")["peak"] < 1e9


def test_what_earlier_files_left_behind_is_not_held_against_a_file(path):
    first = guard.inspect("faulty", path)["pid"]
    guard.inspect("faulty", path, how="leave 200 MB")
    assert guard.inspect("faulty", path)["pid"] == first
    assert guard.inspect("faulty", path, how="take 800 MB")["pid"] != first


def test_a_worker_that_keeps_memory_is_replaced(path):
    kept = guard.inspect("faulty", path, how="leave 300 MB")["pid"]
    assert guard.inspect("faulty", path)["pid"] != kept
    assert not pathlib.Path(f"/proc/{kept}").exists()


def test_libraries_that_print_do_not_disturb(path, capfd):
    assert guard.inspect("faulty", path, how="print") == {}
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_was_killed_meanwhile_is_not_the_file_s_fault(path):
    pid = guard.inspect("faulty", path)["pid"]
    os.kill(pid, signal.SIGKILL)
    while "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.01)
    assert guard.inspect("faulty", path)["pid"] != pid


def test_relative_names_follow_the_caller(path, monkeypatch):
    guard.inspect("faulty", path)
    monkeypatch.chdir(os.path.dirname(path))
    assert guard.inspect("faulty", "scan", how="text") == {"text": "12"}


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, sentence in (("", "this is a folder, not an image file"), ("none", "there is no such file"),
                           ("pipe", "this is not a regular file"), ("nul\0", "this is not a file name")):  # fmt: skip
        with pytest.raises(errors.BadInputError) as caught:
            guard.read("faulty", str(tmp_path / name))
        assert caught.value.reason == sentence


def test_a_reader_that_cannot_be_loaded_is_our_fault(path, monkeypatch):
    monkeypatch.setattr(guard, "KINDS", {"none": ("tests.data.nowhere", "FILE")})
    with pytest.raises(errors.InternalError, match="cannot load tests.data.nowhere: ModuleNotFoundError"):
        guard.inspect("none", path)


def test_a_worker_that_cannot_be_started_is_our_fault(path, monkeypatch):
    guard._pool.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(errors.InternalError, match="cannot be started: No such file or directory"):
            guard.inspect("faulty", path)
    assert guard.inspect("faulty", path, how="text") == {"text": "12"}


def test_too_little_memory_here_is_a_sentence(path, monkeypatch):
    def exhausted(count, dtype):
        if count == 48:
            raise MemoryError
        return np.zeros(count, dtype)

    guard.inspect("faulty", path)
    monkeypatch.setattr(guard.np, "empty", exhausted)
    with pytest.raises(errors.BadInputError, match="too little memory for the values of the FAULTY file"):
        guard.read("faulty", path)


def test_threads_get_their_own_answers(tmp_path):
    """Eight threads, some of whose files end the worker, share two to four workers."""

    def ask(number: int) -> bool:
        file = tmp_path / str(number)
        file.write_text(str(number))
        if number % 25 == 0:
            return "cannot go on" in reason(str(file), "exit")
        if number % 2:
            return guard.inspect("faulty", str(file), how="text") == {"text": str(number)}
        return guard.read("faulty", str(file)).shape == (number,)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(1, 201)))
    assert len(guard._pool.workers()) <= guard.MOST_WORKERS


def script(body: str, path: str) -> subprocess.Popen[str]:
    """Starts a program that has the guard and the faulty reader, in a session of its own."""
    start = (
        "import os, signal, sys, threading, time\n"
        "from medkeras import errors\n"
        "from medkeras.data import guard\n"
        "guard.KINDS = {'faulty': ('tests.data.faulty', 'FAULTY file')}\n"
        f"path = {path!r}\n"
    )
    command = [sys.executable, "-W", "error", "-c", start + body]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def gone(pid: int, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if "State:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_workers_end_quietly_with_their_parent(path):
    process = script(
        "print(guard.inspect('faulty', path)['pid'])\n"
        "threading.Thread(target=guard.inspect, args=('faulty', path), kwargs={'how': 'spin'}, daemon=True).start()\n"
        "time.sleep(1)\n",
        path,
    )
    output, noise = process.communicate(timeout=60)
    assert (process.returncode, noise) == (0, "")
    assert gone(int(output))


def test_workers_end_when_their_parent_is_killed(path):
    process = script(
        "guard.DEADLINE = 1\n"
        "print(guard.inspect('faulty', path)['pid'], flush=True)\n"
        "guard.inspect('faulty', path, how=sys.stdin.readline().strip() or 'spin')\n",
        path,
    )
    pid = int(process.stdout.readline())
    time.sleep(0.2)
    process.kill()
    process.communicate()
    assert gone(pid)


def test_ctrl_c_reaches_the_parent_alone_and_leaves_no_half_answer(path):
    process = script(
        "guard.inspect('faulty', path)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    guard.inspect('faulty', path, how='spin')\n"
        "except KeyboardInterrupt:\n"
        "    print(guard.inspect('faulty', path, how='text'))\n",
        path,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("{'text': '12'}\n", "")


def test_a_fork_has_workers_of_its_own(path):
    process = script(
        "before = guard.inspect('faulty', path)['pid']\n"
        "child = os.fork()\n"
        "mine = guard.inspect('faulty', path)['pid']\n"
        "if not child:\n"
        "    sys.exit(0 if mine != before else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert mine == before == guard.inspect('faulty', path)['pid']\n",
        path,
    )
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
