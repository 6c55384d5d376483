"""Optimizers and learning rates from the settings."""

from __future__ import annotations

import keras

from medkeras import config

WARM_UP = 0.05

# Keras matches these against names such as `conv/bias:0` and, on a second replica, `conv/bias/replica_1:0`.
_NOT_DECAYED = r"(^|/)(bias|gamma|beta)(/replica_\d+)?(:\d+)?$"


def make_optimizer(settings: config.TrainConfig, *, steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer; call it in the scope of the strategy, after the model is made.

    `clip_norm` becomes Keras's `global_clipnorm`; the training step sees to it that the norm is
    that of the gradient summed over all replicas, not of one replica's part. `weight_decay`
    belongs to `adamw` alone and leaves biases and the normalisation layers' gamma and beta alone.

    Args:
        settings: `optimizer`, `learning_rate`, `schedule`, `weight_decay` and `clip_norm` are read.
        steps: Optimizer steps of the whole training, at least 1.
    """
    rate = learning_rate(settings, steps=steps)
    clip = settings.clip_norm or None
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, global_clipnorm=clip)
    if settings.optimizer == "momentum":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, global_clipnorm=clip)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=clip)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, global_clipnorm=clip)
    optimizer.exclude_from_weight_decay(var_names=[_NOT_DECAYED])
    return optimizer


def learning_rate(
    settings: config.TrainConfig, *, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate: a number that callbacks may change, or a schedule that they may not.

    `cosine` rises linearly over the first 5% of the steps, from one part of the peak and never
    from zero, and falls to zero on the last step.

    Args:
        settings: `learning_rate` and `schedule` are read.
        steps: Optimizer steps of the whole training, at least 1.
    """
    peak = float(settings.learning_rate)
    if settings.schedule == "constant":
        return peak
    warm_up = round(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / (warm_up + 1) if warm_up else peak,
        decay_steps=max(1, steps - warm_up),
        warmup_target=peak if warm_up else None,
        warmup_steps=warm_up,
    )
