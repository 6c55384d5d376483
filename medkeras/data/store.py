"""Where the images of a split are kept, reached by position.

Three stores answer to the same call. Reaching by position, rather than in the order of a file, is what lets the
order of the data be a pure function of (seed, epoch).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.data import cases, decode
from medkeras.preprocessing import canvas as canvas_layers

_CHUNK, _CHUNK_BYTES = 32, 2**26
_DIGEST = 8

Element = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Canvas:
    """What every image of a batch looks like.

    Attributes:
        size: Height and width in pixels.
        channels: 1 grey or 3 colour.
        dtype: `uint8`, `uint16` or `float32`: the stored values are kept.
        mode: `pad` or `stretch`.
        depth: Planes of a volume; 0: images.
    """

    size: tuple[int, int]
    channels: int
    dtype: str
    mode: str
    depth: int = 0

    @property
    def sides(self) -> tuple[int, ...]:
        """`(H, W)`, or `(D, H, W)` of volumes."""
        return (self.depth, *self.size) if self.depth else self.size

    @property
    def shape(self) -> tuple[int, ...]:
        """`(H, W, C)`, or `(D, H, W, C)` of volumes."""
        return (*self.sides, self.channels)

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def require(self, path: object, dtype: str) -> None:
        """Raises `BadInputError` for a file whose values of `dtype` the canvas would cut off."""
        if not np.can_cast(dtype, self.dtype):
            raise errors.BadInputError(path, f"the model takes {self.dtype} values. Received: {dtype}")


class Store(Protocol):
    """The images of one split."""

    cases: tuple[cases.Case, ...]

    def attach(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the batches, dicts with `index` int64 `[B]`, with `image` added.

        It is `[B, H, W, C]`, or `[B, D, H, W, C]` of volumes.
        """


@dataclasses.dataclass(frozen=True)
class Look:
    """What one pass over a split saw.

    Attributes:
        count: Images read.
        canvases: BLAKE2b of each image's canvas, in order.
        digests: What each picture is known again by, in order: 8 bytes of the values that its file stores, in the
            channels and the dtype of the canvas but not yet resized, for processors differ in the last digits of that.
            Empty for a picture of one value, which shows nothing to be known by.
        value_range: Lowest and highest value.
        unreadable: The files that could not be read.
    """

    count: int
    canvases: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    value_range: tuple[float, float]
    unreadable: tuple[errors.BadInputError, ...]


def fill(
    members: Sequence[cases.Case],
    images: cases.ImageSource,
    *,
    headers: Sequence[cases.ImageHeader],
    canvas: Canvas,
    policy: str,
    folder: str | os.PathLike[str],
    track: Callable[[Iterable, int, str], Iterable],
) -> tuple[Store, Look]:
    """Reads every image of a split once, into memory, onto disk, or only to know that it can be read.

    Args:
        members: The cases of the split.
        images: Reads their pixels.
        headers: Their headers, which say what decoder reads them.
        canvas: What images become.
        policy: `memory`, `disk` or `none`.
        folder: Where a disk cache goes.
        track: Shows progress.
    """
    reader = _Reader(tuple(members), images, headers, canvas)
    shelf = _SHELVES[policy](canvas, len(members), folder)
    survey = _Survey()
    seen = np.zeros(len(members), bool)
    for position, image, digest in track(_look(reader, seen), len(members), "Reading images"):
        shelf.put(position, image)
        survey.add(position, image, digest)
    unreadable = tuple(_retry(reader, shelf, survey, seen))
    rows = np.flatnonzero(seen)
    kept = tuple(members[row] for row in rows.tolist())
    return shelf.store(reader, rows, kept), survey.look(unreadable)


def from_array(members: Sequence[cases.Case], array: np.ndarray) -> Store:
    """Returns a store of an array `[N, ...]`, a row a case."""
    return _GatheringStore(tuple(members), array.__getitem__, shape=array.shape[1:], dtype=array.dtype.name)


_Finish = Callable[[tf.Tensor, Canvas], Any]


