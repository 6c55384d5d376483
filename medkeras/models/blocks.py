"""Building blocks: `(x, *, filters, stride, name) -> x`, every layer named after its block."""

from __future__ import annotations

import keras

BATCH_NORM_MOMENTUM = 0.9


def conv(x: keras.KerasTensor, *, filters: int, kernel: int = 3, stride: int = 1, name: str) -> keras.KerasTensor:
    """Returns a convolution without bias, He-initialised, `same` padding."""
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def norm(x: keras.KerasTensor, *, epsilon: float = 1e-5, gamma: str = "ones", name: str) -> keras.KerasTensor:
    """Returns batch normalisation; `gamma="zeros"` makes a residual branch start as nothing."""
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def conv_norm_act(
    x: keras.KerasTensor,
    *,
    filters: int,
    kernel: int = 3,
    stride: int = 1,
    epsilon: float = 1e-5,
    ceiling: float | None = None,
    name: str,
) -> keras.KerasTensor:
    """Returns convolution, batch normalisation and ReLU (ReLU6 with `ceiling=6.0`)."""
    x = conv(x, filters=filters, kernel=kernel, stride=stride, name=name)
    x = norm(x, epsilon=epsilon, name=name)
    return keras.layers.ReLU(max_value=ceiling, name=f"{name}_act")(x)


def residual(x: keras.KerasTensor, *, filters: int, stride: int, name: str) -> keras.KerasTensor:
    """Returns a basic residual block: two 3x3 convolutions beside a shortcut, the last gamma zero.

    Reference: He et al., Deep residual learning for image recognition, CVPR 2016, figure 5 left;
        zero gamma: Goyal et al., Accurate, large minibatch SGD, 2017, section 5.1.
    """
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = conv(x, filters=filters, kernel=1, stride=stride, name=f"{name}_shortcut")
        shortcut = norm(shortcut, name=f"{name}_shortcut")
    x = conv_norm_act(x, filters=filters, stride=stride, name=f"{name}_1")
    x = conv(x, filters=filters, name=f"{name}_2")
    x = norm(x, gamma="zeros", name=f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_act")(x)


def inverted_residual(
    x: keras.KerasTensor, *, filters: int, stride: int, kernel: int, expand: int, name: str
) -> keras.KerasTensor:
    """Returns an inverted residual block (MBConv) with ReLU6 and no squeeze-and-excitation.

    Reference: Sandler et al., MobileNetV2, CVPR 2018, table 1.
    """
    shortcut, channels = x, x.shape[-1]
    if expand != 1:
        x = conv_norm_act(x, filters=channels * expand, kernel=1, epsilon=1e-3, ceiling=6.0, name=f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        # By fan-out: Keras counts every channel in the fan-in of a depthwise kernel, which sees but one.
        depthwise_initializer=keras.initializers.VarianceScaling(2.0, mode="fan_out"),
        name=f"{name}_depthwise_conv",
    )(x)
    x = norm(x, epsilon=1e-3, name=f"{name}_depthwise")
    x = keras.layers.ReLU(max_value=6.0, name=f"{name}_depthwise_act")(x)
    x = conv(x, filters=filters, kernel=1, name=f"{name}_project")
    x = norm(x, epsilon=1e-3, name=f"{name}_project")
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the embedding `[B, F]`: the mean of the last map `[B, h, w, F]`, which is named `features`."""
    x = keras.layers.Identity(name="features")(x)
    return keras.layers.GlobalAveragePooling2D(name="embedding")(x)
