"""What every mode of the front door shares: flags that fit the mode, one sentence for a mistake, exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import app, flags, logging

from medkeras import errors

INTERRUPTED = 130

Mode = Callable[[], dict[str, Any]]


def load(package: types.ModuleType, name: str) -> Callable[..., Any]:
    """Returns a public function of a package, keeping off the terminal what native libraries say while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        return getattr(package, name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def show(text: str) -> None:
    """Writes a line, or several, to standard output."""
    sys.stdout.write(f"{text}\n")


def complain(sentence: str) -> None:
    """Writes one sentence to standard error, with the program's name before it."""
    sys.stderr.write(f"medkeras: {sentence}\n")


def required(values: flags.FlagValues, name: str) -> str:
    """Returns a flag's value; raises `ConfigError` where the mode needs it and it is not given."""
    value = values[name].value
    if not value:
        raise errors.ConfigError(f"--mode={values['mode'].value} needs --{name}. Received: none")
    if not isinstance(value, list):
        return value
    if len(value) > 1:
        raise errors.ConfigError(f"--mode={values['mode'].value} takes one --{name}. Received: {len(value)}")
    return value[0]


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Reads the command line, the program's name first; ends the program with its help or with one sentence."""
    if {"--help", "-help", "-h"} & set(arguments):
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit(0)
    try:
        rest = values(arguments)
    except flags.Error as error:
        complain(str(error).splitlines()[0])
        sys.exit(errors.UserError.exit_code)
    if rest[1:]:
        complain(f"Every argument is a flag, --name=value. Received: {rest[1]!r}")
        sys.exit(errors.UserError.exit_code)
    return rest


def answer(values: flags.FlagValues, modes: Mapping[str, Mode]) -> int:
    """Runs the mode that the flags ask for and returns the exit code."""
    logging.set_verbosity(logging.ERROR)
    mode = values["mode"].value or ""
    try:
        if not mode:
            raise errors.ConfigError(
                f"A mode is needed, such as --mode=train. Known: {', '.join(sorted(modes))}. Received: none"
            )
        if mode not in modes:
            raise errors.ConfigError(errors.unknown("mode", mode, modes))
        _refuse_unused(values, mode, modes)
        result = modes[mode]()
    except errors.UserError as error:
        complain(str(error))
        return error.exit_code
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        complain(f"{errors.printable(error.filename)}: {reason}" if error.filename else reason)
        return errors.UserError.exit_code
    except KeyboardInterrupt:
        complain("Interrupted; no half-written version was left behind.")
        return INTERRUPTED
    if values["json"].value:
        sys.stdout.write(json.dumps({"mode": mode, **result}) + "\n")
    return result.get("exit_code", 0)


def interrupt_when_told() -> None:
    """Makes SIGTERM, what a scheduler or a container sends first, end the program as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _refuse_unused(values: flags.FlagValues, mode: str, modes: Mapping[str, Mode]) -> None:
    """Refuses a flag that the mode would not look at: its help begins with the modes that do."""
    for flag in values.get_key_flags_for_module(sys.argv[0]):
        owners = set(flag.help.partition(":")[0].split(", "))
        if owners <= set(modes) and mode not in owners and flag.value not in (None, [], False):
            *others, last = sorted(owners)
            listed = f"{', '.join(others)} and {last}" if others else last
            raise errors.ConfigError(f"--{flag.name} belongs to {listed}. Received: --mode={mode}")