class _Reader:
    """Turns positions into canvases, in the graph where the decoder there can, else on the host."""

    def __init__(
        self,
        members: tuple[cases.Case, ...],
        images: cases.ImageSource,
        headers: Sequence[cases.ImageHeader],
        canvas: Canvas,
    ) -> None:
        self.members = members
        self.canvas = canvas
        self._images = images
        native = np.array([header.native for header in headers], bool)
        self._native = tf.constant(native, tf.bool)
        self._all_plain = canvas.dtype == "uint8" and all(
            header.plain and header.channels <= canvas.channels for header in headers
        )
        self._all_fit = all((header.height, header.width) == canvas.size for header in headers)
        self._all_native = bool(native.all())
        self._any_native = bool(native.any())
        self._paths = tf.constant([os.fsencode(case.path) for case in members], tf.string)

    def __call__(self, index: tf.Tensor) -> tf.Tensor:
        """Returns the canvas at `index`, `[H, W, C]` or `[D, H, W, C]`, inside `Dataset.map`."""
        return tf.ensure_shape(self._finished(index, _to_canvas), self.canvas.shape)

    def known(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the same, and the digest of the picture, uint8 `[8]`."""
        image, digest = self._finished(index, _to_known_canvas)
        return tf.ensure_shape(image, self.canvas.shape), tf.ensure_shape(digest, (_DIGEST,))

    def host(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `known` does at `position`; raises `BadInputError` with the reason if it cannot."""
        image, digest = _to_known_canvas(tf.constant(self._read(np.int64(position))), self.canvas)
        return image.numpy(), digest.numpy()

    def _finished(self, index: tf.Tensor, finish: _Finish) -> Any:
        if not self._any_native:
            return self._on_host(index, finish)
        if self._all_native:
            return self._in_graph(index, finish)
        return tf.cond(self._native[index], lambda: self._in_graph(index, finish), lambda: self._on_host(index, finish))

    def _in_graph(self, index: tf.Tensor, finish: _Finish) -> Any:
        contents = tf.io.read_file(self._paths[index])
        if self._all_plain and self._all_fit:
            image = decode.decode_plain(contents, self.canvas.channels)
            return finish(tf.ensure_shape(image, self.canvas.shape), self.canvas)
        return _decoder(self.canvas, self._all_plain, finish)(contents)

    def _on_host(self, index: tf.Tensor, finish: _Finish) -> Any:
        image = tf.numpy_function(self._read, [index], self.canvas.dtype)
        sides = [None] * len(self.canvas.sides)
        return finish(tf.ensure_shape(image, (*sides, self.canvas.channels)), self.canvas)

    def _read(self, position: np.int64) -> np.ndarray:
        image = self._images.read(self.members[int(position)], self.canvas.channels)
        return np.ascontiguousarray(image.astype(self.canvas.dtype, copy=False))


@functools.lru_cache(maxsize=4)
def _decoder(canvas: Canvas, plain: bool, finish: _Finish) -> Callable[[tf.Tensor], Any]:
    """Returns what brings the bytes of a file to the canvas; the splits share it, for tracing it takes a second."""

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def decoded(contents: tf.Tensor) -> Any:
        if plain:
            return finish(decode.decode_plain(contents, canvas.channels), canvas)
        return finish(decode.decode_bytes(contents, canvas.channels, canvas.dtype), canvas)

    return decoded


def _to_canvas(image: tf.Tensor, canvas: Canvas) -> tf.Tensor:
    if image.shape == canvas.shape:
        # Nothing but the decoding: what else a picture of the right size passes through costs a quarter of it.
        return image
    return canvas_layers.to_canvas(image, size=canvas.sides, mode=canvas.mode, dtype=canvas.dtype)


def _to_known_canvas(image: tf.Tensor, canvas: Canvas) -> tuple[tf.Tensor, tf.Tensor]:
    digest = tf.raw_ops.Fingerprint(data=tf.reshape(image, [1, -1]), method="farmhash64")[0]
    blank = tf.equal(tf.reduce_min(image), tf.reduce_max(image))
    return _to_canvas(image, canvas), tf.where(blank, tf.zeros_like(digest), digest)


def _look(reader: _Reader, seen: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    dataset = tf.data.Dataset.range(len(reader.members))
    dataset = dataset.map(lambda index: (index, *reader.known(index)), num_parallel_calls=tf.data.AUTOTUNE)
    chunk = max(1, min(_CHUNK, _CHUNK_BYTES // reader.canvas.nbytes))
    dataset = dataset.ignore_errors().batch(chunk).prefetch(2)
    for positions, images, digests in dataset.as_numpy_iterator():
        seen[positions] = True
        yield from zip(positions.tolist(), images, digests, strict=True)


def _retry(reader: _Reader, shelf: Any, survey: _Survey, seen: np.ndarray) -> Iterator[errors.BadInputError]:
    """Reads what the first pass could not, one by one: the reader on the host knows the reason."""
    for position in np.flatnonzero(~seen).tolist():
        try:
            image, digest = reader.host(position)
        except errors.BadInputError as error:
            yield error
        else:
            shelf.put(position, image)
            survey.add(position, image, digest)
            seen[position] = True


class _Survey:
    """What a pass sees, in constant memory but for two digests an image."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[bytes, bytes]] = {}
        self._low, self._high = np.inf, -np.inf

    def add(self, position: int, image: np.ndarray, digest: np.ndarray) -> None:
        canvas = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        self._seen[position] = canvas, digest.tobytes() if digest.any() else b""
        self._low, self._high = min(self._low, float(image.min())), max(self._high, float(image.max()))

    def look(self, unreadable: tuple[errors.BadInputError, ...]) -> Look:
        seen = [self._seen[position] for position in sorted(self._seen)]
        return Look(
            count=len(seen),
            canvases=tuple(canvas for canvas, _ in seen),
            digests=tuple(digest for _, digest in seen),
            value_range=(self._low, self._high),
            unreadable=unreadable,
        )


class _GatheringStore:
    """A store that copies rows out of `gather`, a function of the positions of a batch."""

    def __init__(
        self,
        members: tuple[cases.Case, ...],
        gather: Callable[[np.ndarray], np.ndarray],
        *,
        shape: tuple[int, ...],
        dtype: str,
    ) -> None:
        self.cases = members
        self._gather = gather
        self._shape = shape
        self._dtype = dtype

    def attach(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        def add(batch: Element) -> Element:
            image = tf.numpy_function(self._gather, [batch["index"]], self._dtype)
            return {**batch, "image": tf.ensure_shape(image, (*batch["index"].shape, *self._shape))}

        return batches.map(add, num_parallel_calls=2, deterministic=True)


class _StreamingStore:
    """A store that decodes every image each time it is asked for: memory does not grow with the data."""

    def __init__(self, members: tuple[cases.Case, ...], reader: _Reader, rows: np.ndarray) -> None:
        self.cases = members
        self._reader = reader
        self._rows = tf.constant(rows, tf.int64)

    def attach(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        (size,) = batches.element_spec["index"].shape
        dataset = batches.unbatch().map(
            lambda slot: {**slot, "image": self._reader(self._rows[slot["index"]])},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return dataset.batch(size, drop_remainder=True)


class _MemoryShelf:
    def __init__(self, canvas: Canvas, count: int, folder: str | os.PathLike[str]) -> None:
        self._array = np.empty((count, *canvas.shape), canvas.dtype)

    def put(self, position: int, image: np.ndarray) -> None:
        self._array[position] = image

    def store(self, reader: _Reader, rows: np.ndarray, members: tuple[cases.Case, ...]) -> Store:
        canvas = reader.canvas
        return _GatheringStore(members, lambda index: self._array[rows[index]], shape=canvas.shape, dtype=canvas.dtype)


class _DiskShelf:
    """Images one after the other in a file without a name: read by position, never mapped, gone with the process."""

    def __init__(self, canvas: Canvas, count: int, folder: str | os.PathLike[str]) -> None:
        os.makedirs(folder, exist_ok=True)
        self._file = tempfile.TemporaryFile(prefix="images-", dir=folder)
        weakref.finalize(self, self._file.close)
        self._canvas = canvas

    def put(self, position: int, image: np.ndarray) -> None:
        os.pwrite(self._file.fileno(), image.tobytes(), position * self._canvas.nbytes)

    def store(self, reader: _Reader, rows: np.ndarray, members: tuple[cases.Case, ...]) -> Store:
        canvas = reader.canvas
        return _GatheringStore(members, lambda index: self._gather(rows[index]), shape=canvas.shape, dtype=canvas.dtype)

    def _gather(self, positions: np.ndarray) -> np.ndarray:
        out = np.empty((len(positions), *self._canvas.shape), self._canvas.dtype)
        size = self._canvas.nbytes
        for row, position in enumerate(positions.tolist()):
            os.preadv(self._file.fileno(), [out[row].reshape(-1).view(np.uint8)], position * size)
        return out


class _NoShelf:
    def __init__(self, canvas: Canvas, count: int, folder: str | os.PathLike[str]) -> None:
        pass

    def put(self, position: int, image: np.ndarray) -> None:
        pass

    def store(self, reader: _Reader, rows: np.ndarray, members: tuple[cases.Case, ...]) -> Store:
        return _StreamingStore(members, reader, rows)


_SHELVES: dict[str, Callable[..., Any]] = {"memory": _MemoryShelf, "disk": _DiskShelf, "none": _NoShelf}
