"""ResNet-18, and the same network with a quarter of its width."""

from __future__ import annotations

import keras

from medkeras.models import blocks

STAGES = 4
BLOCKS_PER_STAGE = 2
SMALL_IMAGE = 64


def build(x: keras.KerasTensor, *, width: int = 64) -> keras.KerasTensor:
    """Returns the embedding `[B, 8 * width]` of `[B, H, W, C]`.

    Images of at most 64 pixels get a 3x3 stem that keeps their size, larger ones the 7x7 stem and
    the max-pooling of the paper, which divide it by four.

    Reference: He et al., Deep residual learning for image recognition, CVPR 2016, table 1 (18-layer)
        and section 4.2 (small images).
    """
    x = _stem(x, width=width)
    for stage in range(1, STAGES + 1):
        for block in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 1 and block == 0 else 1
            x = blocks.residual(x, filters=width * 2 ** (stage - 1), stride=stride, name=f"block{stage}{'ab'[block]}")
    return blocks.pooled(x)


def _stem(x: keras.KerasTensor, *, width: int) -> keras.KerasTensor:
    if max(x.shape[1:3]) <= SMALL_IMAGE:
        return blocks.conv_norm_act(x, filters=width, name="stem")
    x = blocks.conv_norm_act(x, filters=width, kernel=7, stride=2, name="stem")
    return keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
