"""The settings of a run: frozen, typed, printable, and strict about overrides."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from medkeras import errors


def setting(
    default: Any, description: str, *, choices: tuple[str, ...] = (), low: float = -math.inf, high: float = math.inf
) -> Any:
    """Declares one setting: its default, what it means, and what it accepts."""
    return dataclasses.field(
        default=default, metadata={"help": description, "choices": choices, "low": low, "high": high}
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read, and how it reaches a batch."""

    source: str = setting("phantom", "the data, SCHEME:PLACE")
    labels: str = setting(
        "", "dicom, nifti: the CSV table of labels; empty: labels.csv in the folder, else class folders"
    )
    view: str = setting("slices", "dicom, nifti: a case is a slice, or a whole volume", choices=("slices", "volumes"))
    spacing: str = setting(
        "", "volumes: voxel size in mm to resample to, one number or DEPTH,ROW,COLUMN; empty: as stored"
    )
    units: str = setting(
        "",
        "nifti: what the values mean, which the files do not say: HU (CT), or empty: stored values",
        choices=("", "HU"),
    )
    image_size: int = setting(
        0, "height and width of the canvas in pixels; 0: the data's median, at most 224", low=0, high=4096
    )
    resize: str = setting(
        "pad", "pad keeps the aspect and fills with zeros; stretch does not", choices=("pad", "stretch")
    )
    validation: float = setting(0.15, "share of the training patients kept for validation", low=0.01, high=0.5)
    test: float = setting(0.2, "share of the patients kept for the test, when the data name none", low=0.01, high=0.9)
    cache: str = setting(
        "auto", "where decoded images are kept between epochs", choices=("auto", "memory", "disk", "none")
    )
    on_error: str = setting("raise", "what an unreadable file does", choices=("raise", "skip"))
    max_errors: float = setting(0.01, "largest share of unreadable files that skip accepts", low=0.0, high=1.0)
    leakage: str = setting(
        "warn",
        "copies and patients across splits, and in evaluate trained pictures: warn, or drop them",
        choices=("warn", "drop"),
    )
    metadata: str = setting(
        "",
        "csv, dicom, nifti: names, separated by commas, of what is kept of each case for the evaluation by subgroups, "
        "such as sex,age,site",
    )


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """The layers between the stored values and the network."""

    denoise: str = setting(
        "none",
        "none, median, gaussian, bilateral or tv (total variation)",
        choices=("none", "median", "gaussian", "bilateral", "tv"),
    )
    grayscale: bool = setting(False, "turn colour into luminance")
    window: str = setting("auto", "auto, none, percentile, LOW:HIGH or a CT preset; maps the window to 0…1")
    equalise: str = setting("none", "none, histogram or clahe", choices=("none", "histogram", "clahe"))
    normalise: str = setting(
        "auto",
        "auto is what the network was made for",
        choices=("auto", "none", "zscore", "dataset", "minmax", "imagenet"),
    )


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What training images go through; every zero switches a step off."""

    flips: str = setting(
        "none", "left and right (and up and down) are kept apart unless asked", choices=("none", "horizontal", "both")
    )
    rotation: float = setting(10.0, "largest angle in degrees", low=0, high=180)
    zoom: float = setting(0.1, "largest relative change of size", low=0, high=0.9)
    translation: float = setting(0.05, "largest shift as a share of the image", low=0, high=0.9)
    intensity: float = setting(0.1, "largest relative change of brightness, contrast and log2 gamma", low=0, high=0.9)
    noise: float = setting(0.01, "standard deviation of Gaussian noise as a share of the value range", low=0, high=1)
    elastic: float = setting(0.0, "largest elastic displacement as a share of the image", low=0, high=0.2)
    cutout: float = setting(0.0, "side of an erased square as a share of the image", low=0, high=0.9)
    mixup: float = setting(0.0, "alpha of mixup's Beta(alpha, alpha)", low=0, high=10)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network."""

    name: str = setting("auto", "a name of medkeras.MODELS; auto: efficientnet_lite0, or resnet_small below 128 pixels")
    weights: str = setting("auto", "auto (pretrained where pip brings weights), none, imagenet, or a weights file")
    dropout: float = setting(0.2, "share of the embedding dropped before the head", low=0, high=0.95)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the network learns."""

    epochs: int = setting(30, "passes over the training split (transfer: of the frozen stage)", low=1, high=100000)
    batch_size: int = setting(32, "examples a step, over all devices", low=1, high=65536)
    learning_rate: float = setting(1e-3, "peak learning rate", low=0, high=100)
    optimizer: str = setting(
        "adamw", "sgd, momentum (SGD, Nesterov 0.9), adam or adamw", choices=("sgd", "momentum", "adam", "adamw")
    )
    schedule: str = setting(
        "cosine", "cosine after a warm-up of 5% of the steps, or constant", choices=("cosine", "constant")
    )
    weight_decay: float = setting(1e-4, "decoupled weight decay (adamw)", low=0, high=10)
    loss: str = setting(
        "crossentropy",
        "crossentropy, weighted (by inverse class frequency) or focal",
        choices=("crossentropy", "weighted", "focal"),
    )
    clip_norm: float = setting(1.0, "largest global gradient norm; 0: no clipping", low=0, high=1e6)
    patience: int = setting(8, "epochs without a better validation loss before stopping", low=1, high=100000)
    unfreeze: int = setting(6, "transfer: blocks fine-tuned at the end; 0: none, -1: all", low=-1, high=1000)
    finetune_epochs: int = setting(5, "transfer: epochs of fine-tuning, at a tenth of the rate", low=1, high=100000)
    strategy: str = setting("auto", "auto, one or mirrored", choices=("auto", "one", "mirrored"))
    deterministic: bool = setting(True, "the same seed gives the same weights on the same machine")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is fitted on the validation split after training, and how the test split is judged."""

    calibration: str = setting(
        "temperature",
        "what makes the probabilities honest, fitted on validation and part of the exported graph",
        choices=("none", "temperature", "platt", "isotonic"),
    )
    alpha: float = setting(0.1, "share of cases whose prediction set may miss the truth", low=0.001, high=0.5)
    conformal: str = setting(
        "marginal",
        "prediction sets hold the truth over all cases (marginal), or within every class (class)",
        choices=("marginal", "class"),
    )
    risk: float = setting(
        0.0, "largest error rate among the cases that the model answers; 0: it answers all familiar ones", low=0, high=1
    )
    gate: float = setting(0.02, "share of familiar cases that the input gate may call unfamiliar", low=0.0, high=0.2)
    operating_point: str = setting(
        "youden", "chosen on validation: none, youden, sensitivity:SHARE, specificity:SHARE, or cost:FN/FP"
    )
    prevalence: float = setting(
        0.0, "prevalence that predictive values are stated for; 0: that of the test split", low=0.0, high=1.0
    )
    resamples: int = setting(1000, "bootstrap resamples of patients behind an interval", low=1, high=1000000)
    interval: str = setting("percentile", "kind of bootstrap interval", choices=("percentile", "bca"))
    foreign: str = setting(
        "", "folders of images that the model must not know, separated by commas: how well the input gate tells them"
    )


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    """What the `explain` signature answers with."""

    method: str = setting(
        "auto",
        "how a heatmap is made; auto: integrated gradients where the last map has under 7 cells a side, else Grad-CAM",
        choices=("auto", "gradcam", "gradcam++", "integrated_gradients", "occlusion"),
    )


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What stands side by side in a comparison."""

    traditional: str = setting(
        "logistic_regression,svm,random_forest,gradient_boosting", "classifiers over hand-made features; empty: none"
    )
    embeddings: str = setting("logistic_regression,svm", "classifiers over frozen pretrained features; empty: none")
    networks: str = setting(
        "auto",
        "compare: networks to train, names of medkeras.MODELS separated by commas; crossval: those to choose among",
    )


@dataclasses.dataclass(frozen=True)
class CrossvalConfig:
    """How often, and on what parts, a network is trained anew."""

    folds: int = setting(5, "parts of the patients, each the test of one training", low=2, high=100)
    repeats: int = setting(1, "times the whole is repeated with other parts", low=1, high=100)
    ensemble: bool = setting(False, "export the mean of the folds' networks as one SavedModel")
    final: bool = setting(False, "train once more, on all cases")
    sizes: str = setting(
        "", "learning curve: shares of the training patients, separated by commas, such as 0.1,0.2,0.4,0.7; empty: none"
    )


@dataclasses.dataclass(frozen=True)
class EdgeConfig:
    """How a model is converted for a device, and what it may lose."""

    dtype: str = setting(
        "auto",
        "of the pixels that the device gives; auto: as the training images",
        choices=("auto", "uint8", "uint16", "float32"),
    )
    size: int = setting(
        0, "height and width in pixels of the pictures that the device gives; 0: of the canvas", low=0, high=4096
    )
    batch: int = setting(1, "pictures in one call; 0: any number", low=0, high=1024)
    calibration: int = setting(
        256, "training cases, as many of each class, that int8 ranges are measured on", low=1, high=100000
    )
    margin: float = setting(0.01, "loss of accuracy, AUROC or sensitivity that the gate allows", low=0.0, high=0.5)
    finetune_epochs: int = setting(
        2, "epochs of fine-tuning in simulated int8 where everything else loses; 0: none", low=0, high=1000
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """All the settings of one run.

    Attributes:
        name: Folder of the saved model and of the run; empty: named after data and network.
        seed: Root of every random number.
    """

    name: str = setting("", "folder of the model and of the run; empty: named after data and network")
    seed: int = setting(0, "root of every random number", low=0, high=2**31 - 1)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    preprocessing: PreprocessingConfig = dataclasses.field(default_factory=PreprocessingConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    explain: ExplainConfig = dataclasses.field(default_factory=ExplainConfig)
    compare: CompareConfig = dataclasses.field(default_factory=CompareConfig)
    crossval: CrossvalConfig = dataclasses.field(default_factory=CrossvalConfig)
    edge: EdgeConfig = dataclasses.field(default_factory=EdgeConfig)

    def override(self, assignments: Iterable[str] | Mapping[str, Any]) -> Config:
        """Returns a copy with settings replaced.

        Args:
            assignments: `section.field=value` strings, or a mapping of `section.field` to a value.

        Raises:
            ConfigError: A field is unknown (the nearest names are given), or a value has the wrong type or range.
        """
        pairs = assignments.items() if isinstance(assignments, Mapping) else map(_split_assignment, assignments)
        config = self
        for key, value in pairs:
            config = _replace(config, key, value)
        return config

    def flat(self) -> dict[str, Any]:
        """Returns every setting as `section.field` to value, in order of declaration."""
        return {key: _get(self, key) for key in fields()}


def fields() -> dict[str, dataclasses.Field[Any]]:
    """Returns every setting's declaration, by its `section.field` name."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for field in dataclasses.fields(Config):
        if field.metadata:
            found[field.name] = field
        else:
            for inner in dataclasses.fields(typing.get_type_hints(Config)[field.name]):
                found[f"{field.name}.{inner.name}"] = inner
    return found


