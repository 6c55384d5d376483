"""Sets of TensorFlow Datasets: prepared folders, image folders, and names that nobody knows."""

from __future__ import annotations

import importlib
import pathlib
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.data import cases, schemes

# What TensorFlow Datasets and its readers do when they are imported or opened.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

BUILDER = '''
    """Twelve small images of two classes."""

    import numpy as np
    import tensorflow_datasets as tfds


    class MadeHere(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({
                "scan": tfds.features.Image(shape=(None, None, 1)),
                "finding": tfds.features.ClassLabel(names=["sound", "ill"]),
                "age": np.int64,
            })
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 8), "test": self._generate_examples(8, 12),
                    "unsupervised": self._generate_examples(12, 14)}

        def _generate_examples(self, start, stop):
            for index in range(start, stop):
                image = np.full((5, 4 + index, 1), 10 * index, np.uint8)
                yield index, {"scan": image, "finding": index % 2, "age": 60 + index}
'''


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> pathlib.Path:
    """Prepares the builder above, from a package of its own, and returns the folder of its version."""
    root = tmp_path_factory.mktemp("tfds")
    package = root / "code" / "made_here"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "made_here.py").write_text(textwrap.dedent(BUILDER))
    sys.path.insert(0, str(root / "code"))
    try:
        builder = importlib.import_module("made_here.made_here").MadeHere(data_dir=str(root / "data"))
        builder.download_and_prepare()
    finally:
        sys.path.remove(str(root / "code"))
    return pathlib.Path(builder.data_dir)


def read(place: object) -> cases.CaseSet:
    return schemes.read(config.DataConfig(source=f"tfds:{place}"), seed=0)


def test_a_prepared_builder_keeps_classes_splits_and_pixels(prepared) -> None:
    found = read(prepared)
    assert found.name == "made_here"
    assert found.classes == ("sound", "ill")
    assert cases.counts(found.cases) == {"train": {"sound": 4, "ill": 4}, "test": {"sound": 2, "ill": 2}}
    assert found.notes == ("Splits without a use here were left out: unsupervised.",)
    for case in found.cases:
        image = found.images.read(case, 1)
        index = int(image[0, 0, 0]) // 10
        assert image.shape == (5, 4 + index, 1)
        assert np.all(image == 10 * index)
        assert case.label == ("sound", "ill")[index % 2]
        assert found.images.header(case) == cases.ImageHeader(5, 4 + index, 1, "uint8")


def test_reading_twice_gives_the_same_cases_in_the_same_order(prepared) -> None:
    assert read(prepared).cases == read(prepared).cases


def test_validation_is_carved_from_what_the_builder_calls_training(prepared) -> None:
    settings = config.Config().override({"data.source": f"tfds:{prepared}", "data.validation": 0.25})
    found = schemes.load(settings.data, seed=0)
    assert {name: sum(row.values()) for name, row in cases.counts(found.cases).items()} == {
        "train": 6,
        "validation": 2,
        "test": 4,
    }


def test_an_image_folder_of_tfds(tmp_path) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for value, label in ((40, "benign"), (200, "malignant")):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(count):
                array = np.full((6, 7, 3), value + index, np.uint8)
                Image.fromarray(array).save(tmp_path / split / label / f"{index}.png")
    found = read(tmp_path)
    assert found.classes == ("benign", "malignant")
    assert cases.counts(found.cases) == {
        "train": {"benign": 3, "malignant": 3},
        "test": {"benign": 1, "malignant": 1},
    }
    values = {(case.split, case.label, int(found.images.read(case, 3).max())) for case in found.cases}
    assert values == {
        *(("train", "benign", 40 + i) for i in range(3)),
        *(("train", "malignant", 200 + i) for i in range(3)),
        ("test", "benign", 40),
        ("test", "malignant", 200),
    }


def test_a_name_that_nobody_knows_ends_in_one_sentence() -> None:
    with pytest.raises(errors.DataError, match="prepared on disk or can be downloaded") as caught:
        read("no_such_set_of_images")
    assert "Received: 'no_such_set_of_images' (DatasetNotFoundError" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_neither_ends_in_one_sentence(tmp_path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    with pytest.raises(errors.DataError, match="^tfds: needs") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
