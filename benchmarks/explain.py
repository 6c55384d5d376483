"""Which heatmaps can be believed, and what do they cost?

Asks a model that was trained on the phantom about test images with a tumour whose mask is known, and prints of every
method: the share of the heat inside the lesion and how often the hottest place lies inside (right answers only);
the areas under the deletion and the insertion curve; the rank correlation of the heatmap with that of the same network
after all its weights were shuffled; how far integrated gradients miss the difference that they should sum to; and the
milliseconds of processor time an image, beside those of a plain prediction, the two in turn.

    python main.py --mode=train
    python benchmarks/explain.py --model=saved_models/phantom-resnet_small/1 [--images=48] [--rounds=3]
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from medkeras.data import phantom
from medkeras.explain import absence, integrated, methods, network, sanity
from medkeras.export import card
from medkeras.tasks import classification
from medkeras.workflows import export

AT_ONCE = 16
FEW = 16


def tumours(count: int) -> list[phantom.PhantomSlice]:
    """Returns the first test slices with a tumour."""
    found = (one for one in phantom.slices() if one.split == "test" and one.label != phantom.CLASSES[0])
    return [one for one, _ in zip(found, range(count), strict=False)]


def seconds(run: Callable[[tf.Tensor], object], images: np.ndarray) -> float:
    """Returns processor time: other work on the machine does not count."""
    start = time.process_time()
    run(tf.constant(images[:AT_ONCE]))
    return time.process_time() - start


def cost(explain: Callable, answer: Callable, images: np.ndarray, rounds: int) -> tuple[float, float]:
    """Returns milliseconds an image, and the ratio to a plain prediction, medians of turns."""
    seconds(answer, images), seconds(explain, images)
    turns = [(seconds(explain, images), seconds(answer, images)) for _ in range(rounds)]
    taken = 1000 * statistics.median(turn[0] for turn in turns) / len(images[:AT_ONCE])
    return taken, statistics.median(one / other for one, other in turns)


def missing(model: keras.Model, score: network.Score, images: np.ndarray) -> float:
    """Returns the mean error of the sum of attributions, as a share of the mean difference of the score."""
    cut = network.at_input(model)
    outputs, seen = cut.whole(tf.constant(images[:AT_ONCE]))
    chosen, start = network.direction(outputs, score), absence.blurred(seen)
    shares = tf.function(integrated.attributions)(cut.rest, seen, start, direction=chosen)
    difference = tf.reduce_sum(chosen * (cut.rest(seen) - cut.rest(start)), axis=-1)
    error = tf.abs(tf.reduce_sum(shares, axis=network.spatial(shares, channels=True)) - difference)
    return float(tf.reduce_mean(error) / tf.reduce_mean(tf.abs(difference)))


def measure(
    model: keras.Model, task: classification.Classification, drawn: list[phantom.PhantomSlice], *, rounds: int
) -> None:
    images = np.stack([one.stored() for one in drawn])[..., np.newaxis].astype(np.float32)
    masks = np.stack([one.mask > 0 for one in drawn])
    answer = tf.function(lambda batch: model(batch, training=False))
    called = answer(images)["probabilities"].numpy().argmax(1)
    right = np.array([task.classes[each] == one.label for each, one in zip(called, drawn, strict=True)])
    print(f"{len(drawn)} test images with a tumour, {right.sum()} answered right")
    for name, method in methods.METHODS.items():
        explain = tf.function(method(model, task.explained))
        _, heat = sanity.explained(explain, images)
        inside = sanity.inside(heat[right], masks[right])
        curves = sanity.curves(model, images, heat, seed=0)
        stages = sanity.randomised(model, images[:FEW], method=method, score=task.explained, seed=0)
        taken, ratio = cost(explain, answer, images, rounds)
        print(
            f"{name:21s} share {inside['share']:.3f} (chance {inside['chance']:.3f}) hits {inside['hits']:.2f} "
            f"deletion {curves['deletion_area']:.3f} insertion {curves['insertion_area']:.3f} "
            f"shuffled {' '.join(format(stage['correlation'], '.2f') for stage in stages)} "
            f"{taken:.2f} ms, {ratio:.1f} predictions",
            flush=True,
        )
    areas = curves["random_deletion_area"], curves["random_insertion_area"]
    print(f"random patches: deletion {areas[0]:.3f} insertion {areas[1]:.3f}")
    print(
        f"integrated gradients, {integrated.STEPS} steps, miss {missing(model, task.explained, images):.2%} of the sum"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = network.answering(export.load_keras(options.model / "model.keras"))
    task = classification.from_description(card.read(options.model).task)
    measure(model, task, tumours(options.images), rounds=options.rounds)


if __name__ == "__main__":
    main()
