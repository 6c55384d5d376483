"""Versions come and go: loaded before the old one goes, rolled back, never displaced by a bad one, drained."""

from __future__ import annotations

import contextlib
import gc
import shutil
import threading
import time
import weakref

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from medkeras.serving import garbage, manager, status

FAST = manager.Timing(poll=0.01, retries=1, interval=0.02)
PATIENCE = 20


class Fake:
    """A model that is one number; closing it while it is used is an error."""

    signatures = {}

    def __init__(self, content: str) -> None:
        self.content, self.closed = content, False

    def run(self, signature, feeds, outputs, *, timeout=None):
        assert not self.closed
        return {}

    def close(self) -> None:
        self.closed = True


class Loader:
    """Loads folders that hold `model`; refuses, blocks, and remembers."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, int]] = []
        self.models: dict[tuple[str, int], Fake] = {}
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, name, number, folder):
        self.loads.append((name, number))
        assert self.gate.wait(PATIENCE)
        if not (folder / "model").exists():
            raise status.StatusError(status.Code.NOT_FOUND, "no model")
        content = (folder / "model").read_text()
        if content == "bug":
            raise ZeroDivisionError("a bug of the model")
        self.models[name, number] = Fake(content)
        return self.models[name, number]


def publish(base, number, content="model") -> None:
    staged = base / f"tmp-{number}"
    staged.mkdir(parents=True)
    (staged / "model").write_text(content)
    staged.rename(base / str(number))


def config(*models: str) -> model_server_config_pb2.ModelServerConfig:
    text = " ".join(f'config {{ model_platform: "tensorflow" {model} }}' for model in models)
    return text_format.Parse(f"model_config_list {{ {text} }}", model_server_config_pb2.ModelServerConfig())


def placed(name, base, more="") -> str:
    return f'name: "{name}" base_path: "{base}" {more}'


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def run(loader):
    """Starts a manager, by default waits for it, and closes it in the end."""
    with contextlib.ExitStack() as stack:

        def call(*models, wait=True, timing=FAST, **options):
            started = manager.Manager(loader, timing, **options)
            started.start(config(*models))
            stack.callback(started.close)
            stack.callback(loader.gate.set)
            if wait:
                started.wait(threading.Event())
            return started

        yield call


def states(registry, name="m") -> dict[int, str]:
    return {each.version: each.state for each in registry.states(name)}


def answering(registry, name="m", **which) -> int:
    with registry.lease(name, **which) as lease:
        lease.servable.run("", {}, [])
        return lease.version


def test_the_latest_is_lent_with_its_folder(run, tmp_path) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 3)
    registry = run(placed("m", tmp_path))
    with registry.lease("m") as lease:
        assert (lease.name, lease.version, lease.folder) == ("m", 3, tmp_path / "3")
    assert states(registry) == {3: "AVAILABLE"}
    assert registry.names() == ("m",)


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (("foo", {}), "NOT_FOUND", "Servable not found for request: Latest(foo)"),
        (("m", {"version": 99}), "NOT_FOUND", "Servable not found for request: Specific(m, 99)"),
        (("m", {"label": "nope"}), "INVALID_ARGUMENT", "Unrecognized servable version label: nope"),
        (("foo", {"label": "nope"}), "INVALID_ARGUMENT", "Unrecognized servable version label: nope"),
        (("m", {"label": "later"}), "NOT_FOUND", "Servable not found for request: Specific(m, 77)"),
    ],
)
def test_what_is_not_there(run, tmp_path, asked, code, message) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path, 'version_labels { key: "later" value: 77 }'), early_labels=True)
    name, which = asked
    with pytest.raises(status.StatusError) as caught, registry.lease(name, **which):
        pass
    assert (caught.value.code.name, caught.value.message) == (code, message)


def test_states_of_what_is_not_there(run, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("half", tmp_path))
    with pytest.raises(status.StatusError, match="Could not find any versions of model foo"):
        registry.states("foo")
    with pytest.raises(status.StatusError, match="Could not find version 9 of model half"):
        registry.states("half", 9)


def test_the_new_version_answers_before_the_old_one_goes(run, loader, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path))
    loader.gate.clear()
    publish(tmp_path, 2)
    until(lambda: states(registry).get(2) == "LOADING")
    assert states(registry)[1] == "AVAILABLE"
    assert answering(registry) == 1
    loader.gate.set()
    until(lambda: states(registry) == {2: "AVAILABLE", 1: "END"})
    assert answering(registry) == 2
    assert loader.models["m", 1].closed


def test_a_version_in_use_is_not_closed(run, loader, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path))
    with registry.lease("m") as lease:
        publish(tmp_path, 2)
        until(lambda: states(registry) == {2: "AVAILABLE", 1: "UNLOADING"})
        time.sleep(0.05)
        lease.servable.run("", {}, [])
        assert states(registry)[1] == "UNLOADING"
    until(lambda: states(registry)[1] == "END")
    assert loader.models["m", 1].closed


def test_removing_the_newest_rolls_back(run, tmp_path) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2)
    registry = run(placed("m", tmp_path))
    shutil.rmtree(tmp_path / "2")
    until(lambda: states(registry) == {2: "END", 1: "AVAILABLE"})
    publish(tmp_path, 2, "again")
    until(lambda: states(registry) == {2: "AVAILABLE", 1: "END"})


def test_removing_all_versions_unloads_all_and_removing_the_base_path_nothing(run, tmp_path) -> None:
    publish(tmp_path / "m", 1)
    publish(tmp_path / "n", 1)
    registry = run(placed("m", tmp_path / "m"), placed("n", tmp_path / "n"))
    shutil.rmtree(tmp_path / "m" / "1")
    shutil.move(tmp_path / "n", tmp_path / "gone")
    until(lambda: states(registry, "m") == {1: "END"})
    assert answering(registry, "n") == 1


def test_a_missing_base_path_holds_up_no_other_model(run, tmp_path) -> None:
    publish(tmp_path / "m", 1)
    publish(tmp_path / "n", 1)
    registry = run(placed("m", tmp_path / "m"), placed("n", tmp_path / "n"))
    shutil.move(tmp_path / "n", tmp_path / "gone")
    publish(tmp_path / "m", 2)
    until(lambda: answering(registry, "m") == 2)


@pytest.mark.parametrize("content", [None, "bug"])
def test_a_bad_version_never_displaces_a_good_one_and_its_number_is_never_tried_again(
    run, loader, tmp_path, content
) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path))
    if content is None:
        (tmp_path / "2").mkdir()
    else:
        publish(tmp_path, 2, content)
    until(lambda: states(registry).get(2) == "END")
    assert answering(registry) == 1
    (failed,) = registry.states("m", 2)
    assert failed.code == ("INTERNAL" if content else "NOT_FOUND")
    assert loader.loads.count(("m", 2)) == FAST.retries + 1
    (tmp_path / "2" / "model").write_text("model")
    time.sleep(0.1)
    assert states(registry) == {2: "END", 1: "AVAILABLE"}
    publish(tmp_path, 3)
    until(lambda: answering(registry) == 3)


def test_what_is_overwritten_stays_as_it_was_loaded(run, loader, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path))
    (tmp_path / "1" / "model").write_text("other")
    time.sleep(0.05)
    assert loader.loads == [("m", 1)]
    assert answering(registry) == 1


def test_a_start_waits_for_versions_and_says_why(run, tmp_path) -> None:
    lines: list[str] = []
    registry = run(placed("m", tmp_path / "m"), wait=False, tell=lines.append)
    waiting = threading.Thread(target=registry.wait, args=(threading.Event(),))
    waiting.start()
    until(lambda: lines)
    assert lines[0] == "Waiting for model m: its base path cannot be read (No such file or directory)"
    assert waiting.is_alive()
    publish(tmp_path / "m", 1)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert answering(registry) == 1


def test_a_start_ends_when_it_is_told_to(run, tmp_path) -> None:
    registry = run(placed("m", tmp_path), wait=False)
    stop = threading.Event()
    stop.set()
    registry.wait(stop)


def test_a_model_that_cannot_be_loaded_fails_the_start(run, tmp_path) -> None:
    (tmp_path / "1").mkdir()
    registry = run(placed("bad", tmp_path), wait=False)
    with pytest.raises(status.StatusError) as caught:
        registry.wait(threading.Event())
    assert caught.value.code is status.Code.UNKNOWN
    assert caught.value.message == (
        "1 servable(s) did not become available: {{{name: bad version: 1} due to error: NOT_FOUND: no model}, }"
    )


def test_labels(run, tmp_path) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2)
    both = "model_version_policy { all { } }"
    registry = run(placed("m", tmp_path, both))
    until(lambda: states(registry) == {2: "AVAILABLE", 1: "AVAILABLE"})
    registry.reload(config(placed("m", tmp_path, f'{both} version_labels {{ key: "stable" value: 1 }}')))
    assert answering(registry, label="stable") == 1
    with pytest.raises(status.StatusError) as caught:
        registry.reload(config(placed("m", tmp_path, f'{both} version_labels {{ key: "stable" value: 7 }}')))
    assert caught.value.code is status.Code.FAILED_PRECONDITION
    assert answering(registry, label="stable") == 1


def test_a_label_at_the_start_needs_the_flag(loader, tmp_path) -> None:
    publish(tmp_path, 1)
    refused = manager.Manager(loader, FAST)
    with pytest.raises(status.StatusError, match="Request to assign label to version 1 of model a, which is not curr"):
        refused.start(config(placed("a", tmp_path, 'version_labels { key: "stable" value: 1 }')))


def test_a_reload_waits_for_new_models_and_unloads_what_it_lacks(run, tmp_path) -> None:
    publish(tmp_path / "m", 1)
    publish(tmp_path / "n", 1)
    registry = run(placed("m", tmp_path / "m"))
    registry.reload(config(placed("n", tmp_path / "n")))
    assert answering(registry, "n") == 1
    until(lambda: states(registry, "m") == {1: "END"})
    assert registry.names() == ("n",)


def test_a_reload_with_a_bad_model_fails_and_keeps_the_good_ones(run, tmp_path) -> None:
    publish(tmp_path / "m", 1)
    (tmp_path / "bad" / "1").mkdir(parents=True)
    registry = run(placed("m", tmp_path / "m"))
    with pytest.raises(status.StatusError, match="did not become available"):
        registry.reload(config(placed("m", tmp_path / "m"), placed("bad", tmp_path / "bad")))
    assert answering(registry) == 1


def test_a_refused_reload_changes_nothing(run, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path))
    with pytest.raises(status.StatusError, match="absolute path"):
        registry.reload(config(placed("m", tmp_path), placed("n", "relative")))
    assert registry.names() == ("m",)


def test_one_look_is_one_look(run, loader, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path), timing=manager.Timing(poll=0, retries=0, interval=0))
    publish(tmp_path, 2)
    time.sleep(0.1)
    assert loader.loads == [("m", 1)]
    registry.reload(config(placed("m", tmp_path)))
    until(lambda: answering(registry) == 2)


def test_swaps_under_load_fail_no_request(run, tmp_path) -> None:
    publish(tmp_path, 1)
    registry = run(placed("m", tmp_path))
    stop, seen, faults = threading.Event(), set(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.add(answering(registry))
            except Exception as error:
                faults.append(error)
                return

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for number in range(2, 12):
        publish(tmp_path, number)
        until(lambda number=number: states(registry).get(number) == "AVAILABLE")
    stop.set()
    for client in clients:
        client.join()
    assert faults == []
    assert max(seen) >= 10


def test_the_collector_is_told_when_versions_come_and_go(run, tmp_path) -> None:
    publish(tmp_path, 1)
    calls: list[str] = []
    registry = run(placed("m", tmp_path), settle=lambda: calls.append("settled"))
    assert calls == ["settled"]
    publish(tmp_path, 2)
    until(lambda: states(registry) == {2: "AVAILABLE", 1: "END"})
    assert calls == ["settled"] * 3


def test_what_is_garbage_goes_and_what_is_left_is_not_looked_at_again() -> None:
    class Node:
        pass

    node = Node()
    node.own = node
    gone = weakref.ref(node)
    gc.disable()
    try:
        garbage.settle()
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        del node
        assert gone() is not None
        garbage.settle()
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.enable()


def test_closing_gives_everything_back(loader, tmp_path) -> None:
    publish(tmp_path, 1)
    started = manager.Manager(loader, FAST)
    started.start(config(placed("m", tmp_path)))
    started.wait(threading.Event())
    started.close()
    assert loader.models["m", 1].closed
    assert states(started) == {1: "END"}
