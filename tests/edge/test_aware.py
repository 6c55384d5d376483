"""Simulated int8, the layers that lose most in it, and the fine-tuning that makes them lose less."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter

from medkeras import errors, models
from medkeras.edge import aware, equalised, sensitive, simulated

# Keras saves arrays in the way of NumPy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLANTED, TAKER = "first_conv", "second_conv"
SIDE = 12


def network(ratio: float = 1.0, *, ceiling: float | None = None) -> keras.Model:
    """A tiny network, one channel of whose first tensor is `ratio` times larger than it would be, to no effect."""
    initializers = [keras.initializers.GlorotUniform(seed=seed) for seed in range(3)]
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = keras.layers.Rescaling(1 / 255.0, name="scale")(image)
    x = keras.layers.Conv2D(8, 3, use_bias=False, kernel_initializer=initializers[0], name=PLANTED)(x)
    x = keras.layers.BatchNormalization(name="first_bn")(x)
    x = keras.layers.ReLU(max_value=ceiling, name="first_act")(x)
    x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=initializers[1], name=TAKER)(x)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=initializers[2], name="third_conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    large = keras.initializers.RandomNormal(stddev=8.0, seed=3)
    logits = keras.layers.Dense(3, kernel_initializer=large, name="logits")(x)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    model = keras.Model(image, {"logits": logits, "probabilities": probabilities})
    plant(model, ratio)
    return model


def plant(model: keras.Model, ratio: float) -> None:
    factors = np.where(np.arange(8) == 2, ratio, 1.0).astype(np.float32)
    norm, taker = model.get_layer("first_bn"), model.get_layer(TAKER)
    norm.gamma.assign(norm.gamma * factors)
    norm.beta.assign(norm.beta * factors)
    taker.kernel.assign(taker.kernel / factors[:, None])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Pictures whose brightness and contrast tell them apart, `[32, 12, 12, 1]`."""
    random = np.random.default_rng(0)
    pictures = random.uniform(0, 255, (32, SIDE, SIDE, 1)) * random.uniform(0.2, 1, (32, 1, 1, 1))
    pictures[:, :6] *= random.uniform(0.2, 1, (32, 1, 1, 1))
    return pictures.astype(np.float32)


def batches(images: np.ndarray, target: np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(images), 8):
        batch = {"image": images[start : start + 8], "weight": np.ones(8, np.float32)}
        yield batch if target is None else {**batch, "target": target[start : start + 8]}


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return model(images)["logits"].numpy()


def converted(model: keras.Model, images: np.ndarray) -> interpreter.Interpreter:
    """An ordinary int8 conversion of the network up to its embedding."""
    body = keras.Model(model.input, model.get_layer("embedding").output)
    held = tf.Module()
    held.variables_held = [variable.value for variable in body.variables]
    held.call = tf.function(lambda image: body(image, training=False))
    concrete = held.call.get_concrete_function(tf.TensorSpec((1, SIDE, SIDE, 1), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], held)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    return interpreter.Interpreter(model_content=converter.convert(), num_threads=1)


