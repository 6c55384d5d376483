"""Cleans files as `medkeras.privacy.file` does, but for those whose name asks for a misfortune of the worker."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from typing import Any

from medkeras.privacy import file


class Panic(BaseException):
    """As a decoder written in Rust raises it."""


identify = file.identify


def clean(path: str, *, key: str, **options: Any) -> dict[str, Any]:
    name = pathlib.Path(path).stem
    own = pathlib.Path("/proc/self")
    if key in (own / "cmdline").read_text() + (own / "environ").read_text():
        return {"kind": "", "reason": "the key is in sight"}
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "panic":
        raise Panic("Doe^Jane")
    if name == "fill":
        bytearray(5 * 2**30)
    time.sleep({"hang": 3600.0, "wait": 15.0, "slow": 0.5}.get(name, 0.0))
    return file.clean(path, key=key, **options)
