"""One look at every image before training: what they are, whether they can be read, and where they are kept.

The look answers what a run must know before it starts (sizes, value range, statistics, unreadable files) and fills
the cache on the way, so that a data set that fits is decoded once.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from medkeras import config, errors
from medkeras.data import cases, store

LARGEST_AUTOMATIC_SIZE = 224
MEMORY_SHARE = 0.25

Track = Callable[[Iterable, int, str], Iterable]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set that is known to be readable.

    Attributes:
        case_set: The cases; unreadable ones are gone if the user allowed it.
        stores: Split name to the store of its images, in the order of the split's cases.
        canvas: What the images look like in a batch.
        value_range: Lowest and highest stored value: (0, 255) for 8-bit data, else what training holds.
        fingerprint: SHA-256 over every case's name, split, label and pixels.
        digests: Split name to what each picture is known again by, in the order of the split's cases (`store.Look`).
        units: What the values mean: `HU`, or empty for stored values.
        dtypes: The dtypes of the files, the canvas's among them.
        unreadable: One `BadInputError` for each case left out.
    """

    case_set: cases.CaseSet
    stores: dict[str, store.Store]
    canvas: store.Canvas
    value_range: tuple[float, float]
    fingerprint: str
    digests: Mapping[str, tuple[bytes, ...]]
    units: str = ""
    dtypes: tuple[str, ...] = ()
    unreadable: tuple[errors.BadInputError, ...] = ()


def prepare(
    case_set: cases.CaseSet,
    settings: config.DataConfig,
    *,
    canvas: store.Canvas | None = None,
    folder: str | os.PathLike[str] = ".",
    track: Track = lambda items, total, description: items,
) -> Prepared:
    """Looks at every image once.

    Args:
        case_set: Cases with their splits.
        settings: Size, resize mode, cache and error policy.
        canvas: What batches look like; by default it follows from the data.
        folder: Where a cache on disk goes.
        track: Wraps an iterable of known length to show progress.

    Raises:
        BadInputError: A file cannot be read and `data.on_error` is `raise`.
        DataError: More files than `data.max_errors` allows cannot be read, a split would be left empty, or the values
            of some files are in HU and of others not.
    """
    headers, broken = _headers(case_set, canvas, track)
    readable = [case for case in case_set.cases if case.case_id in headers]
    _judge(broken, case_set, settings)
    _refuse_empty_splits(case_set, readable)
    _refuse_mixed_views(list(headers.values()), canvas)
    units = _units(readable, headers)
    canvas = canvas or _canvas(list(headers.values()), settings)
    policy = _cache_policy(settings.cache, canvas, len(readable))
    stores: dict[str, store.Store] = {}
    looks: list[store.Look] = []
    for split in cases.SPLITS:
        members = [case for case in readable if case.split == split]
        stores[split], look = store.fill(
            members,
            case_set.images,
            headers=[headers[case.case_id] for case in members],
            canvas=canvas,
            policy=policy,
            folder=folder,
            track=track,
        )
        looks.append(look)
    data = _prepared(case_set, settings, canvas=canvas, stores=stores, looks=looks, broken=broken)
    return dataclasses.replace(data, units=units, dtypes=tuple(sorted({header.dtype for header in headers.values()})))


def changed(data: Prepared) -> errors.BadInputError | None:
    """Reads the images again and returns the first that can no longer be read, or None."""
    for case in data.case_set.cases:
        try:
            data.canvas.require(case.path, data.case_set.images.header(case).dtype)
            data.case_set.images.read(case, data.canvas.channels)
        except errors.BadInputError as error:
            return error
    return None


def _prepared(
    case_set: cases.CaseSet,
    settings: config.DataConfig,
    *,
    canvas: store.Canvas,
    stores: dict[str, store.Store],
    looks: Sequence[store.Look],
    broken: Sequence[errors.BadInputError],
) -> Prepared:
    unreadable = (*broken, *(error for look in looks for error in look.unreadable))
    _judge(unreadable, case_set, settings)
    kept = [case for each in stores.values() for case in each.cases]
    _refuse_empty_splits(case_set, kept)
    order = {case.case_id: position for position, case in enumerate(case_set.cases)}
    kept.sort(key=lambda case: order[case.case_id])
    notes = [f"{len(unreadable)} unreadable files were skipped: {_names(unreadable)}."] if unreadable else []
    training = next((look for look in looks if look.count), looks[0])
    return Prepared(
        case_set=case_set.replace_cases(kept, *notes),
        stores=stores,
        canvas=canvas,
        value_range=(0.0, 255.0) if canvas.dtype == "uint8" else training.value_range,
        fingerprint=_fingerprint(stores, looks),
        digests={split: look.digests for split, look in zip(stores, looks, strict=True)},
        unreadable=unreadable,
    )