def int8_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What LiteRT answers after the conversion."""
    runner = converted(model, images)
    runner.allocate_tensors()
    (given,), (answer,) = runner.get_input_details(), runner.get_output_details()
    found = []
    for image in images:
        runner.set_tensor(given["index"], image[None])
        runner.invoke()
        found.append(runner.get_tensor(answer["index"])[0])
    kernel, bias = model.get_layer("logits").get_weights()
    return np.stack(found) @ kernel + bias


def gap(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - exact) ** 2)) / exact.std())


def finetuned(model: keras.Model, images: np.ndarray, **options: object) -> keras.Model:
    settings = {"epochs": 3, "learning_rate": 1e-3, "seed": 1, "say": lambda _: None, **options}
    return aware.finetune(model, lambda: batches(images), representative=images, **settings)


# Rounding.


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_kernel_is_rounded_to_255_steps_an_output_channel(depthwise) -> None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 5)).astype(np.float32)
    scale = np.abs(kernel).max(axis=(0, 1) if depthwise else (0, 1, 2)) / 127
    rounded = simulated.rounded_kernel(tf.constant(kernel), depthwise=depthwise).numpy()
    np.testing.assert_allclose(rounded, np.round(kernel / scale) * scale, atol=1e-5)
    assert np.abs(np.round(kernel / scale)).max() == 127


def test_the_gradient_passes_the_rounding_of_a_kernel() -> None:
    kernel = tf.Variable(np.random.default_rng(2).normal(size=(3, 3, 2, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(simulated.rounded_kernel(kernel, depthwise=False))
    np.testing.assert_array_equal(tape.gradient(total, kernel).numpy(), 1.0)


def test_a_tensor_is_rounded_between_its_extremes_with_an_exact_zero() -> None:
    layer = simulated.RoundedTensor()
    layer.remember(1.0, 5.1)
    layer.on.assign(1.0)
    values = tf.Variable([-1.0, 0.0, 0.011, 2.5, 5.1, 7.0])
    with tf.GradientTape() as tape:
        rounded = layer(values)
    np.testing.assert_allclose(rounded.numpy(), [0.0, 0.0, 0.02, 2.5, 5.1, 5.1], atol=1e-5)
    assert tape.gradient(rounded, values).numpy().tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_without_rounding_the_network_is_itself_and_with_it_nearly(images) -> None:
    model = network()
    exact, found = logits(model, images), simulated.simulate(model)
    found.calibrate(images)
    assert 0.0 < gap(found.logits(images).numpy(), exact) < 0.03
    found.switch(())
    np.testing.assert_allclose(found.logits(images).numpy(), exact, rtol=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 100.0])
def test_simulated_int8_errs_as_litert_does(images, ratio) -> None:
    model = network(ratio)
    exact, real = logits(model, images), int8_logits(model, images)
    found = simulated.simulate(model)
    found.calibrate(images)
    assert gap(found.logits(images).numpy(), exact) == pytest.approx(gap(real, exact), rel=0.5)
    assert gap(found.logits(images).numpy(), real) < 0.02


def test_tensors_and_kernels_have_the_scales_that_the_converter_gives_them(images) -> None:
    model = network()
    found = simulated.simulate(model)
    found.calibrate(images)
    details = converted(model, images).get_tensor_details()
    scales = [detail["quantization_parameters"]["scales"] for detail in details if detail["dtype"] == np.int8]
    steps = [float(point.rounding.high - point.rounding.low) / 255 for point in found.points if point.owner]
    image_last = sorted({float(each[0]) for each in scales if len(each) == 1})
    np.testing.assert_allclose(image_last[:-1], sorted(steps), rtol=1e-5)
    norm, kernel = model.get_layer("first_bn"), model.get_layer(PLANTED).kernel.numpy()
    folded = kernel * (norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon))
    # The converter folds the division by 255 before the convolution into it as well.
    largest = np.abs(folded).max((0, 1, 2)) / 127 / 255
    assert any(len(each) == 8 and np.allclose(each, largest, rtol=1e-5, atol=0) for each in scales)


def test_normalisation_and_relu_belong_to_the_layer_before(images) -> None:
    def head(embedding: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        return {"logits": keras.layers.Dense(2, name="logits")(embedding)}

    model = models.build_model("resnet_small", image_shape=(16, 16, 1), preprocessing=(), head=head, weights="none")
    found = simulated.simulate(model.model)
    points = {point.owner: point for point in found.points}
    assert [layer.name for layer in points["stem_conv"].made_by] == ["stem_conv", "stem_bn", "stem_act"]
    assert [layer.name for layer in points["block1a_add"].made_by] == ["block1a_add", "block1a_act"]
    assert points["stem_conv"].users == {"block1a_1_conv", "block1a_add"}
    assert points["block4b_add"].users == {"embedding"}
    assert points["embedding"].users == set()
    assert "logits" not in found.names


@pytest.mark.parametrize("answer", ["probabilities", "logits"])
def test_only_a_network_with_embedding_and_logits_is_simulated(answer) -> None:
    image = keras.Input((4,))
    model = keras.Model(image, {answer: keras.layers.Dense(2, name=answer)(image)})
    with pytest.raises(errors.ModelError, match="Received: "):
        simulated.simulate(model)


# Which layers lose most.


def test_the_planted_fault_is_held_against_who_gives_and_who_takes_the_tensor(images) -> None:
    model = network(1000.0)
    ranked = sensitive.rank(model, images)
    assert {name for name, _ in ranked} == {PLANTED, TAKER, "third_conv", "embedding"}
    assert {name for name, _ in ranked[:2]} == {PLANTED, TAKER}
    assert ranked[1][1] > 50 * ranked[2][1]
    assert [error for _, error in ranked] == sorted((error for _, error in ranked), reverse=True)


def test_a_sound_network_has_no_such_layer_and_can_be_saved_after(images, tmp_path) -> None:
    model = network()
    assert sensitive.rank(model, images)[0][1] < 0.003
    model.save(tmp_path / "model.keras")


# Channels of like ranges.


@pytest.mark.parametrize("name", ["normalised", "cnn"])
def test_channels_are_brought_to_like_ranges_to_no_effect_in_float(images, name) -> None:
    if name == "cnn":
        model = models.build_model(
            "cnn",
            image_shape=(SIDE, SIDE, 1),
            preprocessing=(),
            head=lambda embedding: {"logits": keras.layers.Dense(2, name="logits")(embedding)},
            weights="none",
        ).model
    else:
        model = network(1000.0)
    exact, found = logits(model, images), simulated.simulate(model)
    before = [weight.copy() for weight in model.get_weights()]
    assert equalised.equalise(found, images) == {"normalised": 2, "cnn": 4}[name]
    assert any(np.abs(old - new).max() > 0 for old, new in zip(before, model.get_weights(), strict=True))
    np.testing.assert_allclose(logits(model, images), exact, rtol=1e-3, atol=1e-3)


def test_the_large_channel_becomes_like_the_others(images) -> None:
    found = simulated.simulate(network(1000.0))
    spread = []
    for _ in range(2):
        ranges = [high for _, high in found.extremes(images)]
        point = [point.owner for point in found.points].index(PLANTED)
        spread.append(ranges[point].max() / np.median(ranges[point]))
        equalised.equalise(found, images)
    assert spread[0] > 200
    assert spread[1] < 3


def test_a_tensor_under_a_ceiling_is_left_alone(images) -> None:
    found = simulated.simulate(network(ceiling=6.0))
    assert equalised.equalise(found, images) == 1
    assert PLANTED not in {point.owner for point in found.points if equalised._scales(point.made_by)}


# Fine-tuning.


def test_int8_of_the_finetuned_network_is_near_float_where_plain_int8_is_not(images) -> None:
    model = network(1000.0)
    exact = logits(model, images)
    tuned = finetuned(model, images, learning_rate=1e-4)
    assert gap(int8_logits(model, images), exact) > 0.4
    assert gap(int8_logits(tuned, images), exact) < 0.03
    np.testing.assert_array_equal(logits(model, images), exact)


@pytest.fixture(name="unequal")
def unequal_fixture(monkeypatch) -> None:
    """What is gained is learnt: channels keep their ranges."""
    monkeypatch.setattr(equalised, "equalise", lambda *_: 0)


def test_what_learns_is_the_network_too(images, unequal) -> None:
    model = network(1000.0)
    exact = logits(model, images)
    tuned = aware.finetune(
        model,
        lambda: (batch for _ in range(16) for batch in batches(images)),
        representative=images,
        epochs=2,
        learning_rate=3e-4,
        seed=1,
        say=lambda _: None,
    )
    assert gap(int8_logits(tuned, images), exact) < 0.6 * gap(int8_logits(model, images), exact)


def test_the_same_seed_gives_the_same_weights_and_another_order_others(images, unequal) -> None:
    model = network(1000.0)

    def shuffled() -> Iterator[dict[str, np.ndarray]]:
        return (batch for _ in range(16) for batch in batches(images[np.random.permutation(len(images))[:16]]))

    def tune(seed: int) -> list[np.ndarray]:
        told = {"representative": images[:8], "epochs": 1, "learning_rate": 3e-4, "say": lambda _: None}
        return aware.finetune(model, shuffled, seed=seed, **told).get_weights()

    first, again, other = tune(1), tune(1), tune(2)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_answer_is_a_plain_model_of_the_same_layers_with_frozen_statistics(images, tmp_path) -> None:
    model = network(30.0)
    tuned = finetuned(model, images)
    assert [type(layer) for layer in tuned.layers] == [type(layer) for layer in model.layers]
    assert [layer.name for layer in tuned.layers] == [layer.name for layer in model.layers]
    assert not np.array_equal(tuned.get_layer(TAKER).kernel, model.get_layer(TAKER).kernel)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_array_equal(*(getattr(each.get_layer("first_bn"), name).numpy() for each in (tuned, model)))
    tuned.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(logits(loaded, images), logits(tuned, images))


def test_an_epoch_that_leads_away_is_undone(images) -> None:
    model, said = network(), []
    tuned = finetuned(model, images, learning_rate=10.0, epochs=1, say=said.append)
    assert len(said) == 3
    assert gap(logits(tuned, images), logits(model, images)) < 1e-4


@pytest.fixture(name="learn")
def learn_fixture(images, monkeypatch):
    """Fine-tunes by labels almost alone, without rounding; the last weights are kept."""
    distances = iter(1.0 / (1 + step) for step in range(9))
    monkeypatch.setattr(aware, "LABELS_SHARE", 1e4)
    monkeypatch.setattr(aware._Lesson, "_distance", lambda _: next(distances))
    monkeypatch.setattr(equalised, "equalise", lambda *_: 0)

    def learn(model: keras.Model, target: list[float]) -> keras.Model:
        rows = np.tile(np.float32(target), (len(images), 1))
        settings = {"epochs": 1, "learning_rate": 1e-2, "seed": 0, "say": lambda _: None}
        return aware.finetune(model, lambda: batches(images, rows), representative=images, **settings)

    return learn


def test_labels_of_exclusive_classes_draw_the_probabilities(images, learn) -> None:
    model = network()
    before, after = (each(images)["probabilities"][:, 1].numpy().mean() for each in (model, learn(model, [0, 1, 0])))
    assert after > before + 0.2


def test_a_case_without_a_label_is_learnt_from_the_float_model_alone(images, learn) -> None:
    model = network()
    np.testing.assert_allclose(logits(learn(model, [0, 0, 0]), images), logits(model, images), atol=1e-3)


def test_classes_that_do_not_exclude_each_other_are_learnt_one_by_one(images, learn) -> None:
    model = network()
    probabilities = keras.layers.Activation("sigmoid", name="answer")(model.output["logits"])
    model = keras.Model(model.input, {"logits": model.output["logits"], "probabilities": probabilities})
    before, after = (each(images)["probabilities"].numpy().mean() for each in (model, learn(model, [0, 0, 0])))
    assert after < before - 0.1


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
def test_settings_out_of_range_are_refused(images, wrong) -> None:
    with pytest.raises(errors.ConfigError, match="Received: "):
        finetuned(network(), images, **wrong)
