import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from medkeras import errors
from medkeras.training import loop


def sgd(rate=0.1):
    return keras.optimizers.SGD(rate)


def as_dataset(batches):
    return tf.data.Dataset.from_tensor_slices({key: np.stack([b[key] for b in batches]) for key in batches[0]})


def forward(model, batch):
    """Returns the logits, the loss and its gradient for the kernel and the bias, in NumPy, float64."""
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    image = batch["image"].reshape(len(batch["image"]), -1).astype(np.float64)
    logits = image @ kernel + bias
    share = batch["weight"] / batch["weight"].sum()
    loss = -(share[:, None] * batch["target"] * scipy.special.log_softmax(logits, axis=1)).sum()
    slope = share[:, None] * (scipy.special.softmax(logits, axis=1) - batch["target"])
    return logits, loss, (image.T @ slope, slope.sum(axis=0))


def test_one_step_is_the_closed_form(model, task, make_batches):
    (batch,) = make_batches(1)
    _, loss, gradient = forward(model, batch)
    expected = [weight - 0.1 * part for weight, part in zip(model.get_weights(), gradient, strict=True)]
    history = loop.fit(model, loop.Plan([batch], 1, 1), task=task, optimizer=sgd()).history
    assert history["loss"] == [pytest.approx(loss, rel=1e-5)]
    for actual, weight in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, weight, atol=1e-6)


def test_a_penalty_is_learned_from_and_reported_once(make_model, task, make_batches):
    batches = make_batches(2)
    model = make_model(penalty=0.5)
    kernel = model.get_weights()[0]
    _, loss, (slope, _) = forward(model, batches[0])
    plan = loop.Plan(batches[:1], 1, 1, validation=batches)
    history = loop.fit(model, plan, task=task, optimizer=sgd()).history
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * (slope + kernel), atol=1e-6)
    assert history["loss"] == [pytest.approx(loss + 0.5 * (kernel**2).sum(), rel=1e-5)]
    everything = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    penalty = 0.5 * (model.get_weights()[0] ** 2).sum()
    assert history["val_loss"] == [pytest.approx(forward(model, everything)[1] + penalty, rel=1e-5)]


def test_padding_changes_neither_the_weights_nor_the_numbers(make_model, task, make_batches):
    whole = make_batches(2, padded=3)
    cut = [{key: value[batch["weight"] > 0] for key, value in batch.items()} for batch in whole]
    runs = []
    for batches in (whole, cut):
        model = make_model()
        plan = loop.Plan(batches, 2, 2, validation=batches)
        history = loop.fit(model, plan, task=task, optimizer=sgd()).history
        runs.append((model.get_weights(), history))
    for padded, plain in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_allclose(padded, plain, atol=1e-6)
    for name, values in runs[0][1].items():
        np.testing.assert_allclose(values, runs[1][1][name], rtol=1e-5, err_msg=name)


def test_what_padding_shows_does_not_matter(make_model, task, make_batches):
    weights = []
    for noise in (0, 1000):
        model, (batch,) = make_model(), make_batches(1)
        batch["image"][batch["weight"] == 0] += noise
        loop.fit(model, loop.Plan([batch], 1, 1), task=task, optimizer=sgd())
        weights.append(np.concatenate([weight.ravel() for weight in model.get_weights()]))
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-7)


def test_validation_numbers_are_those_of_the_whole_split_at_the_epochs_end(model, task, batches, make_batches):
    validation = make_batches(3, seed=4)
    plan = loop.Plan(batches, 3, 2, validation=as_dataset(validation))
    history = loop.fit(model, plan, task=task, optimizer=sgd()).history
    everything = {key: np.concatenate([batch[key] for batch in validation]) for key in validation[0]}
    logits, loss, _ = forward(model, everything)
    right = (logits.argmax(axis=1) == everything["target"].argmax(axis=1))[everything["weight"] > 0]
    assert len(right) == 21
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert history["val_accuracy"][-1] == pytest.approx(right.mean(), rel=1e-6)
    assert history["learning_rate"] == [pytest.approx(0.1)] * 2


