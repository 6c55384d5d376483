"""A DICOM image: its form, its meaning, and its frames as values."""

from __future__ import annotations

import dataclasses
import functools
import os

import numpy as np

from medkeras import errors
from medkeras.data import headers
from medkeras.data.readers.dicom import codestream, colour, decoders, frames, modality, native, tables, tags
from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import palette as palettes
from medkeras.data.readers.dicom import source as sources

MAX_DECODED = 2**30


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image file that is open and was checked.

    Attributes:
        source: The file.
        form: What every frame looks like.
        fragments: Where the bytes of each compressed frame lie; empty for uncompressed ones.
        meaning: How stored values become values; None for colours.
        palette: Tables of red, green and blue; empty where there is no palette.
        padding: Lowest and highest stored value that stand for no image at all; None: none does.
        dtype: Data type of the values.
        channels: 1 or 3.
        notes: Sentences that the user should read.
    """

    source: sources.Source
    form: forms.Form
    fragments: list[list[frames.Span]]
    meaning: modality.Modality | None
    palette: tuple[tables.Table, ...]
    padding: tuple[int, int] | None
    dtype: str
    channels: int
    notes: tuple[str, ...]

    def frame(self, index: int) -> np.ndarray:
        """Returns the values of one frame, `[rows, columns, channels]`."""
        stored, ybr = self._stored(index)
        if self.palette:
            return palettes.expand(stored, self.palette).astype(self.dtype, copy=False)
        if self.meaning is None:
            return (colour.rgb(stored) if ybr else stored).astype(self.dtype, copy=False)
        values = modality.apply(self.meaning, stored, index)
        if self.form.real and not np.isfinite(values).all():
            raise errors.RefusalError("pixels are finite numbers that fit float32")
        return values if self.padding is None else _without_padding(values, stored, self.padding)

    def _stored(self, index: int) -> tuple[np.ndarray, bool]:
        if self.source.transfer_syntax in decoders.NATIVE:
            return native.frame(self.source, self.form, index), colour.is_ybr(self.form, None)
        data = frames.joined(self.source, self.fragments[index])
        found = None if self.source.transfer_syntax == decoders.RLE else codestream.header(data)
        return decoders.frame(data, self.source.transfer_syntax, self.form), colour.is_ybr(self.form, found)


def open_picture(path: str) -> Picture:
    """Opens an image file; the last one is kept, for its frames to be read one after the other.

    Raises:
        RefusalError: Why it is not read.
    """
    with headers.open_regular(path) as file:
        status = os.fstat(file.fileno())
    return _open(path, status.st_mtime_ns, status.st_size, status.st_ino)


def forget() -> None:
    """Forgets the file that was opened last."""
    _open.cache_clear()


@functools.lru_cache(maxsize=1)
def _open(path: str, *_: int) -> Picture:
    source = sources.open_source(path)
    pixels = source.pixels
    decoders.check(source.transfer_syntax)
    form, fragments, notes = _checked(source, forms.form(source.dataset, pixels))
    palette = palettes.palette(source.dataset, form.signed) if form.photometric == "PALETTE COLOR" else ()
    meaning = modality.modality(source.dataset, form) if form.monochrome else None
    dtype = meaning.dtype if meaning else palette[0].entries.dtype.name if palette else _colour_dtype(form)
    padding = _padding(source, form) if meaning else None
    if padding:
        notes.append("pixels of the padding value take the lowest value of their frame")
    if meaning:
        notes.extend(meaning.notes)
    if form.stored > 24:
        notes.append("samples of more than 24 significant bits are rounded to float32")
    notes.extend(_overlays(source))
    channels = 1 if form.monochrome else 3
    return Picture(source, form, fragments, meaning, palette, padding, dtype, channels, tuple(notes))


def _checked(source: sources.Source, form: forms.Form) -> tuple[forms.Form, list[list[frames.Span]], list[str]]:
    """Compares the declared form with the pixel data; returns the form that holds, fragments and notes."""
    if source.transfer_syntax in decoders.NATIVE:
        beyond = native.check(source, form)
        return form, [], ["there are bytes beyond the last frame"] if beyond > 1 else []
    fragments = frames.fragments(source, form.frames)
    if source.transfer_syntax == decoders.RLE:
        if form.allocated == 1:
            raise errors.RefusalError("RLE compresses whole bytes. Received: samples of 1 bit")
        return form, fragments, []
    found = decoders.compare(frames.joined(source, fragments[0]), source.transfer_syntax, form)
    if found.process == 0x51 and found.signed != form.signed:
        note = "the JPEG 2000 frame and the data set disagree on the sign: values are taken as signed"
        return dataclasses.replace(form, signed=True), fragments, [note]
    return form, fragments, []


def _colour_dtype(form: forms.Form) -> str:
    return "float32" if form.stored > 16 else "uint8" if form.stored <= 8 else "uint16"


def _padding(source: sources.Source, form: forms.Form) -> tuple[int, int] | None:
    """Returns the stored values that are padding (PS3.3 C.7.5.1.1.2)."""
    value = tags.whole(source.dataset, "PixelPaddingValue")
    if value is None or form.real:
        return None
    limit = tags.whole(source.dataset, "PixelPaddingRangeLimit")
    ends = [_as_stored(one, form) for one in (value, value if limit is None else limit)]
    known = [one for one in ends if one is not None]
    if len(known) < len(ends):
        return None
    # Scanners pad around the round field of a CT with several values below all others, and name the highest.
    below = max(known) < 0 and tags.text(source.dataset, "Modality") == "CT"
    return form.lowest if below else min(known), max(known)


def _as_stored(value: int, form: forms.Form) -> int | None:
    """Returns the sample that a value means, written as signed or as unsigned; None where none can be it."""
    for candidate in (value, value - (1 << form.allocated), value - (1 << form.stored), value + (1 << form.allocated)):
        if form.lowest <= candidate <= form.highest:
            return candidate
    return None


def _without_padding(values: np.ndarray, stored: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """Gives padding the lowest value of the other pixels."""
    low, high = padding
    outside = (stored >= low) & (stored <= high)
    if not outside.any() or outside.all():
        return values
    values = values if values.flags.writeable else values.copy()
    values[outside] = values.min(where=~outside, initial=values.max())
    return values


def _overlays(source: sources.Source) -> list[str]:
    """Notes overlays (PS3.3 C.9.2); those within the unused bits of the cells are cut off with them."""
    numbers = [int(tag) for tag in iter(source.dataset.keys())]
    drawn = any(0x6000 <= number >> 16 <= 0x60FF and number & 0xFFFF in (0x0102, 0x3000) for number in numbers)
    return ["overlays are not drawn"] if drawn else []
