"""Slices of simulated patients, one at a time or as a set of cases in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from medkeras import errors
from medkeras.data import arrays, cases
from medkeras.data.phantom import anatomy, lesions, patient, scanner

PATIENTS = 400
SLICES_PER_PATIENT = 3
IMAGE_SIZE = 96
SEED = 0

_STEP = 0.3
_OFF_CENTRE = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class PhantomSlice:
    """One slice and everything that is known of it.

    Attributes:
        image: Magnitude, float32 `[H, W]`, 0..255, not rounded.
        case_id: Unique among all seeds, patients and slices.
        patient_id: Shared by the slices of a patient.
        split: `train`, `validation` or `test`, by patient.
        label: One of `patient.CLASSES`.
        mask: uint8 `[H, W]`: 0 none, 1 core, 2 oedema.
        boxes: float32 `[N, 4]`, N is 0 or 1: x_min, y_min, x_max, y_max of the core in pixels; the maxima are the
            edges after the last pixel.
        grade: Severity, 0 (no tumour) to 3.
        treatment: 1 for treated patients; a coin's toss among those with a tumour.
        age: Years.
        sex: `F` or `M`.
        time: Months until the event or until the patient was last seen.
        event: 1 where the event was seen, 0 where the patient was censored.
        spacing_mm: Distance of rows and of columns.
        position_mm: Height of the slice in the head.
    """

    image: np.ndarray
    case_id: str
    patient_id: str
    split: str
    label: str
    mask: np.ndarray
    boxes: np.ndarray
    grade: int
    treatment: int
    age: float
    sex: str
    time: float
    event: int
    spacing_mm: tuple[float, float]
    position_mm: float

    def stored(self) -> np.ndarray:
        """Returns the image as it is stored in 8 bits, uint8 `[H, W]`."""
        return np.rint(self.image).astype(np.uint8)


def slices(
    *,
    patients: int = PATIENTS,
    slices_per_patient: int = SLICES_PER_PATIENT,
    image_size: int = IMAGE_SIZE,
    seed: int = SEED,
) -> Iterator[PhantomSlice]:
    """Yields slices patient by patient.

    A slice is a pure function of the seed, the patient's number, the slice's number and the image size: how many
    others are made changes nothing. Slices of a tumour patient all meet the tumour, the first near its centre.

    Args:
        patients: Number of patients, from 1; the classes take turns in blocks of four.
        slices_per_patient: Slices of each patient, from 1.
        image_size: Pixels along each side, from 16.
        seed: Root of every random number, from 0.

    Raises:
        ConfigError: A number lies below its least.
    """
    _check(
        patients=(patients, 1), slices_per_patient=(slices_per_patient, 1), image_size=(image_size, 16), seed=(seed, 0)
    )
    return (
        _slice(who, number, image_size)
        for who in (patient.draw(seed, index) for index in range(patients))
        for number in range(slices_per_patient)
    )


def load(
    *,
    patients: int = PATIENTS,
    slices_per_patient: int = SLICES_PER_PATIENT,
    image_size: int = IMAGE_SIZE,
    seed: int = SEED,
) -> cases.CaseSet:
    """Returns the phantoms as a set of cases, the images in memory as uint8; see `slices` for the arguments."""
    pixels: dict[str, np.ndarray] = {}
    rows = []
    for one in slices(patients=patients, slices_per_patient=slices_per_patient, image_size=image_size, seed=seed):
        pixels[one.case_id] = one.stored()
        metadata = (("sex", one.sex), ("age", f"{one.age:g}"))
        rows.append(cases.Case(one.case_id, one.case_id, one.patient_id, one.split, one.label, metadata=metadata))
    note = f"Simulated head scans, {patients} patients, seed {seed}: no substitute for real data."
    return cases.CaseSet(
        "phantom", tuple(rows), patient.CLASSES, arrays.ArrayImages(pixels), patients_known=True, notes=(note,)
    )


def _check(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise errors.ConfigError(f"{name} of a phantom is at least {least}. Received: {value!r}")


def _slice(who: patient.Patient, number: int, size: int) -> PhantomSlice:
    rng = np.random.default_rng([who.seed, who.index, number, 3])
    level = _slice_level(who, number)
    here = anatomy.frame(who, level, size)
    head = anatomy.draw(who, here)
    mask = lesions.paint(who, here, head)
    patient_id = f"phantom{who.seed}-{who.index:05d}"
    return PhantomSlice(
        image=scanner.acquire(who, here, head, rng),
        case_id=f"{patient_id}-{number:02d}",
        patient_id=patient_id,
        split=who.split,
        label=who.label,
        mask=mask,
        boxes=_boxes(mask),
        grade=who.grade,
        treatment=who.treatment,
        age=who.age,
        sex=who.sex,
        time=who.time,
        event=who.event,
        spacing_mm=(here.pixel, here.pixel),
        position_mm=level * patient.HEIGHT_MM,
    )


def _slice_level(who: patient.Patient, number: int) -> float:
    """Returns the height of a slice, 0..1, within the tumour's extent."""
    extent = who.lesion.radius / patient.HEIGHT_MM
    centre = _OFF_CENTRE * (2.0 * who.anatomy.sulcus_phase - 1.0)
    return who.lesion.level + extent * (centre + _STEP * _steps(number))


def _steps(number: int) -> float:
    """Returns a slice's distance from the first one in steps: 0, 1, -1, 2, -2, and then between those.

    Five slices are evenly spaced; nine, seventeen ... are so again at half, a quarter ... of the distance.
    """
    if number < 5:
        return float((number + 1) // 2 * (1 if number % 2 else -1))
    halvings = ((number - 1) // 4).bit_length()
    rank = number - 2 ** (halvings + 1) - 1
    return (rank // 2 * 2 + 1) / 2**halvings * (1 if rank % 2 == 0 else -1)


def _boxes(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask == lesions.CORE)
    if not rows.size:
        return np.zeros((0, 4), np.float32)
    return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
