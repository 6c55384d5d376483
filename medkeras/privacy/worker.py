"""The process that reads untrusted files, one after another: `python -m medkeras.privacy.worker`.

It reads JSON lines from standard input, the key and the options first, and answers each file with one line. Nothing
that a library prints leaves it: such a text may quote a file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from typing import Any, BinaryIO

from medkeras.privacy import file

LARGEST_MEMORY = 4 * 2**30
"""Bytes of address space: a file, its copy, and the libraries."""


def main() -> None:
    """Answers until standard input ends."""
    answers = _silenced()
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = json.loads(sys.stdin.buffer.readline())
    key, chosen = bytes.fromhex(first["key"]), frozenset(first["options"])
    for line in sys.stdin.buffer:
        answers.write(_answer(json.loads(line), key, chosen))
        answers.flush()


def _silenced() -> BinaryIO:
    """Returns the stream of the answers; standard output and error go nowhere from here on."""
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    return answers


def _answer(asked: dict[str, Any], key: bytes, chosen: frozenset[str]) -> bytes:
    path, target, relative = (os.fsdecode(bytes.fromhex(asked[name])) for name in ("path", "target", "relative"))
    try:
        done = file.deidentify_file(path, target, relative=relative, key=key, chosen=chosen)
    except BaseException as error:
        # Decoders written in Rust raise panics that are no `Exception`; an interrupt is for the parent.
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        done = file.Done("", reason="the file is damaged")
    return json.dumps(dataclasses.asdict(done)).encode("ascii") + b"\n"


if __name__ == "__main__":
    main()
