"""What the page says of a file, by a model that was really trained and exported."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import pathlib
import re

import nibabel
import numpy as np
import pytest
from PIL import Image

from medkeras import errors
from medkeras.export import saved_model
from medkeras.serving import servable, status
from medkeras.workflows import answering


class One:
    """A registry of one model, or of a folder that is not ours."""

    def __init__(self, folder: pathlib.Path | None, served: saved_model.Served | None) -> None:
        self.folder, self.served = folder, served
        self.signatures = {} if served is None else {saved_model.EXPLAIN: None}

    def names(self):
        return ["scans"]

    @contextlib.contextmanager
    def lease(self, name, *, version=None, label=None):
        if name != "scans":
            raise status.StatusError(status.Code.NOT_FOUND, f"Servable not found for request: Latest({name})")
        yield servable.Lease(name, 1, self, self.folder)

    def run(self, signature, feeds, outputs, *, timeout=None):
        assert signature == saved_model.EXPLAIN
        answered = self.served.explain(feeds["image"])
        return {each: answered[each] for each in outputs}


@pytest.fixture(scope="module")
def served(trained):
    return saved_model.Served(trained.published.folder)


@pytest.fixture(scope="module")
def answers(trained, served):
    return answering.Answers(One(trained.published.folder, served))


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


def test_the_answer_is_the_exported_model_s(answers, served, draw) -> None:
    image = draw(1, "up")
    told = answers.answer("scans", png(image))
    direct = {name: value[0] for name, value in served.explain(image[None, ..., None]).items()}
    assert [each["name"] for each in told["probabilities"]] == ["down", "up"]
    np.testing.assert_allclose([each["value"] for each in told["probabilities"]], direct["probabilities"], atol=1e-6)
    assert told["called"] == [("down", "up")[direct["probabilities"].argmax()]]
    assert told["refused"] == bool(direct["abstain"])
    np.testing.assert_array_equal(pixels(told["image"]), image)
    layer = pixels(told["heatmap"])
    assert layer.shape == (*image.shape, 4)
    np.testing.assert_allclose(layer[..., 3], 255 * direct["heatmap"][..., 0], atol=1)


def test_a_volume_is_answered_for_slice_by_slice(answers, draw) -> None:
    slices = np.stack([draw(number, "up") for number in range(5)], axis=-1)
    volume = nibabel.Nifti1Image(slices, np.eye(4)).to_bytes()
    for content in (volume, gzip.compress(volume)):
        middle = answers.answer("scans", content)
        assert (middle["frame"], middle["frames"]) == (2, 5)
        last = answers.answer("scans", content, 99)
        assert last["frame"] == 4
        assert last["image"] != middle["image"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"patient: Doe^Jane", "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
        (bytes(128) + b"DICM" + bytes(10), ""),
    ],
)
def test_what_is_no_image_gets_a_reason_without_a_path(answers, content, reason) -> None:
    with pytest.raises(errors.RefusalError) as caught:
        answers.answer("scans", content)
    assert reason in str(caught.value)
    assert "medkeras-" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_values_of_another_kind_are_refused(answers) -> None:
    with pytest.raises(errors.RefusalError, match="uint8"):
        answers.answer("scans", png(np.full((12, 10), 4000, np.uint16)))


def test_the_file_is_not_kept(answers, draw, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answers.answer("scans", png(draw(2, "down")))
    with pytest.raises(errors.RefusalError):
        answers.answer("scans", b"nothing")
    assert list(tmp_path.iterdir()) == []


def test_models_tell_their_card_and_no_path(answers, trained) -> None:
    (model,) = answers.models()
    assert model["classes"] == ["down", "up"]
    assert model["counts"]["test"] == {"down": 4, "up": 4}
    assert model["metrics"]["accuracy"] == trained.published.metrics["metrics"]["accuracy"]
    assert str(trained.root) not in str(model)
    assert "folder:" not in str(model)


def test_models_that_are_not_ours_are_not_listed_and_not_asked(tmp_path, served) -> None:
    for registry in (One(None, None), One(tmp_path, served)):
        assert answering.Answers(registry).models() == []
    with pytest.raises(errors.RefusalError, match="medkeras exported"):
        answering.Answers(One(None, None)).answer("scans", b"x")


@pytest.mark.parametrize(
    ("rules", "outputs", "words"),
    [
        ({"familiarity": 0.02, "confidence": 0.0}, {"familiarity": 0.001}, "unlike those it was trained on"),
        ({"familiarity": 0.02, "confidence": 0.8}, {"familiarity": 0.5}, "not sure enough .it answers from.* 0.80"),
    ],
)
def test_a_refusal_names_its_reason(rules, outputs, words) -> None:
    assert re.search(words, answering._refusal(rules, outputs))
