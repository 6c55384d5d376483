"""A deployment of two models, rendered once, and what its files say."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

import yaml

from medkeras.serving import deploy

MEBIBYTE = 2**20


def version(number: int, size: int = MEBIBYTE) -> deploy.Version:
    """A version of two files."""
    files = {"saved_model.pb": f"{number:064x}", "card.json": "c" * 64}
    return deploy.Version(number, files, size, "0" * 64)


MODELS = (
    deploy.Model("brain_mri", (version(3, 16 * MEBIBYTE), version(4, 17 * MEBIBYTE))),
    deploy.Model("X-Ray.v2", (version(1),)),
)


@functools.cache
def rendered() -> dict[str, str]:
    """Every file of the deployment of `MODELS`."""
    return deploy.render(MODELS)


@dataclasses.dataclass(frozen=True)
class Document:
    """One YAML document of a file."""

    path: str
    content: Any

    @property
    def kind(self) -> str:
        """Its kind, of Kubernetes."""
        return self.content["kind"]


def documents(files: dict[str, str], *folders: str) -> list[Document]:
    """Every YAML document in some folders."""
    return [
        Document(path, content)
        for path, text in files.items()
        if path.endswith((".yaml", ".yml")) and path.startswith(folders)
        for content in yaml.safe_load_all(text)
    ]


def one(kind: str, files: dict[str, str] | None = None, folder: str = "kubernetes/") -> Any:
    """The only document of a kind."""
    (found,) = [each.content for each in documents(files or rendered(), folder) if each.kind == kind]
    return found


def pod(files: dict[str, str] | None = None) -> Any:
    """The Deployment's pod."""
    return one("Deployment", files)["spec"]["template"]["spec"]


def container(name: str) -> Any:
    """A container of the Deployment's pod."""
    (found,) = [each for each in pod()["containers"] if each["name"] == name]
    return found


def compose() -> Any:
    """The Compose file."""
    return yaml.safe_load(rendered()["docker/docker-compose.yml"])


def dashboard() -> Any:
    """Grafana's dashboard."""
    return json.loads(rendered()["docker/grafana/dashboard.json"])


def dockerfile_lists() -> dict[str, list[str]]:
    """The Dockerfile's instructions whose argument is a JSON list, by name."""
    lines = [line for line in rendered()["docker/Dockerfile"].splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", "")
    return {name: json.loads(value) for name, value in re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.M)}


def flags(arguments: list[str]) -> dict[str, str]:
    """Flags by name."""
    return dict(re.fullmatch(r"--(\w+)=(.+)", argument).groups() for argument in arguments)
