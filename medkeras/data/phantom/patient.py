"""A simulated patient: everything that is drawn once and shared by the patient's slices."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from medkeras.data.phantom import survival

CLASSES = ("none", "infiltrating", "extra_axial", "sellar")
WEIGHTINGS = ("t1_post", "t2", "flair")
HEIGHT_MM = 140.0
"""Distance from level 0 (below the orbits) to level 1 (the vertex)."""

LOW_LEVEL = 0.36
"""Below this level a slice shows the skull base, orbits and posterior fossa."""

_WEIGHTING_SHARES = (0.8, 0.1, 0.1)
_GRADE_SHARES = {
    "none": (1.0, 0.0, 0.0, 0.0),
    "infiltrating": (0.0, 0.25, 0.35, 0.4),
    "extra_axial": (0.0, 0.45, 0.35, 0.2),
    "sellar": (0.0, 0.45, 0.35, 0.2),
}
_MEAN_AGE = {"none": 48.0, "infiltrating": 56.0, "extra_axial": 60.0, "sellar": 46.0}
_RADIUS_MM = {0: (9.0, 21.0), 1: (10.0, 14.0), 2: (12.0, 17.5), 3: (14.5, 21.5)}
_CONSPICUITY = {0: (0.0, 0.0), 1: (0.75, 1.05), 2: (0.85, 1.1), 3: (0.85, 1.15)}
_SELLAR_SHRINK = 0.62
_FALCINE_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The head. Lengths in mm, angles in radians."""

    half_width: float
    half_length: float
    squareness: float
    rotation: float
    shift: tuple[float, float]
    scalp: float
    skull: float
    atrophy: float
    ventricles: tuple[float, float]
    sulcus_depths: np.ndarray
    sulcus_phase: float
    bend: np.ndarray
    folds: np.ndarray
    gyri: np.ndarray
    texture: np.ndarray


@dataclasses.dataclass(frozen=True)
class Lesion:
    """The tumour; for a patient without one, the level that is imaged and nothing else.

    Attributes:
        level: Height of the centre, 0..1.
        centre: Position in the head's frame in mm (right of the image, down the image).
        radius: Mean radius of the core in mm.
        stretch: Ratio of the core's axes, and its angle in radians.
        conspicuity: How far the core's signal leaves that of white matter, 0..1.
        oedema: Width of the oedema in mm.
        necrosis: Share of the core that does not enhance, 0..1.
        push: Strength of the mass effect, 0..1.
        ragged: B-spline coefficients of the irregular outline.
    """

    level: float
    centre: tuple[float, float]
    radius: float
    stretch: tuple[float, float]
    conspicuity: float
    oedema: float
    necrosis: float
    push: float
    ragged: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scan:
    """The scanner: weighting, field of view in mm, and what it does to the signal."""

    weighting: str
    field_of_view: float
    contrast_jitter: np.ndarray
    gain: float
    noise: float
    blur: float
    bias: np.ndarray
    bias_strength: float


@dataclasses.dataclass(frozen=True)
class Confounders:
    """Harmless findings, as frequent with a tumour as without.

    Attributes:
        vessels: x and y in shares of the brain's length, radius in mm.
        scar: The same of an old infarct; radius 0 where there is none.
        scar_level: Height of the infarct above the imaged level, in shares of the head.
        spots: The age spots of the white matter, as the vessels.
        choroid: Radii in mm of the plexus at the left and the right of the image.
        calcified: Whether the plexus is dark.
    """

    vessels: tuple[tuple[float, float, float], ...]
    scar: tuple[float, float, float]
    scar_level: float
    spots: tuple[tuple[float, float, float], ...]
    choroid: tuple[float, float]
    calcified: bool


@dataclasses.dataclass(frozen=True)
class Patient:
    """All that is known of one patient; a pure function of the seed and the index."""

    seed: int
    index: int
    label: str
    split: str
    grade: int
    treatment: int
    age: float
    sex: str
    time: float
    event: int
    anatomy: Anatomy
    lesion: Lesion
    scan: Scan
    confounders: Confounders


