"""Writes many float32 at once, each in the digits that `json_write.number` gives it.

The digits are computed for the whole array in float64. Where rounding there could go either way, and for what is no
ordinary number, `number` decides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

TINY32 = 2.0**-126
"""The least float32 that counts: upstream's threads flush denormal numbers to zero."""
TINY64 = 2.0**-1022

_DIGITS = 9
_SHORT = 6
_LEAST = -4
_POWERS = np.array([float(f"1e{power}") for power in range(64)])
_TRIPLES = np.array([list(b"%03d" % value) for value in range(1000)], np.uint8)
_TIE = 1e-4
_ULPS = 1e-15
_TAIL = 2


def rows(array: np.ndarray, number: Callable[..., bytes]) -> list[bytes]:
    """Returns each row as JSON.

    Args:
        array: float32 `[B, ...]`, not empty.
        number: Writes one value.
    """
    texts = _texts(array.reshape(-1), number)
    text = _punctuated(texts, array.shape[1:])
    lengths = np.count_nonzero(text, axis=1).reshape(array.shape[0], -1).sum(axis=1)
    joined = text[text != 0].tobytes()
    ends = np.cumsum(lengths).tolist()
    return [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _punctuated(texts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Puts brackets and commas around texts; each is a row of bytes, and zeros are nothing.

    Args:
        texts: uint8 `[N, W]`.
        shape: The shape of each of the `B` things that the texts are the values of.
    """
    count, width, rank = len(texts), texts.shape[1], len(shape)
    text = np.zeros((count, width + 2 * rank + _TAIL), np.uint8)
    text[:, rank : rank + width] = texts
    index = np.arange(count)
    last = np.ones(count, bool)
    size = 1
    for level, length in enumerate(reversed(shape)):
        size *= length
        text[index % size == 0, rank - 1 - level] = ord("[")
        text[index % size == size - 1, rank + width + level] = ord("]")
        last = index % size == size - 1
    text[~last, -_TAIL] = ord(",")
    text[~last, -_TAIL + 1] = ord(" ")
    return text


def _texts(values: np.ndarray, number: Callable[..., bytes]) -> np.ndarray:
    """Returns float32 `[N]` as uint8 `[N, W]`, zeros where a text is shorter."""
    text = np.zeros((len(values), 20), np.uint8)
    with np.errstate(all="ignore"):
        magnitudes = np.abs(values).astype(np.float64)
        sure, digits, exponents, short = _digits(magnitudes)
    text[np.signbit(values) & sure, 0] = ord("-")
    fixed = sure & (exponents >= _LEAST) & (exponents < np.where(short, _SHORT, _DIGITS))
    for exponent in np.unique(exponents[fixed]):
        chosen = np.flatnonzero(fixed & (exponents == exponent))
        text[chosen, 1:17] = _fixed(digits[chosen], int(exponent))
    chosen = np.flatnonzero(sure & ~fixed)
    text[chosen, 1:15] = _scientific(digits[chosen], exponents[chosen])
    zero = magnitudes < TINY32
    text[zero, 1:4] = np.frombuffer(b"0.0", np.uint8)
    text[zero & np.signbit(values), 0] = ord("-")
    for index in np.flatnonzero(~sure & ~zero):
        one = number(values[index], single=True)
        text[index, : len(one)] = np.frombuffer(one, np.uint8)
    return text


def _digits(magnitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns whether each is decided, its nine digits `[N, 9]`, its decimal exponent, and whether six digits do."""
    ordinary = np.isfinite(magnitudes) & (magnitudes >= TINY32)
    safe = np.where(ordinary, magnitudes, 1.0)
    exponents = np.floor(np.log10(safe)).astype(np.int64)
    # The logarithm of 999.99999 may be 3; the quotient tells.
    exponents += np.where(_shifted(safe, -exponents) >= 10.0, 1, 0) - np.where(_shifted(safe, -exponents) < 1.0, 1, 0)
    # Where the sixth digit could round either way, neither way reads back.
    short, _ = _rounded(safe, exponents, _SHORT)
    back = _shifted(short, exponents - _SHORT + 1)
    same = back.astype(np.float32) == safe
    near = (back * (1 - _ULPS)).astype(np.float32) == (back * (1 + _ULPS)).astype(np.float32)
    long, long_sure = _rounded(safe, exponents, _DIGITS)
    kept = np.where(same, short * 10.0 ** (_DIGITS - _SHORT), long).astype(np.int64)
    carried = kept == 10**_DIGITS
    kept = np.where(carried, 10 ** (_DIGITS - 1), kept)
    sure = ordinary & near & (same | long_sure)
    triples = np.stack([kept // 10**6, kept // 10**3 % 10**3, kept % 10**3], axis=1)
    return sure, _TRIPLES[triples].reshape(-1, _DIGITS), exponents + carried, same


def _rounded(values: np.ndarray, exponents: np.ndarray, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first digits as a whole number, and whether it is certain how the last one rounds."""
    scaled = _shifted(values, digits - 1 - exponents)
    return np.rint(scaled), np.abs(scaled - np.floor(scaled) - 0.5) > _TIE


def _shifted(values: np.ndarray, powers: np.ndarray) -> np.ndarray:
    up, down = np.maximum(powers, 0), np.maximum(-powers, 0)
    return values * _POWERS[up] / _POWERS[down]


def _kept(digits: np.ndarray, least: int) -> np.ndarray:
    """Returns the digits without the zeros at their end, but for the first `least`; gone ones are 0."""
    behind = np.maximum.accumulate((digits != ord("0"))[:, ::-1], axis=1)[:, ::-1]
    behind[:, :least] = True
    return np.where(behind, digits, 0)


def _fixed(digits: np.ndarray, exponent: int) -> np.ndarray:
    """Returns `123.45` as uint8 `[N, 16]`."""
    text = np.zeros((len(digits), 16), np.uint8)
    if exponent < 0:
        lead = b"0." + b"0" * (-exponent - 1)
        text[:, : len(lead)] = np.frombuffer(lead, np.uint8)
        text[:, len(lead) : len(lead) + _DIGITS] = _kept(digits, 1)
        return text
    front = exponent + 1
    text[:, :front] = digits[:, :front]
    text[:, front] = ord(".")
    behind = np.full((len(digits), max(_DIGITS - front, 1)), ord("0"), np.uint8)
    behind[:, : _DIGITS - front] = digits[:, front:]
    text[:, front + 1 : front + 1 + behind.shape[1]] = _kept(behind, 1)
    return text


def _scientific(digits: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Returns `1.2345e-07` as uint8 `[N, 14]`."""
    text = np.zeros((len(digits), 14), np.uint8)
    text[:, 0] = digits[:, 0]
    text[:, 2:10] = _kept(digits[:, 1:], 0)
    text[:, 1] = np.where(text[:, 2] != 0, ord("."), 0)
    text[:, 10] = ord("e")
    text[:, 11] = np.where(exponents < 0, ord("-"), ord("+"))
    text[:, 12:] = _TRIPLES[np.abs(exponents)][:, 1:]
    return text
