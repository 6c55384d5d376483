"""Writes many float32 at once, each in the digits that `json_write.number` gives it.

The digits are computed for the whole array in float64, into a table of bytes in which zeros are nothing. Where rounding
there could go either way, and for what is no ordinary number, `number` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TINY32 = 2.0**-126
"""The least float32 that counts: upstream's threads flush denormal numbers to zero."""
TINY64 = 2.0**-1022

_DIGITS = 9
_SHORT = 6
_LEAST = -4
_WIDTH = 15
_SEPARATOR = b", "
# What is made on the way stays in the processor's cache.
_CHUNK = 8192
_OFFSET = 64
_POWERS = np.array([float(f"1e{power}") for power in range(-_OFFSET, _OFFSET + 1)])
_TRIPLES = np.array([list(b"%03d" % value) for value in range(1000)], np.uint8)
_ZEROS = np.array([3 if value == 0 else (value % 10 == 0) + (value % 100 == 0) for value in range(1000)], np.int64)
_FIRST = np.where(np.arange(_DIGITS) < np.arange(_DIGITS + 1)[:, np.newaxis], 255, 0).astype(np.uint8)
_TIE = 1e-4
_ULPS = 1e-15

Number = Callable[..., bytes]


def whole(array: np.ndarray, number: Number) -> bytes:
    """Returns a float32 array of any shape, not empty, as nested lists; `number` writes one value."""
    return _table(array, array.shape, number).tobytes().translate(None, b"\0")


def rows(array: np.ndarray, number: Number) -> list[bytes]:
    """Returns each row of a float32 array `[B, ...]`, not empty, as nested lists; `number` writes one value."""
    joined = _table(array, array.shape[1:], number).reshape(len(array), -1)
    return [row.tobytes().translate(None, b"\0") for row in joined]


def _table(array: np.ndarray, shape: tuple[int, ...], number: Number) -> np.ndarray:
    """Returns uint8 `[N, W]`, one value a row, with the brackets and commas of things of a shape around them."""
    rank, size = len(shape), array.size
    text = np.zeros((size, rank + _WIDTH + rank + len(_SEPARATOR)), np.uint8)
    values = array.reshape(size)
    for start in range(0, size, _CHUNK):
        some = slice(start, start + _CHUNK)
        _write(values[some], text[some, rank : rank + _WIDTH], number)
    text[:, -len(_SEPARATOR) :] = np.frombuffer(_SEPARATOR, np.uint8)
    inner = size // (len(array) if rank < array.ndim else 1)
    text.reshape(-1, inner, text.shape[1])[:, -1, -len(_SEPARATOR) :] = 0
    for level, length in enumerate(shape):
        view = text.reshape(-1, inner, text.shape[1])
        view[:, 0, level] = ord("[")
        view[:, -1, 2 * rank + _WIDTH - level - 1] = ord("]")
        inner //= length
    return text


class _Decimals(NamedTuple):
    """Numbers as nine digits `[N, 9]`, how many of them count, the exponent, and whether `%.6g` wrote them."""

    digits: np.ndarray
    counts: np.ndarray
    exponents: np.ndarray
    short: np.ndarray

    def of(self, chosen: np.ndarray) -> _Decimals:
        """Returns some of them."""
        return _Decimals(*(one.take(chosen, 0) for one in self))


def _write(values: np.ndarray, text: np.ndarray, number: Number) -> None:
    """Writes float32 `[N]` into uint8 `[N, W]`."""
    with np.errstate(all="ignore"):
        magnitudes = np.abs(values.astype(np.float64))
        zero = magnitudes < TINY32
        sure, decimals = _decimals(np.where(zero, 1.0, magnitudes))
    negative = np.signbit(values)
    text[negative, 0] = ord("-")
    _write_ordinary(np.flatnonzero(sure & ~zero), decimals, text)
    text[zero, 1:4] = np.frombuffer(b"0.0", np.uint8)
    for index in np.flatnonzero(~sure):
        one = number(values[index], single=True)
        text[index, : len(one)] = np.frombuffer(one, np.uint8)


