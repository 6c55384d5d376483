"""Logs of a batch that cost nothing until a callback looks at them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any


def _filled(method: Callable[..., Any]) -> Any:
    @functools.wraps(method)
    def call(self: LazyLogs, *args: Any, **kwargs: Any) -> Any:
        self.fill()
        return method(self, *args, **kwargs)

    return call


class LazyLogs(dict[str, float]):
    """A dict whose content is read when it is first looked at.

    Reading a metric waits for the device. Keras's callbacks expect a dict, and may copy it, count
    it or change it; most look only at some steps, or never.

    Args:
        names: The keys that `read` will give.
        read: Returns the content; called at most once.

    >>> logs = LazyLogs(["loss"], lambda: {"loss": 0.5})
    >>> logs["loss"], "accuracy" in logs, dict(logs), bool(logs)
    (0.5, False, {'loss': 0.5}, True)
    """

    def __init__(self, names: Iterable[str], read: Callable[[], dict[str, float]]) -> None:
        # Without the keys, the json module would write an empty object and never ask.
        super().__init__(dict.fromkeys(names, math.nan))
        self._read: Callable[[], dict[str, float]] | None = read

    def fill(self) -> None:
        """Reads the content, once."""
        if self._read is not None:
            read, self._read = self._read, None
            dict.update(self, read())

    __contains__ = _filled(dict.__contains__)
    __delitem__ = _filled(dict.__delitem__)
    __eq__ = _filled(dict.__eq__)
    __getitem__ = _filled(dict.__getitem__)
    __iter__ = _filled(dict.__iter__)
    __len__ = _filled(dict.__len__)
    __or__ = _filled(dict.__or__)
    __repr__ = _filled(dict.__repr__)
    __setitem__ = _filled(dict.__setitem__)
    copy = _filled(dict.copy)
    get = _filled(dict.get)
    items = _filled(dict.items)
    keys = _filled(dict.keys)
    pop = _filled(dict.pop)
    setdefault = _filled(dict.setdefault)
    update = _filled(dict.update)
    values = _filled(dict.values)