def _headers(
    case_set: cases.CaseSet, canvas: store.Canvas | None, track: Track
) -> tuple[dict[str, cases.ImageHeader], list[errors.BadInputError]]:
    headers: dict[str, cases.ImageHeader] = {}
    broken: list[errors.BadInputError] = []

    def look(case: cases.Case) -> cases.ImageHeader | errors.BadInputError:
        try:
            header = case_set.images.header(case)
            if canvas is not None:
                canvas.require(case.path, header.dtype)
            return header
        except errors.BadInputError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = pool.map(look, case_set.cases, chunksize=64)
        for case, result in zip(case_set.cases, track(results, len(case_set.cases), "Looking at headers"), strict=True):
            if isinstance(result, errors.BadInputError):
                broken.append(result)
            else:
                headers[case.case_id] = result
    return headers, broken


def _judge(broken: Sequence[errors.BadInputError], case_set: cases.CaseSet, settings: config.DataConfig) -> None:
    total = len(case_set.cases)
    if not broken:
        return
    if settings.on_error == "raise":
        more = f" (and {len(broken) - 1} more files: {_names(broken[1:])})" if len(broken) > 1 else ""
        reason = f"{broken[0].reason}{more}; data.on_error=skip leaves such files out"
        raise errors.BadInputError(broken[0].path, reason)
    if len(broken) > settings.max_errors * total:
        raise errors.DataError(
            f"At most {settings.max_errors:.1%} of the files may be unreadable (data.max_errors). "
            f"Received: {len(broken)} of {total}: {_names(broken)}"
        )


def _refuse_empty_splits(case_set: cases.CaseSet, kept: Sequence[cases.Case]) -> None:
    lost = {case.split for case in case_set.cases} - {case.split for case in kept}
    if lost:
        raise errors.DataError(
            f"Every split keeps a case that can be read. Received: {', '.join(sorted(lost))} with unreadable files only"
        )


def _units(readable: Sequence[cases.Case], headers: Mapping[str, cases.ImageHeader]) -> str:
    """Returns the one unit of all values; numbers in HU and numbers of no unit have nothing to do with each other."""
    first = {headers[case.case_id].units: case for case in reversed(readable)}
    if len(first) > 1:
        received = ", ".join(
            f"{units or 'stored values'} in {sum(header.units == units for header in headers.values())} "
            f"({errors.printable(case.path)}, …)"
            for units, case in sorted(first.items())
        )
        raise errors.DataError(f"The values of all images of a data set are in one unit. Received: {received}")
    return next(iter(first), "")


def _refuse_mixed_views(headers: Sequence[cases.ImageHeader], canvas: store.Canvas | None) -> None:
    volumes = {header.depth > 0 for header in headers}
    if len(volumes) > 1:
        raise errors.DataError("Cases are all images or all volumes (data.view). Received: some of each")
    if canvas is not None and volumes != {canvas.depth > 0}:
        given, taken = ("volumes", "images") if True in volumes else ("images", "volumes")
        raise errors.DataError(f"The model takes {taken}: data.view says what a case is. Received: {given}")


def _names(broken: Sequence[errors.BadInputError], shown: int = 3) -> str:
    names = ", ".join(errors.printable(error.path) for error in broken[:shown])
    return names + (", …" if len(broken) > shown else "")


def _canvas(headers: Sequence[cases.ImageHeader], settings: config.DataConfig) -> store.Canvas:
    size = settings.image_size or int(np.median([max(header.height, header.width) for header in headers]))
    if not settings.image_size:
        size = min(size, LARGEST_AUTOMATIC_SIZE)
    kinds = {header.dtype for header in headers}
    return store.Canvas(
        size=(size, size),
        channels=max(header.channels for header in headers),
        dtype=next(dtype for dtype in ("float32", "uint16", "uint8") if dtype in kinds),
        mode=settings.resize,
        depth=int(np.median([header.depth for header in headers])),
    )


def _cache_policy(policy: str, canvas: store.Canvas, count: int) -> str:
    if policy != "auto":
        return policy
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "memory" if canvas.nbytes * count <= MEMORY_SHARE * available else "disk"


def _fingerprint(stores: dict[str, store.Store], looks: Sequence[store.Look]) -> str:
    rows = sorted(
        f"{case.case_id}\0{case.split}\0{case.label}\0{'|'.join(case.labels)}\0{digest.hex()}"
        for each, look in zip(stores.values(), looks, strict=True)
        for case, digest in zip(each.cases, look.canvases, strict=True)
    )
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
