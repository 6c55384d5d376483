"""EfficientNet B0 to B3 and V2, as Keras publishes them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

import keras

from medkeras import errors
from medkeras.models import blocks

_V1_URL = "https://storage.googleapis.com/keras-applications/"
_V2_URL = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def build(x: keras.KerasTensor, *, application: Callable[..., keras.Model]) -> keras.KerasTensor:
    """Returns the embedding `[B, F]` of `[B, H, W, 3]`, values 0..255: the network rescales them itself.

    Reference: Tan and Le, EfficientNet, ICML 2019; EfficientNetV2, ICML 2021.
    """
    network = application(include_top=False, weights=None, input_tensor=x)
    for layer in network.layers:
        # Keras numbers this one layer by what was built before; a fixed name lets weights be found again.
        if isinstance(layer, keras.layers.Normalization) and layer.name.startswith("normalization"):
            layer.name = "stem_normalization"
    return blocks.pooled(network.output)


@dataclasses.dataclass(frozen=True)
class ApplicationWeights:
    """ImageNet weights that Keras publishes.

    Attributes:
        url: The folder they are published in.
        file: The file without the classification layer.
        md5: The hash that Keras publishes.
        divided_twice: Whether the weights expect inputs divided by the deviation's square root once
            more, as those of the first EfficientNet do (tensorflow issue 49930).
    """

    url: str
    file: str
    md5: str
    divided_twice: bool
    suffix: str = ".h5"

    @property
    def origin(self) -> str:
        """Where the weights come from, and under which licence."""
        return f"keras.applications file {self.file}, Apache-2.0, MD5 verified"

    @property
    def advice(self) -> str:
        """How to get them."""
        return f"Ask for weights=imagenet to download them, or put {self.file} from {self.url} into {_cache()}"

    def locate(self, *, download: bool) -> pathlib.Path | None:
        """Returns the file in Keras's cache, downloaded if asked; raises `ConfigError` when that fails."""
        path = _cache() / self.file
        if path.is_file() or not download:
            return path if path.is_file() else None
        try:
            return pathlib.Path(
                keras.utils.get_file(
                    self.file,
                    self.url + self.file,
                    cache_dir=_cache().parent,
                    cache_subdir="models",
                    file_hash=self.md5,
                )
            )
        # get_file wraps every network failure in a bare Exception.
        except Exception as error:
            raise errors.ConfigError(
                f"weights=imagenet needs {self.url}{self.file} to be reachable, or that file in {_cache()}. "
                f"Received: {str(error).splitlines()[0]}"
            ) from None

    def verify(self, content: bytes) -> None:
        """Raises `ModelError` for a content that is not the published file."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if digest != self.md5:
            raise errors.ModelError(f"{self.file} has the published MD5 {self.md5}. Received: {digest}")

    def load(self, network: keras.Model, path: pathlib.Path) -> None:
        """Fills the network from an HDF5 file as Keras publishes it, without its classification layer."""
        try:
            network.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise errors.ModelError(
                f"{errors.printable(path)}: an .h5 file holds this network's weights. Received: {reason}"
            ) from None
        if self.divided_twice:
            _divide_again(network.get_layer("stem_normalization"))


def _divide_again(layer: keras.layers.Normalization) -> None:
    """Folds the second division, by the deviation's root, into the layer: its variance times the deviation."""
    mean, variance, *rest = layer.get_weights()
    layer.set_weights([mean, variance * _IMAGENET_DEVIATION, *rest])
    layer.finalize_state()


def _cache() -> pathlib.Path:
    """Returns the folder of Keras's downloaded weights."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras") / "models"


B0 = ApplicationWeights(_V1_URL, "efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d", True)
B1 = ApplicationWeights(_V1_URL, "efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432", True)
B2 = ApplicationWeights(_V1_URL, "efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39", True)
B3 = ApplicationWeights(_V1_URL, "efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226", True)
V2_B0 = ApplicationWeights(_V2_URL, "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff", False)
V2_S = ApplicationWeights(_V2_URL, "efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070", False)
