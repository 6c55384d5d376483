"""The files with which a team runs exported models in TensorFlow Serving: templates, and what fills them.

The templates lie in `deploy_files/`, one a file of the output, under the same name; `parts/` holds what stands in
several of them. `@{name}` is a blank. A blank alone on its line takes several lines and indents them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.resources
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import abc

from medkeras import errors, version

BASE_IMAGE = "tensorflow/serving:2.20.0"
GATEWAY_IMAGE = "nginxinc/nginx-unprivileged:1.28.0-alpine"
PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
GRAFANA_IMAGE = "grafana/grafana:12.1.1"
NAMESPACE = "medkeras"
STABLE, CANARY = "stable", "canary"
CPUS = 2

# MiB: the server and its calls; a loaded version beside what it has on disk; measured, see docs/deploy.md.
_SERVER, _VERSION, _COPIES = 1024, 96, 4
_MEBIBYTE = 2**20
_SHARED, _KSERVE, _README = "parts", "kserve/inferenceservice.yaml", "README.md"
_BLANK = re.compile(r"@\{(\w+)\}")
_BLANK_LINE = re.compile(r"^([ ]*)@\{(\w+)\}$", re.MULTILINE)
# What a URL, a path, protobuf text, YAML and a shell all take as it is.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9_-])?")
# Left of the 63 characters of a DNS label for what is appended.
_LONGEST_LABEL = 40
_LARGEST_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Version:
    """A version to be served.

    Attributes:
        number: Its number, 1 or more.
        files: Relative path of every file that goes along to its SHA-256.
        size: Bytes of all of them.
        card: SHA-256 of the card that the version was published with.
    """

    number: int
    files: Mapping[str, str]
    size: int
    card: str = ""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to be served; the first of its versions is `stable`, the last of several `canary`."""

    name: str
    versions: Sequence[Version]

    @property
    def labels(self) -> dict[str, int]:
        """The labels and their versions."""
        canary = {CANARY: self.versions[-1].number} if len(self.versions) > 1 else {}
        return {STABLE: self.versions[0].number} | canary

    @property
    def label(self) -> str:
        """The name as a DNS label (RFC 1123) that begins with a letter."""
        text = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        text = text if text[:1].isalpha() else f"model-{text}".rstrip("-")
        return text[:_LONGEST_LABEL].rstrip("-")

    @property
    def metadata_path(self) -> str:
        """Where the stable version answers for its metadata: 404 or 400 until it is loaded."""
        return f"/v1/models/{self.name}/labels/{STABLE}/metadata"

    @property
    def memory(self) -> int:
        """MiB that its versions take, and one more of the largest, for the moment of a swap."""
        sizes = [each.size for each in self.versions]
        return sum(_VERSION + math.ceil(_COPIES * size / _MEBIBYTE) for size in (*sizes, max(sizes)))


def check(models: Sequence[Model]) -> None:
    """Checks that models can be served together.

    Raises:
        ModelError: A name or number is none that TensorFlow Serving, a URL and Kubernetes take, a version stands twice,
            or two names are one to Kubernetes.
    """
    for model in models:
        if not _NAME.fullmatch(model.name) or ".." in model.name:
            raise errors.ModelError(
                "A served model's name is 1 to 63 ASCII letters, digits, '_', '-' and '.', and begins with a letter or "
                f"digit. Received: {model.name!r}"
            )
        numbers = [each.number for each in model.versions]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= _LARGEST_VERSION:
                raise errors.ModelError(
                    f"A served version is a whole number from 1. Received: {number!r} for {model.name!r}"
                )
        if len(set(numbers)) < len(numbers):
            raise errors.ModelError(f"Each version of a model is given once. Received: {numbers} for {model.name!r}")
    for one, other in itertools.combinations(models, 2):
        if one.label == other.label:
            raise errors.ModelError(
                f"Names of models differ in more than case and punctuation, which Kubernetes does not tell apart. "
                f"Received: {one.name!r} and {other.name!r}"
            )


