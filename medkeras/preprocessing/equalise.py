"""Histogram equalisation, global and by tiles, channel by channel, of values in 0…1."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base

# scikit-image's CLAHE works on whole grey levels of 14 bits.
GREY_LEVELS = 2**14
REST_ROUNDS = 4


@keras.saving.register_keras_serializable("medkeras")
class HistogramEqualise(base.PixelLayer):
    """Maps each channel by its own cumulative histogram; a constant channel becomes 0.

    Args:
        bins: Bins between the channel's smallest and largest value.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: Fewer than 2 bins.

    Reference: `skimage.exposure.equalize_hist`, which it equals but for values on the edge of a bin.
    """

    def __init__(self, bins: int = 256, **options: Any) -> None:
        super().__init__(**options)
        self.bins = _checked_bins(bins)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]` in 0…1."""
        spread, is_varied = _stretched(tf.cast(images, tf.float32))
        batch, height, width, channels = base.shape_of(spread)
        places = spread * self.bins
        rows = _plane_index(batch, channels)
        counts = _histogram(tf.minimum(tf.cast(places, tf.int32), self.bins - 1), rows, batch * channels, self.bins)
        shares = tf.cumsum(counts, axis=1) / tf.cast(height * width, tf.float32)
        # The cumulative share holds at the centre of a bin; between centres it is interpolated.
        centred = tf.clip_by_value(places - 0.5, 0.0, self.bins - 1.0)
        lower = tf.minimum(tf.cast(centred, tf.int32), self.bins - 2)
        first = _look_up(shares, rows, lower)
        equalised = first + (_look_up(shares, rows, lower + 1) - first) * (centred - tf.cast(lower, tf.float32))
        return equalised * is_varied

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "bins": self.bins}


