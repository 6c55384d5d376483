"""The pool: whatever a function does with a file, its caller gets a result or one sentence, in time, and goes on."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from medkeras import errors
from medkeras.guard import pool, process, tasks
from tests.guard import asking

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workers():
    with pool.Pool(4, memory=asking.MEMORY) as made:
        yield made


@pytest.fixture
def facts(workers, path):
    """Returns what the faulty module says of the one file."""
    return lambda how="facts", **limits: workers.facts(asking.task(path, how=how, **limits))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "scan").write_text("12")
    return str(tmp_path / "scan")


def reason(ask: Callable[[], object]) -> str:
    with pytest.raises(errors.RefusalError) as caught:
        ask()
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("exit", "it died"),
        ("abort", "it died"),
        ("crash", "it died"),
        ("fill", "it is large"),
        ("huge", "it is large"),
        ("panic", "it is damaged"),
        ("leave", "it is damaged"),
        ("interrupt", "it is damaged"),
        ("recurse", "it is damaged"),
        ("secret", "it is damaged"),
        ("library", "it is damaged"),
        ("no facts", "it is damaged"),
        ("system", "the file cannot be read (Permission denied)"),
        ("refuse", "a rule. Received: something else"),
        ("objects", "values are whole or floating-point numbers. Received: object"),
    ],
)
def test_every_fault_is_one_sentence_and_the_next_file_is_read(how, sentence, facts):
    assert reason(lambda: facts(how)) == sentence
    assert facts("text") == {"text": "12"}


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_a_function_that_does_not_return_is_ended(how, facts):
    facts()
    started = time.monotonic()
    assert reason(lambda: facts(how, processor=0.5, wall=60.0 if how == "spin" else 0.5)) == "it is slow"
    assert time.monotonic() - started < 20
    assert facts("text") == {"text": "12"}


def test_a_file_that_waits_for_the_processor_is_read(facts):
    """A busy machine refuses no file: the deadline is one of processor time."""
    assert facts("wait a second", processor=0.2) == {"text": "12"}


def test_a_worker_that_is_stopped_does_not_hold_its_caller(facts, monkeypatch):
    monkeypatch.setattr(process, "_GRACE", 0.5)
    os.kill(facts()["pid"], signal.SIGSTOP)
    assert reason(lambda: facts("text", wall=0.5)) == "it is slow"


def test_facts_arrive_as_they_are_and_the_worker_loads_what_it_needs(facts, path):
    found = facts()
    assert found["pid"] != os.getpid()
    assert found["heavy"] == []
    assert (found["path"], found["note"]) == (path, "µ\udce9")
    assert np.isnan(found["spacing"][1])
    assert facts()["pid"] == found["pid"]


def test_options_travel_by_the_pipe_alone(facts, workers, path):
    """A key among them is in no list of processes, no environment and no representation."""
    asked = asking.task(path, how="seen", key="QZ17SECRET")
    seen = workers.facts(asked)
    assert "medkeras.guard.worker" in seen["arguments"]
    assert "QZ17SECRET" not in f"{seen}{asked!r}"


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int16", "<i4", "int64", ">f4", "float64"])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3, 1), (0, 5), ()])
def test_arrays_arrive_as_they_are(dtype, shape, workers, path):
    sent = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    values = sent.tolist() if sent.size else []
    got = workers.array(asking.task(path, "read", array=values, dtype=dtype, order="F"))
    assert got.dtype == sent.dtype.newbyteorder("=")
    assert got.flags.writeable
    np.testing.assert_array_equal(got, sent if sent.size else [])


def test_a_large_array(workers, tmp_path):
    (tmp_path / "scan").write_text(str(50 * 2**20))
    got = workers.array(asking.task(str(tmp_path / "scan"), "read"))
    assert (got.nbytes, got.min(), got.max()) == (200 * 2**20, 7, 7)


@pytest.mark.parametrize(("memory", "least", "most"), [(900 * 2**20, 8e8, 1e9), (300 * 2**20, 2e8, 3.5e8)])
def test_memory_stays_below_the_cap_of_the_pool(memory, least, most, path):
    with pool.Pool(1, memory=memory) as capped:
        assert least < capped.facts(asking.task(path, how="most"))["peak"] < most


def test_what_earlier_files_left_behind_is_not_held_against_a_file(facts):
    first = facts()["pid"]
    facts("leave 200 MB")
    assert facts()["pid"] == first
    assert facts("take 800 MB")["pid"] != first


def test_a_worker_that_keeps_memory_is_replaced(facts):
    kept = facts("leave 300 MB")["pid"]
    assert facts()["pid"] != kept
    assert not pathlib.Path(f"/proc/{kept}").exists()


def test_libraries_that_print_do_not_disturb(facts, capfd):
    assert facts("print") == {}
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_was_killed_meanwhile_is_not_the_file_s_fault(facts):
    pid = facts()["pid"]
    os.kill(pid, signal.SIGKILL)
    while "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.01)
    assert facts()["pid"] != pid


def test_relative_names_follow_the_caller(facts, workers, path, monkeypatch):
    facts()
    monkeypatch.chdir(os.path.dirname(path))
    assert workers.facts(asking.task("scan", how="text")) == {"text": "12"}


def test_a_module_that_cannot_be_loaded_is_our_fault(workers, path):
    task = tasks.Task("tests.guard.nowhere", "inspect", path, tasks.Limits(9, 30), asking.SENTENCES)
    with pytest.raises(errors.InternalError, match="cannot load tests.guard.nowhere: ModuleNotFoundError"):
        workers.facts(task)


def test_a_worker_that_cannot_be_started_is_our_fault(facts, workers, monkeypatch):
    workers.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(errors.InternalError, match="cannot be started: No such file or directory"):
            facts()
    assert facts("text") == {"text": "12"}


def test_too_little_memory_here_is_a_sentence(facts, workers, path, monkeypatch):
    def exhausted(count, dtype):
        if count == 48:
            raise MemoryError
        return np.zeros(count, dtype)

    facts()
    monkeypatch.setattr(process.np, "empty", exhausted)
    assert reason(lambda: workers.array(asking.task(path, "read"))) == "all is full"


def test_threads_get_their_own_answers(workers, tmp_path):
    """Eight threads, some of whose files end the worker, share two to four workers."""

    def ask(number: int) -> bool:
        file = tmp_path / str(number)
        file.write_text(str(number))
        if number % 25 == 0:
            return reason(lambda: workers.facts(asking.task(str(file), how="exit"))) == "it died"
        if number % 2:
            return workers.facts(asking.task(str(file), how="text")) == {"text": str(number)}
        return workers.array(asking.task(str(file), "read")).shape == (number,)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(1, 201)))
    assert len(workers.workers()) <= 4


def test_a_pool_that_is_closed_holds_no_thread(path):
    """Whoever waits for an answer then has none, and gets it at once."""
    with pool.Pool(1, memory=asking.MEMORY) as closed, concurrent.futures.ThreadPoolExecutor(1) as threads:
        pid = closed.facts(asking.task(path))["pid"]
        waiting = threads.submit(closed.facts, asking.task(path, how="sleep"))
        time.sleep(0.3)
        closed.close()
        assert isinstance(waiting.exception(timeout=5), errors.RefusalError)
    assert closed.workers() == []
    assert gone(pid)


def script(body: str, path: str) -> subprocess.Popen[str]:
    """Starts a program that has a pool and the faulty module, in a session of its own."""
    start = (
        "import os, signal, sys, threading, time\n"
        # A job that a shell started in the background ignores Ctrl-C, and so do its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from medkeras import errors\n"
        "from medkeras.guard import pool\n"
        "from tests.guard import asking\n"
        "workers = pool.Pool(2, memory=asking.MEMORY)\n"
        "def facts(how='facts', processor=9):\n"
        f"    return workers.facts(asking.task({path!r}, how=how, processor=processor))\n"
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
        "print(facts()['pid'])\nthreading.Thread(target=facts, args=('spin',), daemon=True).start()\ntime.sleep(1)\n",
        path,
    )
    output, noise = process.communicate(timeout=60)
    assert (process.returncode, noise) == (0, "")
    assert gone(int(output))


def test_workers_end_when_their_parent_is_killed(path):
    process = script(
        "print(facts()['pid'], flush=True)\nfacts('spin', processor=1)\n",
        path,
    )
    pid = int(process.stdout.readline())
    time.sleep(0.2)
    process.kill()
    process.communicate()
    assert gone(pid)


def test_ctrl_c_reaches_the_parent_alone_and_leaves_no_half_answer(path):
    process = script(
        "facts()\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    facts('spin')\n"
        "except KeyboardInterrupt:\n"
        "    print(facts('text'))\n",
        path,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("{'text': '12'}\n", "")


def test_a_fork_has_workers_of_its_own(path):
    process = script(
        "before = facts()['pid']\n"
        "child = os.fork()\n"
        "mine = facts()['pid']\n"
        "if not child:\n"
        "    sys.exit(0 if mine != before else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert mine == before == facts()['pid']\n",
        path,
    )
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