def _split_assignment(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise errors.ConfigError(f"A setting is written section.field=value. Received: {text!r}")
    return key.strip(), value.strip()


def _get(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _replace(config: Config, key: str, value: Any) -> Config:
    known = fields()
    if key not in known:
        raise errors.ConfigError(errors.unknown("setting", key, known))
    value = _checked(key, known[key], value)
    section, _, name = key.rpartition(".")
    if not section:
        return dataclasses.replace(config, **{name: value})
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **{name: value})})


def _checked(key: str, field: dataclasses.Field[Any], value: Any) -> Any:
    value = _parsed(key, field.type, value)
    choices, low, high = (field.metadata[name] for name in ("choices", "low", "high"))
    if choices and value not in choices:
        raise errors.ConfigError(f"{key}: {errors.unknown('value', value, choices)}")
    if isinstance(value, (int, float)) and not low <= value <= high:
        raise errors.ConfigError(f"{key} lies between {low:.10g} and {high:.10g}. Received: {value!r}")
    return value


def _parsed(key: str, kind: Any, value: Any) -> Any:
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    try:
        return _PARSERS[name](value)
    except (ValueError, TypeError, KeyError):
        raise errors.ConfigError(f"{key} is {_ARTICLES[name]}. Received: {value!r}") from None


def _parse_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _parse_float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(value)
    return float(value)


def _parse_bool(value: Any) -> bool:
    return value if isinstance(value, bool) else _BOOLEANS[str(value).lower()]


def _parse_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


_BOOLEANS = types.MappingProxyType({"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False})
_PARSERS = types.MappingProxyType({"int": _parse_int, "float": _parse_float, "bool": _parse_bool, "str": _parse_str})
_ARTICLES = types.MappingProxyType(
    {"int": "a whole number", "float": "a finite number", "bool": "true or false", "str": "a text"}
)
