import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras import config
from medkeras.training import optimizers


def settings(**changes):
    return config.TrainConfig(**{"schedule": "constant", "clip_norm": 0.0, "learning_rate": 0.5, **changes})


def rates(steps, **changes):
    schedule = optimizers.learning_rate(settings(schedule="cosine", **changes), steps=steps)
    return np.array([float(schedule(step)) for step in range(steps + 1)])


def test_cosine_rises_over_five_percent_and_falls_to_zero():
    rate = rates(200)
    np.testing.assert_allclose(rate[:11], 0.5 * np.arange(1, 12) / 11, rtol=1e-5)
    expected = 0.25 * (1 + np.cos(np.pi * np.arange(191) / 190))
    np.testing.assert_allclose(rate[10:], expected, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_short_cosine_has_no_warm_up_and_no_lost_step(steps):
    rate = rates(steps)
    assert rate[0] == pytest.approx(0.5)
    assert (rate[:-1] > 0).all()
    assert rate[-1] == pytest.approx(0, abs=1e-7)


def test_a_constant_rate_can_be_changed():
    optimizer = optimizers.make_optimizer(settings(), steps=10)
    optimizer.learning_rate = 0.125
    assert float(optimizer.learning_rate) == 0.125


def one_update(gradients, **changes):
    """Returns what two variables of ones become after the gradients were applied."""
    variables = [keras.Variable(np.ones(2, np.float32)), keras.Variable(np.ones(1, np.float32))]
    optimizer = optimizers.make_optimizer(settings(**changes), steps=10)
    for gradient in gradients:
        optimizer.apply([tf.constant(part) for part in gradient], variables)
    return np.concatenate([variable.numpy() for variable in variables])


def test_sgd_is_one_step_down_the_gradient():
    actual = one_update([([1.0, -2.0], [4.0])], optimizer="sgd")
    np.testing.assert_allclose(actual, [0.5, 2.0, -1.0])


def test_momentum_is_nesterovs():
    actual = one_update([([1.0, 0.0], [0.0])] * 2, optimizer="momentum")
    velocity = [-0.5, 0.9 * -0.5 - 0.5]
    expected = 1 + sum(0.9 * speed - 0.5 for speed in velocity)
    np.testing.assert_allclose(actual, [expected, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_begins_with_steps_of_the_learning_rate(name):
    actual = one_update([([1.0, -2.0], [0.1])], optimizer=name, weight_decay=0.0)
    np.testing.assert_allclose(actual, [0.5, 1.5, 0.5], rtol=1e-4)


@pytest.mark.parametrize(("limit", "scale"), [(2.5, 0.5), (5.0, 1.0), (100.0, 1.0), (0.0, 1.0)])
def test_clipping_is_by_the_norm_of_all_gradients_together(limit, scale):
    actual = one_update([([3.0, 0.0], [4.0])], optimizer="sgd", clip_norm=limit)
    np.testing.assert_allclose(actual, 1 - 0.5 * scale * np.array([3.0, 0.0, 4.0]), rtol=1e-6)


def test_weight_decay_spares_biases_and_normalisation():
    layers = [keras.layers.Dense(2, name="gamma_correction"), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((3,)), *layers])
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer = optimizers.make_optimizer(settings(optimizer="adamw", weight_decay=0.1), steps=10)
    optimizer.apply([tf.zeros(variable.shape) for variable in model.trainable_variables], model.trainable_variables)
    decay = {variable.name: 0.95 if variable.name == "kernel" else 1 for variable in model.trainable_variables}
    assert len(decay) == 4
    for old, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), old * decay[variable.name], rtol=1e-6)


def test_every_optimizer_can_be_read_back_from_its_settings():
    for name in ("sgd", "momentum", "adam", "adamw"):
        optimizer = optimizers.make_optimizer(settings(optimizer=name, schedule="cosine", clip_norm=2.0), steps=40)
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.get_config() == optimizer.get_config()
        assert again.global_clipnorm == 2.0