def draw(seed: int, index: int) -> Patient:
    """Returns the patient of an index, whoever else is drawn.

    Args:
        seed: Root of every random number, 0 or more.
        index: Number of the patient, 0 or more.
    """
    rng = np.random.default_rng([seed, index, 0])
    label = _label(seed, index)
    grade = int(rng.choice(4, p=_GRADE_SHARES[label]))
    age = round(float(np.clip(rng.normal(_MEAN_AGE[label], 14.0), 18.0, 90.0)), 1)
    treatment = int(rng.random() < 0.5 and grade > 0)
    time, event = survival.draw(rng, grade=grade, age=age, treatment=treatment)
    anatomy = _anatomy(rng, age)
    return Patient(
        seed=seed,
        index=index,
        label=label,
        split=_split(seed, index),
        grade=grade,
        treatment=treatment,
        age=age,
        sex="F" if rng.random() < 0.5 else "M",
        time=round(time, 2),
        event=event,
        anatomy=anatomy,
        lesion=_lesion(rng, label, grade, anatomy),
        scan=_scan(rng, anatomy),
        confounders=_confounders(rng, age),
    )


def _label(seed: int, index: int) -> str:
    """Returns the class: each block of four patients holds each class once, in a drawn order."""
    block, place = divmod(index, len(CLASSES))
    return CLASSES[np.random.default_rng([seed, block, 1]).permutation(len(CLASSES))[place]]


def _split(seed: int, index: int) -> str:
    """Returns the split: of each class, 16 of 25 patients train, 4 validate and 5 test.

    A patient's rank in its class is the number of its block of four. Ranks are dealt in fives; the first five are
    fixed, so that three patients of a class are enough for three splits, and each later five is shuffled.
    """
    rank = index // len(CLASSES)
    five, place = divmod(rank, 5)
    hand = ["train", "test", "train" if five % 5 == 4 else "validation", "train", "train"]
    if five:
        key = [seed, five, CLASSES.index(_label(seed, index)), 2]
        place = int(np.random.default_rng(key).permutation(5)[place])
    return hand[place]


def _anatomy(rng: np.random.Generator, age: float) -> Anatomy:
    half_length = rng.uniform(84.0, 97.0)
    size = rng.uniform(0.6, 1.25) + 0.012 * max(age - 40.0, 0.0)
    lean = rng.normal(0.0, 0.16)
    return Anatomy(
        half_width=half_length * rng.uniform(0.74, 0.84),
        half_length=half_length,
        squareness=rng.uniform(2.05, 2.45),
        rotation=rng.normal(0.0, 0.08),
        shift=(rng.normal(0.0, 4.0), rng.normal(0.0, 4.0)),
        scalp=rng.uniform(3.5, 7.0),
        skull=rng.uniform(5.0, 8.0),
        atrophy=rng.uniform(0.5, 1.1) + 0.012 * max(age - 45.0, 0.0),
        ventricles=(size * (1.0 + lean), size * (1.0 - lean)),
        sulcus_depths=rng.uniform(3.0, 24.0, int(rng.integers(26, 35))).astype(np.float32),
        sulcus_phase=rng.uniform(0.0, 1.0),
        bend=rng.standard_normal((2, 4, 7, 7)),
        folds=rng.standard_normal((2, 7, 10, 10)),
        gyri=rng.standard_normal((3, 12, 21, 21)),
        texture=rng.standard_normal((8, 26, 26)),
    )


def _lesion(rng: np.random.Generator, label: str, grade: int, anatomy: Anatomy) -> Lesion:
    radius = rng.uniform(*_RADIUS_MM[grade]) * (_SELLAR_SHRINK if label == "sellar" else 1.0)
    level = _level(rng, label)
    return Lesion(
        level=level,
        centre=_centre(rng, label, radius, level, anatomy),
        radius=radius,
        stretch=(rng.uniform(0.75, 1.3), rng.uniform(0.0, math.pi)),
        conspicuity=rng.uniform(*_CONSPICUITY[grade]),
        oedema=_oedema(rng, label, grade),
        necrosis=rng.uniform(0.0, 0.35) + 0.1 * grade if label == "infiltrating" else 0.0,
        push=rng.uniform(0.15, 0.45),
        ragged=rng.standard_normal((10, 22, 22)),
    )


