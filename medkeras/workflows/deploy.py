"""`--mode=deploy`: published models, and the files with which a team runs them in TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from medkeras import errors
from medkeras.export import card, versions
from medkeras.serving import deploy as files
from medkeras.workflows import opening

# What a server loads. The report holds pictures of patients and the predictions their case identifiers: both stay here.
SERVED = ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra")
_GRAPH = "saved_model.pb"


@dataclasses.dataclass(frozen=True)
class Deployed:
    """What was written.

    Attributes:
        folder: The output folder.
        models: The models and their versions, in the order given.
        memory: MiB that a server of them needs.
    """

    folder: pathlib.Path
    models: Sequence[files.Model]
    memory: int

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Name of each model to its labels and their versions."""
        return {model.name: model.labels for model in self.models}


def deploy(models: Sequence[str | os.PathLike[str]], *, output: str | os.PathLike[str]) -> Deployed:
    """Writes what runs models in TensorFlow Serving: configuration, Docker, Kubernetes, KServe, and the models.

    Of each version go along what a server loads and the card, compared with their SHA-256 before and after.

    Args:
        models: Folders of versions, or of models: then their newest version. Of several versions of one model the first
            gets the label `stable`, the last `canary`.
        output: A folder that is new or empty, and not in the folder of a model.

    Raises:
        ConfigError: There is no model.
        ModelError: A folder is no medkeras model, was changed, or cannot be served under its name, or the output would
            overwrite something or cannot be written.
    """
    if not models:
        raise errors.ConfigError("--mode=deploy needs --model. Received: none")
    folders = [opening.locate(model) for model in models]
    cards = [_card(folder) for folder in folders]
    _check_names(cards)
    final = _output(pathlib.Path(output).absolute(), folders)
    with versions.new_folder(final) as written:
        found = [_copied(*pair, written / "models") for pair in zip(folders, cards, strict=True)]
        served = _grouped(cards, found)
        for path, text in files.render(served).items():
            _write(written / path, text)
        _open_to_containers(written)
    return Deployed(final, served, files.memory(served))


def _card(folder: pathlib.Path) -> card.Card:
    """Returns the card of a version after its files were compared with it."""
    found = card.read(folder)
    if not isinstance(found.name, str):
        raise errors.ModelError(f"{errors.printable(folder / card.NAME)}: is not a card that medkeras wrote (name)")
    outside = [name for name in found.files if ".." in pathlib.PurePosixPath(name).parts or name.startswith("/")]
    if outside or _GRAPH not in found.files:
        raise errors.ModelError(
            f"{errors.printable(folder / card.NAME)}: lists {_GRAPH} and files of its own folder. "
            f"Received: {errors.printable(outside[0]) if outside else 'no ' + _GRAPH}"
        )
    card.verify(found, folder)
    return found


def _check_names(cards: Sequence[card.Card]) -> None:
    """Refuses what cannot be served before a byte is copied."""
    files.check(_grouped(cards, [files.Version(each.version, {}, 0) for each in cards]))


def _grouped(cards: Sequence[card.Card], found: Sequence[files.Version]) -> list[files.Model]:
    """Returns the models in the order in which they were first given, their versions in the order given."""
    return [
        files.Model(name, [one for each, one in zip(cards, found, strict=True) if each.name == name])
        for name in dict.fromkeys(each.name for each in cards)
    ]


def _output(folder: pathlib.Path, models: Sequence[pathlib.Path]) -> pathlib.Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise errors.ModelError(
            f"The output is a folder that is new or empty: nothing is overwritten. "
            f"Received: {errors.printable(folder)!r}"
        )
    real = folder.resolve()
    for base in (model.resolve().parent for model in models):
        if real.is_relative_to(base):
            raise errors.ModelError(
                f"The output does not lie in the folder of a model, which servers watch. "
                f"Received: {errors.printable(folder)!r}"
            )
    return folder


def _copied(folder: pathlib.Path, published: card.Card, models: pathlib.Path) -> files.Version:
    """Copies what a server loads and a card that lists no more than that."""
    target = models / published.name / str(published.version)
    names = [name for name in published.files if pathlib.PurePosixPath(name).parts[0] in SERVED]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
    kept = dataclasses.replace(published, files={name: published.files[name] for name in names})
    card.verify(kept, target)
    card.save(kept, target)
    size = sum((target / name).stat().st_size for name in names)
    own = hashlib.sha256((folder / card.NAME).read_bytes()).hexdigest()
    digest = hashlib.sha256((target / card.NAME).read_bytes()).hexdigest()
    return files.Version(published.version, {**kept.files, card.NAME: digest}, size, own)


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _open_to_containers(folder: pathlib.Path) -> None:
    """Lets everybody read, whatever the umask: in its container the server runs as a user of its own."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)
