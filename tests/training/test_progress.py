import io

import pytest
import rich.console

from medkeras.training import progress


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def make(*, terminal, steps=10, epochs=3):
    output, clock = io.StringIO(), Clock()
    console = rich.console.Console(file=output, force_terminal=terminal, width=120)
    shown = progress.Progress(console, clock=clock)
    shown.set_params({"epochs": epochs, "steps": steps})
    shown.on_train_begin()
    return shown, output, clock


def run_epoch(shown, clock, *, epoch, steps=10, seconds=1.0, logs=None):
    shown.on_epoch_begin(epoch)
    for step in range(steps):
        clock.now += seconds
        shown.on_train_batch_end(step, {} if logs is None else logs)


def test_without_a_terminal_an_epoch_is_one_plain_line():
    shown, output, clock = make(terminal=False)
    run_epoch(shown, clock, epoch=1)
    shown.on_epoch_end(1, {"accuracy": 0.75, "loss": 0.123456})
    shown.on_train_end()
    assert output.getvalue() == "epoch 2/3  accuracy 0.75  loss 0.1235  10.0 s\n"


def test_without_a_terminal_logs_of_a_batch_are_never_looked_at():
    class Untouchable(dict):
        def __bool__(self):
            pytest.fail("looking waits for the device")

        __len__ = __iter__ = items = __bool__

    shown, _, clock = make(terminal=False)
    run_epoch(shown, clock, epoch=0, logs=Untouchable())
    assert shown.time_left(clock.now)[0] == 0


def test_time_left_counts_steps_and_leaves_the_first_out():
    shown, _, clock = make(terminal=False)
    shown.on_epoch_begin(1)
    clock.now += 50
    shown.on_train_batch_end(0, {})
    assert str(shown.time_left(clock.now)) == "(nan, nan)"
    for step in (1, 2, 3):
        clock.now += 2
        shown.on_train_batch_end(step, {})
    assert shown.time_left(clock.now) == (12.0, 32.0)


def test_on_a_terminal_the_bar_shows_numbers_and_both_times():
    shown, output, clock = make(terminal=True)
    run_epoch(shown, clock, epoch=0, steps=4, logs={"loss": 0.5})
    text = output.getvalue()
    assert "epoch 1/3" in text
    assert "4/10" in text.replace(" 4/10", "4/10")
    assert "loss 0.5" in text
    assert "0:00:06 left, 0:00:26 in all" in text


def test_the_bar_is_drawn_at_most_four_times_a_second(monkeypatch):
    shown, _, clock = make(terminal=True, steps=1000)
    drawn = []
    monkeypatch.setattr(shown, "_draw", lambda *args, now: drawn.append(now))
    run_epoch(shown, clock, epoch=0, steps=1000, seconds=1 / 128)
    assert len(drawn) == 31
    shown.close()


def test_closing_gives_the_cursor_back_even_twice():
    shown, output, _ = make(terminal=True)
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert output.getvalue().count(hide) == 1
    shown.close()
    shown.close()
    assert output.getvalue().count(show) == 1