def _level(rng: np.random.Generator, label: str) -> float:
    """Returns the imaged height; other classes than sellar are often low too, so that height tells little."""
    if label == "sellar" or rng.random() < 0.3:
        return rng.uniform(0.2, 0.33)
    return rng.uniform(0.38, 0.8)


def _oedema(rng: np.random.Generator, label: str, grade: int) -> float:
    width = {"infiltrating": (4.0, 8.0 + 3.0 * grade), "extra_axial": (-4.0, 3.0 * grade)}.get(label, (0.0, 0.0))
    return max(rng.uniform(*width), 0.0)


def head_scale(level: float) -> float:
    """Returns the size of the head's outline at a level against its largest."""
    if level < 0.38:
        return 1.0 - 0.25 * (0.38 - level)
    return math.sqrt(1.0 - ((level - 0.38) / 0.7) ** 2)


def _centre(rng: np.random.Generator, label: str, radius: float, level: float, anatomy: Anatomy) -> tuple[float, float]:
    if label == "sellar":
        return rng.normal(0.0, 1.5), rng.normal(-16.0, 3.0)
    side = _side(rng)
    if label == "extra_axial" and level > 0.5 and rng.random() < _FALCINE_SHARE:
        return side * 0.75 * radius, _side(rng) * rng.uniform(42.0, 58.0) * head_scale(level)
    spread = (0.45, 0.85) if level < LOW_LEVEL else (0.08, 0.92)
    angle = math.pi * rng.uniform(*spread)
    direction = side * math.sin(angle), -math.cos(angle)
    reach = brain_radius(direction, level, anatomy)
    if label == "extra_axial":
        reach -= radius * rng.uniform(0.4, 0.75)
    else:
        reach = min(reach * rng.uniform(0.42, 0.7), reach - 0.8 * radius - 4.0)
    return direction[0] * reach, direction[1] * reach


def brain_radius(direction: tuple[float, float], level: float, anatomy: Anatomy) -> float:
    """Returns the distance in mm from the centre to the brain's surface along a unit direction, before bending."""
    power = anatomy.squareness
    across = (abs(direction[0]) / anatomy.half_width) ** power + (abs(direction[1]) / anatomy.half_length) ** power
    return head_scale(level) / across ** (1.0 / power) - anatomy.scalp - anatomy.skull - 2.0 * anatomy.atrophy


def _scan(rng: np.random.Generator, anatomy: Anatomy) -> Scan:
    return Scan(
        weighting=str(rng.choice(WEIGHTINGS, p=_WEIGHTING_SHARES)),
        field_of_view=2.0 * anatomy.half_length * rng.uniform(1.04, 1.2),
        contrast_jitter=rng.normal(0.0, 0.05, 32),
        gain=rng.uniform(0.75, 1.1),
        noise=rng.uniform(2.0, 5.0),
        blur=rng.uniform(0.6, 1.3),
        bias=rng.standard_normal((4, 5, 5)),
        bias_strength=rng.uniform(0.03, 0.12),
    )


def _confounders(rng: np.random.Generator, age: float) -> Confounders:
    return Confounders(
        vessels=_dots(rng, int(rng.integers(1, 6)), (0.8, 1.9)),
        scar=(
            _side(rng) * rng.uniform(0.3, 0.85),
            rng.uniform(-0.6, 0.7),
            rng.uniform(3.5, 10.0) if rng.random() < 0.15 else 0.0,
        ),
        scar_level=rng.normal(0.0, 0.04),
        spots=_dots(rng, int(rng.poisson(max(age - 40.0, 2.0) / 14.0)), (1.0, 2.8)),
        choroid=(rng.uniform(0.0, 3.6), rng.uniform(0.0, 3.6)),
        calcified=bool(rng.random() < 0.3),
    )


def _dots(rng: np.random.Generator, count: int, radii: tuple[float, float]) -> tuple[tuple[float, float, float], ...]:
    drawn = ((rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.3, 0.95), rng.uniform(*radii)) for _ in range(count))
    return tuple((reach * math.sin(angle), -reach * math.cos(angle), radius) for angle, reach, radius in drawn)


def _side(rng: np.random.Generator) -> float:
    return -1.0 if rng.random() < 0.5 else 1.0