def _write_ordinary(chosen: np.ndarray, decimals: _Decimals, text: np.ndarray) -> None:
    exponents = decimals.exponents[chosen]
    fixed = (exponents >= _LEAST) & (exponents < np.where(decimals.short[chosen], _SHORT, _DIGITS))
    for exponent in range(_LEAST, _DIGITS):
        some = chosen[fixed & (exponents == exponent)]
        if some.size:
            text[some, 1:] = _fixed(decimals.of(some), exponent)
    some = chosen[~fixed]
    text[some, 1:] = _scientific(decimals.of(some))


def _decimals(magnitudes: np.ndarray) -> tuple[np.ndarray, _Decimals]:
    """Returns whether the digits of each number, float64 `[N]` and not denormal, are certain, and them."""
    finite = np.isfinite(magnitudes)
    safe = np.where(finite, magnitudes, 1.0)
    exponents = _exponents(safe)
    # Where the sixth digit could round either way, neither way reads back.
    short = np.rint(safe * _POWERS[_SHORT - 1 - exponents + _OFFSET])
    back = short * _POWERS[exponents - _SHORT + 1 + _OFFSET]
    same = back.astype(np.float32) == safe
    scaled = safe * _POWERS[_DIGITS - 1 - exponents + _OFFSET]
    rounded = np.rint(scaled)
    near = (back * (1 - _ULPS)).astype(np.float32) == (back * (1 + _ULPS)).astype(np.float32)
    sure = finite & near & (same | (np.abs(np.abs(scaled - rounded) - 0.5) > _TIE))
    kept = np.where(same, short * 10.0 ** (_DIGITS - _SHORT), rounded).astype(np.int32)
    carried = kept == 10**_DIGITS
    kept[carried] = 10 ** (_DIGITS - 1)
    return sure, _Decimals(*_split(kept), exponents + carried, same)


def _exponents(values: np.ndarray) -> np.ndarray:
    found = np.floor(np.log10(values)).astype(np.int64)
    found += values >= _POWERS[found + 1 + _OFFSET]
    found -= values < _POWERS[found + _OFFSET]
    return found


def _split(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns numbers of nine digits as characters, and how many are left without the zeros at the end."""
    left, rest = np.divmod(numbers, 10**6)
    middle, right = np.divmod(rest, 10**3)
    zeros = _ZEROS.take(right)
    for kept, more in ((right == 0, middle), (rest == 0, left)):
        zeros[kept] += _ZEROS.take(more[kept])
    digits = np.concatenate([_TRIPLES.take(triple, 0) for triple in (left, middle, right)], axis=1)
    return digits, _DIGITS - zeros


def _counted(digits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the first digits of each row, the others 0."""
    return digits & _FIRST[:, : digits.shape[1]].take(counts, 0)


def _fixed(decimals: _Decimals, exponent: int) -> np.ndarray:
    """Returns `123.45` as uint8 `[N, 14]`."""
    text = np.zeros((len(decimals.digits), _WIDTH - 1), np.uint8)
    if exponent < 0:
        lead = b"0." + b"0" * (-exponent - 1)
        text[:, : len(lead)] = np.frombuffer(lead, np.uint8)
        text[:, len(lead) : len(lead) + _DIGITS] = _counted(decimals.digits, decimals.counts)
        return text
    point = exponent + 1
    text[:, :point] = decimals.digits[:, :point]
    text[:, point] = ord(".")
    text[:, point + 1] = ord("0")
    behind = decimals.digits[:, point:]
    # One digit stays behind the point, whatever it is.
    text[:, point + 1 : _DIGITS + 1] = _counted(behind, np.maximum(decimals.counts - point, 1))
    return text


def _scientific(decimals: _Decimals) -> np.ndarray:
    """Returns `1.2345e-07` as uint8 `[N, 14]`."""
    text = np.zeros((len(decimals.digits), _WIDTH - 1), np.uint8)
    text[:, 0] = decimals.digits[:, 0]
    text[decimals.counts > 1, 1] = ord(".")
    text[:, 2:10] = _counted(decimals.digits[:, 1:], decimals.counts - 1)
    text[:, 10] = ord("e")
    text[:, 11] = np.where(decimals.exponents < 0, ord("-"), ord("+"))
    text[:, 12:] = _TRIPLES.take(np.abs(decimals.exponents), 0)[:, 1:]
    return text
