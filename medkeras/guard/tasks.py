"""What a worker is asked about one untrusted file, what that may take, and what is said when it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one task may take.

    Attributes:
        processor: Seconds of processor time, so that a busy machine refuses no file that a quiet one reads.
        wall: Seconds by the clock, for what waits for what never comes.
    """

    processor: float
    wall: float


@dataclasses.dataclass(frozen=True)
class Sentences:
    """What is said of a file that gives no result; nothing that the file holds.

    Attributes:
        damaged: The function raised what it did not mean to raise.
        slow: It took more than its limits.
        died: It brought its worker down.
        large: It needs more memory than a worker may hold.
        full: There is too little memory here for its result.
    """

    damaged: str
    slow: str
    died: str
    large: str
    full: str


@dataclasses.dataclass(frozen=True)
class Task:
    """One call, `module.function(path, **options)`; whoever asks takes the module from a fixed table.

    Attributes:
        module: The full name of a module that loads no TensorFlow.
        function: One of its functions. It returns JSON facts or an array, and raises `RefusalError` to refuse the file.
        path: The file.
        limits: What the call may take.
        sentences: What is said when it fails.
        options: Further arguments, of JSON's types; they travel by a pipe, where no other process sees them.
    """

    module: str
    function: str
    path: str
    limits: Limits
    sentences: Sentences
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