def render(models: Sequence[Model]) -> dict[str, str]:
    """Returns every file of a deployment but the models themselves, by its path in the output.

    Raises:
        ModelError: The models cannot be served together.
    """
    check(models)
    values = _values(models)
    files = {path: fill(text, values) for path, text in templates().items() if path != _KSERVE}
    for model in models:
        files[f"kserve/{model.label}.yaml"] = fill(templates()[_KSERVE], values | _kserve_values(model, values))
    files["models/SHA256SUMS"] = _sums(models)
    files["manifest.json"] = _manifest(models, files)
    return files


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fills the blanks of a template.

    >>> print(fill("a:\\n  @{lines}\\nb: @{word}", {"lines": "1\\n2", "word": "c"}))
    a:
      1
      2
    b: c
    """

    def lines(match: re.Match[str]) -> str:
        return "\n".join(f"{match[1]}{line}".rstrip() for line in values[match[2]].splitlines())

    return _BLANK.sub(lambda match: values[match[1]], _BLANK_LINE.sub(lines, template))


def templates() -> dict[str, str]:
    """Returns the template of every file of the output, by its path."""
    return {path: text for path, text in _read().items() if path.partition("/")[0] != _SHARED}


@functools.cache
def _read() -> Mapping[str, str]:
    return dict(_walk(importlib.resources.files("medkeras.serving") / "deploy_files"))


def _walk(folder: abc.Traversable, prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{prefix}{entry.name}"
        found += _walk(entry, f"{path}/") if entry.is_dir() else [(path, entry.read_text(encoding="utf-8"))]
    return found


def _values(models: Sequence[Model]) -> dict[str, str]:
    """Returns what fills the blanks: first what is known, then the texts that stand inside others."""
    app = models[0].label if len(models) == 1 else f"medkeras-{models[0].label}"[:_LONGEST_LABEL].rstrip("-")
    release = _release(models)
    values = {
        "app": app,
        "medkeras": version.VERSION,
        "release": release,
        "namespace": NAMESPACE,
        "image_name": f"medkeras/{app}",
        "image": f"medkeras/{app}:{release}",
        "base_image": BASE_IMAGE,
        "gateway_image": GATEWAY_IMAGE,
        "prometheus_image": PROMETHEUS_IMAGE,
        "grafana_image": GRAFANA_IMAGE,
        "cpus": str(CPUS),
        **_of_models(models),
        **_sizes(models),
    }
    return values | _composed(values)


def _of_models(models: Sequence[Model]) -> dict[str, str]:
    named = [f"{model.name} {' and '.join(str(each.number) for each in model.versions)}" for model in models]
    labelled = ((model, label, number) for model in models for label, number in model.labels.items())
    return {
        "model_list": ", ".join(named),
        "summary": "\n".join(
            f"- `{model.name}`: version {number}, label `{label}`" for model, label, number in labelled
        ),
        "models": "\n".join(model_config(model, f"/models/{model.name}") for model in models),
        "metadata_path": models[0].metadata_path,
        "metadata_paths": " \\\n".join(f"  {model.metadata_path}" for model in models),
        "store_versions": " ".join(f"{model.name}/{each.number}" for model in models for each in model.versions),
        "examples": "\n".join(fill(_read()["parts/example.md"], {"model": model.name}) for model in models),
    }


def _sizes(models: Sequence[Model]) -> dict[str, str]:
    size = math.ceil(sum(each.size for model in models for each in model.versions) / _MEBIBYTE)
    parts = " + ".join(f"{model.memory} ({model.name})" for model in models)
    return {
        "memory": str(memory(models)),
        "memory_text": f"{_SERVER} for the server and its calls + {parts}, rounded up: every version here, and one "
        "more of each model's largest, because a new one is loaded before the old one goes",
        "models_size": f"{size} MiB",
        "storage": str(max(1024, _rounded(10 * size))),
    }


def memory(models: Sequence[Model]) -> int:
    """Returns the MiB that a server of these models needs, with two versions of each in memory at once."""
    return _rounded(_SERVER + sum(model.memory for model in models))


def _rounded(size: int, step: int = 64) -> int:
    return math.ceil(size / step) * step


def _composed(values: Mapping[str, str]) -> dict[str, str]:
    """Returns the texts that stand inside others, filled."""
    parts = _read()
    flags = fill(parts["parts/flags.txt"], values)
    configs = {
        f"{name}_config": fill(parts[f"config/{name}.config"], values) for name in ("models", "batching", "monitoring")
    }
    local = fill(parts["parts/nginx.conf"], {**values, "upstream": "127.0.0.1"})
    return configs | {
        "docker_flags": _docker(flags),
        "yaml_flags": _yaml(flags),
        "gateway": fill(parts["parts/nginx.conf"], {**values, "upstream": "serving"}),
        "gateway_local": local,
        "config_name": _hashed(f"{values['app']}-config", *configs.values()),
        "gateway_config_name": _hashed(f"{values['app']}-gateway", local),
        "fill_store": fill(parts["parts/fill_store.sh"], values),
    }


def _kserve_values(model: Model, values: Mapping[str, str]) -> dict[str, str]:
    text = model_config(model, "/mnt/models")
    return {
        "model": model.name,
        "kserve_name": model.label,
        "kserve_config_name": _hashed(f"{model.label}-kserve", text, values["monitoring_config"]),
        "kserve_model": text,
        "kserve_flags": _yaml(fill(_read()["parts/kserve_flags.txt"], values)),
        "kserve_metadata_path": model.metadata_path,
        "kserve_memory": str(memory([model])),
    }


def model_config(model: Model, base_path: str) -> str:
    """Returns the entry of a model in `models.config`."""
    numbers = (f"      versions: {each.number}" for each in model.versions)
    labels = (f'  version_labels {{ key: "{label}" value: {number} }}' for label, number in model.labels.items())
    values = {"model": model.name, "base_path": base_path}
    lines = {"version_lines": "\n".join(numbers), "label_lines": "\n".join(labels)}
    return fill(_read()["parts/model.config"], values | lines).rstrip("\n")


def _yaml(flags: str) -> str:
    """Returns flags as the items of a YAML list; one that is switched off, `#--flag`, stays a comment."""
    return "\n".join(_FLAG.sub(r'\1- "\2"', line) for line in flags.splitlines())


def _docker(flags: str) -> str:
    """Returns flags as the elements of a Dockerfile's JSON list, which takes comments between its lines."""
    lines = [_FLAG.sub(r'\1"\2", \\', line) for line in flags.splitlines()]
    lines[-1] = lines[-1].replace(", \\", " \\")
    return "\n".join(f"  {line}" for line in lines)


_FLAG = re.compile(r"^(#?)(--.*)$")


def _hashed(name: str, *texts: str) -> str:
    return f"{name}-{hashlib.sha256(''.join(texts).encode()).hexdigest()[:8]}"


def _release(models: Sequence[Model]) -> str:
    return hashlib.sha256(_sums(models).encode()).hexdigest()[:12]


def _sums(models: Sequence[Model]) -> str:
    """Returns the lines of `SHA256SUMS`, for paths below `models/`."""
    paths = (
        (f"{model.name}/{each.number}/{path}", digest)
        for model in models
        for each in model.versions
        for path, digest in each.files.items()
    )
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(paths))


def _manifest(models: Sequence[Model], files: Mapping[str, str]) -> str:
    content = {
        "medkeras": version.VERSION,
        "release": _release(models),
        "models": [
            {
                "name": model.name,
                "labels": model.labels,
                "versions": [
                    {"version": each.number, "bytes": each.size, "published_card": each.card, "files": dict(each.files)}
                    for each in model.versions
                ],
            }
            for model in models
        ],
        "files": {path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(files.items())},
    }
    return json.dumps(content, indent=2) + "\n"
