"""The recipes: settings that hold, a quick version of each, and a run that hands them on."""

from __future__ import annotations

import importlib
import pkgutil
import types

import pytest

import medkeras
import pipelines
from medkeras import config, errors
from medkeras.data import schemes

NAMES = [module.name for module in pkgutil.iter_modules(pipelines.__path__)]


def recipe(name: str) -> types.ModuleType:
    return importlib.import_module(f"pipelines.{name}")


def test_the_recipes_are_these() -> None:
    assert NAMES == ["brain_mri", "cifar10", "phantom", "pneumonia"]


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_the_run_folder(name) -> None:
    settings = recipe(name).get_config()
    assert config.Config().override(settings.flat()) == settings


@pytest.mark.parametrize("name", NAMES)
def test_smoke_differs_only_in_size(name) -> None:
    full, quick = recipe(name).get_config().flat(), recipe(name).smoke().flat()
    changed = {key for key in full if full[key] != quick[key]}
    assert changed <= {"data.image_size", "train.epochs", "train.finetune_epochs", "train.batch_size"}
    assert quick["train.epochs"] == 1
    assert quick["data.image_size"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_run_trains_with_the_settings(name, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        medkeras, "train", lambda *args, **kwargs: calls.append((args, kwargs)) or "done", raising=False
    )
    assert recipe(name).run("models", "work") == "done"
    assert calls == [((recipe(name).get_config(),), {"output": "models", "workdir": "work"})]


@pytest.mark.parametrize("name", NAMES)
def test_the_header_gives_command_hardware_and_where_the_measurement_is(name) -> None:
    header = recipe(name).__doc__
    assert f"python main.py --mode=train --recipe={name}" in header
    for part in ("Hardware:", "Measured:", "Data:"):
        assert part in header


def test_the_phantom_recipe_is_the_default() -> None:
    assert recipe("phantom").get_config() == config.Config()


def test_without_augmentation_no_step_is_left() -> None:
    settings = config.Config().override(pipelines.NO_AUGMENTATION).augment
    assert not any(value for name, value in vars(settings).items() if name != "flips")
    assert settings.flips == "none"


def test_the_variable_names_the_data(monkeypatch) -> None:
    monkeypatch.setenv("MEDKERAS_DATA", "/somewhere")
    assert recipe("brain_mri").get_config().data.source == "folder:/somewhere/brain_mri"


def test_absent_data_are_told_with_the_name_of_the_variable(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("MEDKERAS_DATA", raising=False)
    monkeypatch.setattr(pipelines, "SHARED", tmp_path / "nowhere")
    with pytest.raises(errors.DataError, match=r"Received: '\$MEDKERAS_DATA/brain_mri'"):
        schemes.read(recipe("brain_mri").get_config().data, seed=0)


@pytest.mark.parametrize(("name", "classes", "tested"), [("brain_mri", 4, 1311), ("pneumonia", 2, 624)])
def test_the_real_data_are_what_the_recipe_expects(name, classes, tested, real_data, monkeypatch) -> None:
    monkeypatch.setenv("MEDKERAS_DATA", str(real_data))
    settings = recipe(name).get_config()
    case_set = schemes.load(settings.data, seed=settings.seed)
    assert len(case_set.classes) == classes
    assert len(case_set.of_split("test")) == tested