def test_a_dataset_an_endless_dataset_and_a_list_teach_the_same(make_model, task, batches):
    forms = (batches, as_dataset(batches), as_dataset(batches).repeat())
    runs = []
    for form in forms:
        model = make_model()
        history = loop.fit(model, loop.Plan(form, 2, 3), task=task, optimizer=sgd()).history
        runs.append((np.concatenate([weight.ravel() for weight in model.get_weights()]), history["loss"]))
    for weights, numbers in runs[1:]:
        np.testing.assert_array_equal(weights, runs[0][0])
        assert numbers == runs[0][1]


def test_augmentation_sees_epoch_and_index_and_spares_validation(model, task, batches):
    seen = []

    def augment(image, target, epoch, index):
        tf.numpy_function(lambda *values: seen.append([value.tolist() for value in values]), [epoch, index], [])
        return image * 0.0, target

    plan = loop.Plan(batches, 3, 4, validation=batches, initial_epoch=2, augment=augment)
    before = model.get_weights()[0]
    history = loop.fit(model, plan, task=task, optimizer=sgd())
    order = [[epoch, batch["index"].tolist()] for epoch in (2, 3) for batch in batches]
    assert seen == order
    assert history.epoch == [2, 3]
    np.testing.assert_array_equal(model.get_weights()[0], before)
    assert history.history["loss"][0] != history.history["val_loss"][0]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_learns(make_model, task, batches, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = make_model(hidden=[keras.layers.Dense(8)])
    finally:
        keras.config.set_dtype_policy(before)
    loss = loop.fit(model, loop.Plan(batches, 3, 4), task=task, optimizer=sgd(0.02)).history["loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.8 * loss[0]


def test_a_model_is_trained_twice_with_other_trainable_parts(make_model, task, batches):
    hidden = keras.layers.Dense(4)
    model = make_model(hidden=[hidden])
    for trainable in (False, True):
        hidden.trainable = trainable
        before = hidden.kernel.numpy()
        loop.fit(model, loop.Plan(batches, 3, 1), task=task, optimizer=keras.optimizers.Adam(0.1))
        assert (np.abs(hidden.kernel.numpy() - before).max() > 0.01) == trainable


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_number_images_are_cast(make_model, task, batches, dtype):
    whole = [{**batch, "image": (batch["image"] * 10 + 100).clip(0, 255).astype(dtype)} for batch in batches]
    floating = [{**batch, "image": batch["image"].astype(np.float32)} for batch in whole]
    kernels = []
    for form in (whole, floating):
        model = make_model()
        loop.fit(model, loop.Plan(form, 3, 1), task=task, optimizer=sgd(1e-4))
        kernels.append(model.get_weights()[0])
    np.testing.assert_array_equal(kernels[0], kernels[1])


@pytest.mark.parametrize(("bad", "epoch", "step"), [(1, 1, 2), (37, 1, 38), (45, 2, 6)])
def test_a_loss_that_is_not_finite_stops_with_a_sentence(model, task, make_batches, bad, epoch, step):
    batches = make_batches(50, padded=0)
    batches[bad]["image"][0, 0, 0, 0] = np.inf
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda number, logs: seen.append(number))
    with pytest.raises(errors.DivergedError, match=f"nan in epoch {epoch}, step {step}, at learning rate 0.1"):
        loop.fit(model, loop.Plan(batches, 40, 3), task=task, optimizer=sgd(), callbacks=[watch])
    assert len(seen) - bad <= loop.FINITE_CHECK_STEPS


def test_one_shot_batches_that_end_too_early_are_an_error(model, task, batches):
    with pytest.raises(errors.DataError, match="batches"):
        loop.fit(model, loop.Plan(iter(batches), 2, 2), task=task, optimizer=sgd())


def test_an_epoch_has_steps(batches):
    with pytest.raises(errors.ConfigError, match="at least one step"):
        loop.Plan(batches, 0, 1)