@keras.saving.register_keras_serializable("medkeras")
class CLAHE(base.PixelLayer):
    """Contrast-limited adaptive histogram equalisation; a constant channel becomes 0.

    The one difference from scikit-image: its loop that shares out the last few counts after clipping ends here after
    `REST_ROUNDS` rounds.

    Args:
        clip_limit: Largest share of a tile's pixels in one bin.
        tiles: Tiles along each axis; a side that is no multiple of it gets more, smaller ones.
        bins: Bins of a tile's histogram.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: `clip_limit` is outside 0…1, no tile, or fewer than 2 bins.

    Reference: K. Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994;
    `skimage.exposure.equalize_adapthist`.
    """

    def __init__(self, clip_limit: float = 0.01, tiles: int = 8, *, bins: int = 256, **options: Any) -> None:
        super().__init__(**options)
        if not 0 < clip_limit <= 1:
            raise errors.ConfigError(f"clip_limit lies above 0 and up to 1. Received: clip_limit={clip_limit!r}")
        if tiles < 1:
            raise errors.ConfigError(f"CLAHE needs at least one tile. Received: tiles={tiles!r}")
        self.clip_limit = float(clip_limit)
        self.tiles = int(tiles)
        self.bins = _checked_bins(bins)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]` in 0…1."""
        spread, _ = _stretched(tf.cast(images, tf.float32))
        levels = tf.round(spread * (GREY_LEVELS - 1.0))
        binned = tf.cast(levels / (1 + GREY_LEVELS // self.bins), tf.int32)
        _, height, width, _ = base.shape_of(binned)
        sides = [tf.maximum(size // self.tiles, 1) for size in (height, width)]
        counts = [(size + side - 1) // side for size, side in zip((height, width), sides, strict=True)]
        maps = self._maps(binned, sides, counts)
        return _stretched(_blend(binned, maps, sides, counts))[0]

    def _maps(self, binned: tf.Tensor, sides: list[base.Size], counts: list[base.Size]) -> tf.Tensor:
        """Returns every tile's grey-level map, `[B * C * tile rows * tile columns, bins]`."""
        batch, height, width, channels = base.shape_of(binned)
        rows, columns = (tf.range(side * count) for side, count in zip(sides, counts, strict=True))
        padded = base.take(binned, _reflected(rows, height), _reflected(columns, width))
        planes = _plane_index(batch, channels)
        tiles = _tile_index(planes, rows // sides[0], columns // sides[1], counts)
        histogram = _histogram(padded, tiles, batch * channels * counts[0] * counts[1], self.bins)
        pixels = tf.cast(sides[0] * sides[1], tf.float32)
        limit = tf.maximum(tf.floor(self.clip_limit * pixels), 1.0)
        cumulated = tf.cumsum(_clipped(histogram, limit, self.bins), axis=1)
        return tf.floor(tf.minimum(cumulated * ((GREY_LEVELS - 1) / pixels), GREY_LEVELS - 1.0))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        own = {"clip_limit": self.clip_limit, "tiles": self.tiles, "bins": self.bins}
        return {**super().get_config(), **own}


def _stretched(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns each channel stretched to 0…1, and 1 or 0 `[B, 1, 1, C]`: whether it has two values."""
    low = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    span = tf.reduce_max(images, axis=[1, 2], keepdims=True) - low
    return base.ratio(images - low, span), tf.cast(span > 0, tf.float32)


def _plane_index(batch: base.Size, channels: base.Size) -> tf.Tensor:
    """Returns the running number of each image's channel, `[B, 1, 1, C]`."""
    return tf.reshape(tf.range(batch * channels), [batch, 1, 1, channels])


def _histogram(binned: tf.Tensor, rows: tf.Tensor, count: base.Size, bins: int) -> tf.Tensor:
    """Returns float32 counts `[count, bins]`; `rows` says which histogram a pixel belongs to."""
    places = tf.reshape(rows * bins + binned, [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(places, tf.float32), places, count * bins)
    return tf.reshape(counts, [count, bins])


def _look_up(table: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns `table[rows, columns]`, the two broadcast."""
    return tf.gather(tf.reshape(table, [-1]), rows * table.shape[1] + columns)


def _reflected(places: tf.Tensor, size: base.Size) -> tf.Tensor:
    """Returns indices into an axis that is mirrored about its last pixel as often as needed."""
    period = tf.maximum(2 * (size - 1), 1)
    folded = places % period
    return tf.minimum(tf.minimum(folded, period - folded), size - 1)


def _tile_index(planes: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, counts: list[base.Size]) -> tf.Tensor:
    """Returns the running number of the tile at each row and column, `[B, rows, columns, C]`."""
    rows, columns = rows[tf.newaxis, :, tf.newaxis, tf.newaxis], columns[tf.newaxis, tf.newaxis, :, tf.newaxis]
    return (planes * counts[0] + rows) * counts[1] + columns


def _clipped(histogram: tf.Tensor, limit: tf.Tensor, bins: int) -> tf.Tensor:
    """Returns histograms `[N, bins]` without a bin above the limit, the excess spread over the others.

    As in scikit-image: the excess is shared out in whole counts, bins that are nearly full after that are filled, and
    a rest of fewer counts than bins goes to every n-th bin that has room. The sum may grow by that.
    """
    total = tf.reduce_sum(histogram, axis=1, keepdims=True)
    clipped = tf.minimum(histogram, limit)
    share = tf.floor((total - tf.reduce_sum(clipped, axis=1, keepdims=True)) / bins)
    nearly_full = limit - share
    clipped = tf.where(clipped < nearly_full, clipped + share, clipped)
    clipped = tf.where(clipped >= nearly_full, limit, clipped)
    rest = total - tf.reduce_sum(clipped, axis=1, keepdims=True)
    places = tf.range(bins, dtype=tf.float32)
    for start in range(REST_ROUNDS):
        has_room = clipped < limit
        stride = tf.floor(base.ratio(tf.reduce_sum(tf.cast(has_room, tf.float32), axis=1, keepdims=True), rest))
        is_chosen = tf.equal(tf.math.floormod(places - start, tf.maximum(stride, 1.0)), 0.0) & (places >= start)
        added = tf.cast(is_chosen & has_room & (rest > 0), tf.float32)
        clipped, rest = clipped + added, rest - tf.reduce_sum(added, axis=1, keepdims=True)
    return clipped


def _blend(binned: tf.Tensor, maps: tf.Tensor, sides: list[base.Size], counts: list[base.Size]) -> tf.Tensor:
    """Returns each pixel mapped by its four nearest tiles, weighted bilinearly."""
    batch, height, width, channels = base.shape_of(binned)
    planes = _plane_index(batch, channels)
    rows, columns = (
        _around(size, *tile) for size, tile in zip((height, width), zip(sides, counts, strict=True), strict=True)
    )
    blended = tf.zeros_like(binned, tf.float32)
    for row, row_weight in rows:
        for column, column_weight in columns:
            mapped = _look_up(maps, _tile_index(planes, row, column, counts), binned)
            blended += mapped * (row_weight[:, tf.newaxis, tf.newaxis] * column_weight[:, tf.newaxis])
    return tf.floor(blended)


def _around(size: base.Size, side: base.Size, count: base.Size) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns, for each place on an axis, the tile before and the tile after it with their weights."""
    places = tf.range(size) + side // 2
    after = places // side
    weight = tf.cast(places % side, tf.float32) / tf.cast(side, tf.float32)
    return [(tf.maximum(after - 1, 0), 1.0 - weight), (tf.minimum(after, count - 1), weight)]


def _checked_bins(bins: int) -> int:
    if bins < 2:
        raise errors.ConfigError(f"A histogram has at least 2 bins. Received: bins={bins!r}")
    return int(bins)
