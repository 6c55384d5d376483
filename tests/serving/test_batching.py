"""Requests that run together: numbers, refusals, filling, faults of strangers, full queues, deadlines."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from medkeras.serving import batching, status

PATIENCE = 20


class Doubling:
    """Doubles its inputs; refuses NaN; notes the batches that it ran; may be held."""

    signatures = {"double": None}

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def run(self, signature, feeds, outputs, *, timeout=None):
        x = feeds.get("x", np.zeros(0))
        self.batches.append(x)
        assert self.gate.wait(PATIENCE)
        if np.isnan(x).any():
            raise status.invalid("bad number")
        answers = {"y": 2 * x, "total": x.sum(), "short": x[:1]}
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def make():
    pools = []

    def call(threads=1, **parameters):
        inner, pool = Doubling(), batching.Pool(threads)
        pools.append((inner, pool))
        return inner, batching.Batched(inner, batching.Parameters(**parameters), pool)

    yield call
    for inner, pool in pools:
        inner.gate.set()
        pool.close()


class Call(threading.Thread):
    """A request in a thread of its own."""

    def __init__(self, servable, x, *, timeout=None, outputs=("y",)) -> None:
        super().__init__()
        self.servable, self.feeds = servable, {"x": np.asarray(x, np.float32)}
        self.timeout, self.outputs = timeout, outputs
        self.answer = self.error = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self.servable.run("double", self.feeds, self.outputs, timeout=self.timeout)
        except status.StatusError as error:
            self.error = error

    def result(self):
        self.join(PATIENCE)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.answer["y"]


def held(inner, servable) -> Call:
    """Returns a call that keeps the only thread busy until the gate opens."""
    inner.gate.clear()
    first = Call(servable, [0.0])
    until(lambda: inner.batches)
    return first


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def waiting(servable) -> int:
    return sum(len(queue.tasks) for queue in servable._pool._queues.values())


def gathered(inner, servable, *values, **options) -> list[Call]:
    """Returns calls that all wait for the busy thread, in order."""
    calls = []
    for number, value in enumerate(values, 1):
        calls.append(Call(servable, value, **options))
        until(lambda number=number: waiting(servable) >= number)
    return calls


def test_what_waits_runs_together_and_each_gets_its_own(make) -> None:
    inner, servable = make()
    first = held(inner, servable)
    calls = gathered(inner, servable, [1.0], [2.0, 3.0], [4.0])
    inner.gate.set()
    assert first.result().tolist() == [0]
    assert [call.result().tolist() for call in calls] == [[2], [4, 6], [8]]
    assert [batch.tolist() for batch in inner.batches] == [[0], [1, 2, 3, 4]]


def test_a_lone_request_goes_through_as_it_is(make) -> None:
    inner, servable = make()
    x = np.ones(3, np.float32)
    servable.run("double", {"x": x}, ["y"])
    assert inner.batches[0] is not None
    assert np.shares_memory(inner.batches[0], x)


def test_batches_are_filled_up_to_allowed_sizes_and_no_larger_than_allowed(make) -> None:
    inner, servable = make(max_batch_size=4, allowed_batch_sizes=(2, 4))
    first = held(inner, servable)
    calls = gathered(inner, servable, [1.0], [2.0, 3.0], [4.0, 5.0])
    inner.gate.set()
    assert [call.result().tolist() for call in (first, *calls)] == [[0], [2], [4, 6], [8, 10]]
    assert [batch.tolist() for batch in inner.batches] == [[0, 0], [1, 2, 3, 1], [4, 5]]


def test_other_shapes_types_and_outputs_run_apart(make) -> None:
    inner, servable = make()
    first = held(inner, servable)
    calls = gathered(inner, servable, [1.0], [[1.0, 2.0]])
    inner.gate.set()
    assert [call.result().tolist() for call in (first, *calls)] == [[0], [2], [[2, 4]]]
    assert len(inner.batches) == 3


def test_a_bad_request_fails_alone(make) -> None:
    inner, servable = make()
    first = held(inner, servable)
    good, bad, other = gathered(inner, servable, [1.0], [float("nan")], [3.0])
    inner.gate.set()
    assert first.result().tolist() == [0]
    assert (good.result().tolist(), other.result().tolist()) == ([2], [6])
    with pytest.raises(status.StatusError, match="bad number"):
        bad.result()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_batch_threads": 0}, "num_batch_threads must be positive; was 0"),
        ({"max_batch_size": 0}, "max_batch_size must be positive; was 0"),
        (
            {"max_batch_size": 4, "allowed_batch_sizes": (2, 3)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 3; expected 4",
        ),
        (
            {"max_batch_size": 4, "allowed_batch_sizes": (4, 2)},
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
    ],
)
def test_parameters_that_contradict_each_other(parameters, message) -> None:
    with pytest.raises(status.StatusError) as caught:
        batching.Parameters(**parameters)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("feeds", "outputs", "message"),
    [
        ({"x": np.float32(1)}, ["y"], "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)},
            ["y"],
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ({"x": np.ones(5, np.float32)}, ["y"], "Task size 5 is larger than maximum input batch size 4"),
        ({"x": np.ones(2, np.float32)}, ["total"], "Batched output tensor has 0 dimensions"),
        ({"x": np.ones(2, np.float32)}, ["short"], "Batched output tensor's 0th dimension does not equal the sum of"),
    ],
)
def test_what_cannot_be_put_together(make, feeds, outputs, message) -> None:
    _, servable = make(max_batch_size=4)
    with pytest.raises(status.StatusError) as caught:
        servable.run("double", feeds, outputs)
    assert caught.value.message.startswith(message)


def test_an_empty_batch_and_no_inputs_are_answered(make) -> None:
    _, servable = make()
    assert servable.run("double", {"x": np.zeros(0, np.float32)}, ["y"])["y"].shape == (0,)
    assert servable.run("double", {}, ["y"])["y"].shape == (0,)


def test_a_large_request_runs_in_parts_where_it_may(make) -> None:
    inner, servable = make(max_batch_size=4, enable_large_batch_splitting=True)
    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(servable.run("double", {"x": x}, ["y"])["y"], 2 * x)
    assert sorted(len(batch) for batch in inner.batches) in ([2, 4, 4], [4, 6])


def test_a_full_queue_refuses_at_once(make) -> None:
    inner, servable = make(max_batch_size=2, max_enqueued_batches=2)
    first = held(inner, servable)
    calls = gathered(inner, servable, [1.0, 1.0], [2.0, 2.0])
    began = time.monotonic()
    with pytest.raises(status.StatusError) as caught:
        servable.run("double", {"x": np.ones(1, np.float32)}, ["y"])
    assert caught.value.code is status.Code.UNAVAILABLE
    assert time.monotonic() - began < 1
    inner.gate.set()
    assert [call.result().tolist() for call in (first, *calls)] == [[0], [2, 2], [4, 4]]


def test_a_batch_waits_for_company_as_long_as_it_is_told(make) -> None:
    inner, servable = make(max_batch_size=3, batch_timeout_micros=10_000_000)
    began = time.monotonic()
    calls = [Call(servable, [float(number)]) for number in range(3)]
    assert sorted(call.result().tolist() for call in calls) == [[0], [2], [4]]
    assert time.monotonic() - began < 5
    assert len(inner.batches) == 1


def test_deadlines(make) -> None:
    inner, servable = make()
    first = held(inner, servable)
    late = Call(servable, [1.0], timeout=0.05)
    with pytest.raises(status.StatusError) as caught:
        late.result()
    assert caught.value.code is status.Code.DEADLINE_EXCEEDED
    inner.gate.set()
    assert first.result().tolist() == [0]
    assert servable.run("double", {"x": np.ones(1, np.float32)}, ["y"])["y"].tolist() == [2]
    assert [batch.tolist() for batch in inner.batches] == [[0], [1]]


def test_many_clients(make) -> None:
    inner, servable = make(threads=3, max_batch_size=16, max_enqueued_batches=100)
    faults = []

    def ask(number: int) -> None:
        draw = np.random.default_rng(number)
        for _ in range(50):
            x = draw.random(draw.integers(1, 6)).astype(np.float32)
            if not np.array_equal(servable.run("double", {"x": x}, ["y"])["y"], 2 * x):
                faults.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert max(len(batch) for batch in inner.batches) <= 16


def test_closing_runs_what_waits_and_closing_a_model_closes_it(make) -> None:
    inner, servable = make(batch_timeout_micros=10_000_000)
    call = Call(servable, [1.0])
    until(lambda: waiting(servable))
    servable._pool.close()
    assert call.result().tolist() == [2]
    with pytest.raises(status.StatusError) as caught:
        servable.run("double", {"x": np.ones(1, np.float32)}, ["y"])
    assert caught.value.code is status.Code.UNAVAILABLE
    servable.close()
    assert inner.closed
