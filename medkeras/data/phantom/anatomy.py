"""The healthy head at one level: scalp, skull, brain, ventricles, deep nuclei, skull base and vessels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from medkeras.data.phantom import fields, patient, tissues

GREY_MM = 3.0
"""Thickness of the cortex."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One slice's coordinates.

    Attributes:
        level: Height of the slice, 0..1.
        x: Position in the head's frame in mm, `[H, W]`; right of the image is positive.
        y: Position in the head's frame in mm, `[H, W]`; the back of the head is positive.
        ax: The same in the undeformed anatomy: the mass effect and the individual bending undone.
        ay: The same in the undeformed anatomy.
        depth: Distance from the skin in mm, positive inside the head, `[H, W]`.
        pixel: Side of a pixel in mm.
    """

    level: float
    x: np.ndarray
    y: np.ndarray
    ax: np.ndarray
    ay: np.ndarray
    depth: np.ndarray
    pixel: float

    @property
    def size(self) -> int:
        """Pixels along each side."""
        return self.x.shape[0]


def frame(who: patient.Patient, level: float, size: int) -> Frame:
    """Returns the coordinates of a patient's slice."""
    head, scan, lesion = who.anatomy, who.scan, who.lesion
    axis = fields.pixel_axis(size, scan.field_of_view)
    right, down = axis[None, :] - head.shift[0], axis[:, None] - head.shift[1]
    cosine, sine = np.float32(np.cos(head.rotation)), np.float32(np.sin(head.rotation))
    x, y = right * cosine + down * sine, down * cosine - right * sine
    inner = fields.cover(_depth(head, level, x, y) - 24.0, 20.0)
    dx, dy = x - lesion.centre[0], y - lesion.centre[1]
    push = inner * np.exp(-(dx * dx + dy * dy) / (1.9 * lesion.radius) ** 2) * _mass(who, level)
    ax = x - push * dx + 2.2 * fields.smooth(head.bend[0], level, size)
    ay = y - push * dy + 2.2 * fields.smooth(head.bend[1], level, size)
    return Frame(level, x, y, ax, ay, _depth(head, level, ax, ay), scan.field_of_view / size)


def draw(who: patient.Patient, here: Frame) -> tissues.TissueMap:
    """Returns the tissues of a patient's slice as they would be without a tumour."""
    head = tissues.TissueMap(here.size)
    _coverings(who, here, head)
    _cerebrum(who, here, head)
    _deep_nuclei(who, here, head)
    _ventricles(who, here, head)
    if here.level < patient.LOW_LEVEL + 0.03:
        _posterior_fossa(who, here, head)
        _skull_base(who, here, head)
    _vessels(who, here, head)
    _findings(who, here, head)
    return head


def brain_depth(who: patient.Patient, here: Frame) -> np.ndarray:
    """Returns the distance in mm from the inner table of the skull, positive inside, `[H, W]`."""
    return here.depth - who.anatomy.scalp - who.anatomy.skull


def face_depth(here: Frame) -> np.ndarray:
    """Returns the distance in mm in front of the anterior skull base, positive in the face, `[H, W]`."""
    front = -100.0 + 70.0 * (1.0 - fields.ramp(here.level, 0.17, patient.LOW_LEVEL + 0.02))
    return front + 10.0 - 9.0 * np.cos(here.ax / 16.0) - here.ay


def _mass(who: patient.Patient, level: float) -> float:
    if who.grade == 0:
        return 0.0
    offset = (level - who.lesion.level) * patient.HEIGHT_MM / (2.0 * who.lesion.radius)
    return who.lesion.push * math.exp(-(offset**2))


def _depth(head: patient.Anatomy, level: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scale, power = patient.head_scale(level), head.squareness
    width = head.half_width * scale * (1.0 + 0.05 * y / head.half_length)
    across = (np.abs(x) / width) ** power + (np.abs(y) / (head.half_length * scale)) ** power
    share = np.maximum(across, 1e-6) ** (1.0 / power)
    return (fields.norm(x, y) * (1.0 / share - 1.0)).astype(np.float32)


def _coverings(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    anatomy, pixel = who.anatomy, here.pixel
    head.paint("muscle", fields.cover(here.depth, pixel))
    head.paint("fat", fields.cover(here.depth - 1.0, pixel))
    temporal = fields.ellipse(np.abs(here.ax), here.ay, centre=(anatomy.half_width, -32.0), radii=(26.0, 34.0))
    strength = 1.0 - fields.ramp(here.level, 0.4, 0.55)
    head.paint("muscle", strength * fields.cover(np.minimum(here.depth - 0.45 * anatomy.scalp, temporal), pixel))
    bone = here.depth - anatomy.scalp
    head.paint("bone", fields.cover(bone, pixel))
    marrow = np.minimum(bone - 0.3 * anatomy.skull, 0.72 * anatomy.skull - bone)
    head.paint("marrow", 0.85 * fields.cover(marrow, 0.5 * pixel))
    head.paint("dura", 0.6 * fields.cover(bone - anatomy.skull, pixel))
    head.paint("csf", fields.cover(bone - anatomy.skull - 0.8, pixel))


def _cerebrum(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    anatomy, pixel = who.anatomy, here.pixel
    depth = brain_depth(who, here) - 2.0 * anatomy.atrophy
    if here.level < patient.LOW_LEVEL:
        depth = np.minimum(depth, -2.0 - face_depth(here))
    depth += 0.6 * fields.smooth(anatomy.gyri[0], here.level, here.size)
    fissure, midline = _fissures(who, here)
    sulcus = np.minimum(_sulci(who, here, depth), fissure)
    inside = fields.cover(depth, pixel)
    head.paint("grey", inside)
    white = np.minimum(np.minimum(depth, sulcus - 0.4) - GREY_MM, midline - GREY_MM - 0.5)
    head.paint("white", inside * fields.cover(white, pixel))
    width = (0.25 + 0.75 * anatomy.atrophy) * (1.15 - 0.03 * np.clip(depth, 0.0, 25.0))
    head.paint("csf", inside * 0.9 * fields.cover(width - sulcus, pixel))
    head.paint("csf", inside * fields.cover(0.3 + 0.4 * anatomy.atrophy - midline, pixel))
    head.paint("dura", inside * 0.55 * fields.cover(0.5 - midline, pixel))


def _sulci(who: patient.Patient, here: Frame, depth: np.ndarray) -> np.ndarray:
    """Returns the distance in mm to the nearest sulcus.

    Primary sulci run from the surface to a depth of their own; secondary ones are the zeros of a smooth field.
    """
    depths, folds, gyri = who.anatomy.sulcus_depths, who.anatomy.folds, who.anatomy.gyri
    far, near = fields.smooth(folds[0], here.level, here.size), fields.smooth(gyri[1], here.level, here.size)
    radius = fields.norm(here.ax, here.ay) + 1.0
    turn = np.arctan2(here.ax, -here.ay) / (2.0 * np.pi) + (5.0 * far + 2.6 * near) / (2.0 * np.pi * radius)
    phase = (turn + who.anatomy.sulcus_phase) * len(depths)
    nearest = np.rint(phase)
    across = np.abs(phase - nearest) * (2.0 * np.pi * radius / len(depths))
    below = np.maximum(depth - depths[nearest.astype(np.int64) % len(depths)], 0.0)
    winding = 5.0 * np.abs(fields.smooth(gyri[2], here.level, here.size))
    reach = 11.0 + 4.0 * fields.smooth(folds[1], here.level, here.size)
    return np.minimum(fields.norm(across, below), winding + np.maximum(depth - reach, 0.0))


def _fissures(who: patient.Patient, here: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances in mm to the Sylvian fissures and to the interhemispheric fissure."""
    x, y, level = np.abs(here.ax), here.ay, here.level
    half = who.anatomy.half_width - who.anatomy.scalp - who.anatomy.skull
    sylvian = -fields.tube(x, y, ((0.6 * half, -24.0, 0.2), (0.66 * half, -8.0, 0.3), (0.58 * half, 12.0, 0.1)))
    sylvian = np.minimum(sylvian, -fields.tube(x, y, ((0.66 * half, -8.0, 0.3), (1.05 * half, -14.0, 1.0))))
    sylvian += 40.0 * (1.0 - fields.bump(level, 0.3, 0.52, 0.05))
    front = -30.0 + 30.0 * fields.ramp(level, 0.58, 0.7)
    back = 44.0 - 44.0 * fields.ramp(level, 0.58, 0.7)
    gap = np.maximum(np.minimum(y - front, back - y), 0.0)
    return sylvian, fields.norm(here.ax, gap)


def _deep_nuclei(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    x, y, soft = np.abs(here.ax), here.ay, here.pixel + 0.8
    strength = fields.bump(here.level, 0.4, 0.52, 0.05)
    if not strength:
        return
    lens = fields.ellipse(x, y, centre=(25.0, -4.0), radii=(6.5, 14.0), angle=-0.3)
    thalamus = fields.ellipse(x, y, centre=(11.0, 9.0), radii=(8.5, 12.0), angle=-0.4)
    head.paint("nuclei", strength * fields.cover(lens, soft))
    head.paint("nuclei", 0.8 * strength * fields.cover(thalamus, soft))
    caudate = fields.ellipse(x, y, centre=(14.0, -22.0), radii=(5.0, 9.0), angle=-0.35)
    head.paint("nuclei", fields.bump(here.level, 0.42, 0.58) * fields.cover(caudate, soft))


def _ventricles(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    if not 0.22 < here.level < 0.68:
        return
    level, y, pixel = here.level, here.ay, here.pixel
    size = np.where(here.ax < 0.0, *map(np.float32, who.anatomy.ventricles))
    x = np.abs(here.ax) / (0.85 + 0.15 * size)
    horn = fields.tube(x, y, ((13.0, -34.0, 1.2), (8.0, -24.0, 2.8), (5.0, -10.0, 1.6)))
    body = fields.tube(x, y, ((8.0, -24.0, 3.0), (8.0, 2.0, 3.0), (15.0, 22.0, 3.6)))
    atrium = fields.tube(x, y, ((15.0, 20.0, 2.6), (22.0, 32.0, 4.4), (20.0, 50.0, 1.0)))
    growth = 2.6 * (size - 1.0)
    for shape, strength in (
        (horn, fields.bump(level, 0.43, 0.6)),
        (body, fields.bump(level, 0.55, 0.64)),
        (atrium, fields.bump(level, 0.44, 0.6)),
    ):
        head.paint("csf", fields.cover(shape + growth - 6.0 * (1.0 - strength), pixel))
    _choroid(who, here, head, np.minimum(fields.cover(atrium + growth, pixel), fields.bump(level, 0.45, 0.58)))
    third = fields.ellipse(here.ax, y, centre=(0.0, 4.0), radii=(1.0 + 1.2 * float(size.mean()), 13.0))
    head.paint("csf", fields.bump(level, 0.36, 0.5) * fields.cover(third, pixel))
    temporal = fields.tube(x, y, ((30.0, -2.0, 1.0), (31.0, 14.0, 1.8)))
    head.paint("csf", fields.bump(level, 0.26, 0.38) * fields.cover(temporal + growth, pixel))


def _choroid(who: patient.Patient, here: Frame, head: tissues.TissueMap, room: np.ndarray) -> None:
    for side, radius in zip((-1.0, 1.0), who.confounders.choroid, strict=True):
        plexus = fields.ellipse(here.ax, here.ay, centre=(side * 19.0, 28.0), radii=(radius + 0.1, 1.6 * radius + 0.1))
        head.paint("calcium" if who.confounders.calcified else "gland", 0.9 * room * fields.cover(plexus, here.pixel))


def _posterior_fossa(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    x, y, level, pixel = np.abs(here.ax), here.ay, here.level, here.pixel
    low = 1.0 - fields.ramp(level, 0.3, 0.37)
    half = who.anatomy.half_width - who.anatomy.scalp - who.anatomy.skull
    room = fields.cover(brain_depth(who, here) - 2.5, pixel)
    fossa = fields.ellipse(x, y, centre=(0.0, 46.0), radii=(0.86 * half, 36.0))
    head.paint("csf", low * room * fields.cover(fossa + 2.0, pixel))
    head.paint("grey", low * room * fields.cover(fossa, pixel))
    wobble = 1.6 * fields.smooth(who.anatomy.gyri[1], level, here.size)
    folia = 0.5 + 0.5 * np.sin(2.0 * np.pi * fields.norm(here.ax * 0.8, y - 20.0) / 5.5 + wobble)
    head.paint("white", low * room * (0.2 + 0.4 * folia) * fields.cover(fossa - 4.0, pixel))
    deep = fields.ellipse(x, y, centre=(17.0, 36.0), radii=(11.0, 15.0), angle=0.5)
    head.paint("white", low * 0.8 * fields.cover(deep, 3.0))
    head.paint("csf", low * fields.cover(fields.ellipse(x, y, centre=(0.0, 28.0), radii=(6.0, 4.5)), pixel))
    cistern = fields.ellipse(x, y, centre=(0.0, -10.0), radii=(15.0, 12.0)) + 2.0 * np.cos(
        5.0 * np.arctan2(here.ax, -y)
    )
    middle = fields.bump(level, 0.24, 0.37, 0.05)
    head.paint("csf", middle * fields.cover(cistern, pixel))
    around = fields.ellipse(x, y, centre=(0.0, 11.0), radii=(20.0, 16.0))
    head.paint("csf", middle * 0.8 * fields.cover(around, pixel))
    stem = fields.bump(level, 0.0, 0.4)
    head.paint("white", stem * fields.cover(fields.ellipse(x, y, centre=(0.0, 11.0), radii=(15.0, 11.0)), pixel))
    head.paint(
        "white", stem * fields.cover(fields.ellipse(x, y, centre=(9.0, 4.0), radii=(6.0, 9.0), angle=0.5), pixel)
    )
    tent = fields.tube(x, y, ((6.0, 24.0, 0.5), (0.86 * half, 40.0, 0.5)))
    head.paint("dura", low * 0.7 * room * fields.cover(tent, pixel))


def _skull_base(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    x, y, level, pixel = np.abs(here.ax), here.ay, here.level, here.pixel
    face = np.minimum(face_depth(here), here.depth - who.anatomy.scalp)
    head.paint("bone", fields.cover(face, pixel))
    head.paint("muscle", fields.cover(face - 3.0, pixel))
    reach = who.anatomy.half_length
    orbit = np.minimum(fields.ellipse(x, y, centre=(30.0, 30.0 - reach), radii=(17.0, 27.0), angle=-0.25), face - 3.0)
    head.paint("fat", fields.cover(orbit, pixel))
    open_eye = 1.0 - fields.ramp(level, 0.27, 0.34)
    globe = np.minimum(fields.ellipse(x, y, centre=(31.0, 22.0 - reach), radii=(12.0, 12.0)), here.depth - 2.0)
    head.paint("muscle", open_eye * fields.cover(globe + 1.0, pixel))
    head.paint("eye", open_eye * fields.cover(globe, pixel))
    nerve = fields.tube(x, y, ((31.0, 32.0 - reach, 1.8), (14.0, 52.0 - reach, 1.6)))
    head.paint("muscle", open_eye * fields.cover(np.minimum(nerve, orbit), pixel))
    cells = np.minimum(10.5 - x, face - 3.0) + 1.5 * np.sin(here.ay / 2.2)
    head.paint("air", 0.85 * fields.cover(cells, pixel))
    low = 1.0 - fields.ramp(level, 0.2, 0.26)
    petrous = fields.tube(x, y, ((18.0, 4.0, 2.0), (58.0, 20.0, 8.0)))
    head.paint("bone", low * fields.cover(petrous, pixel + 1.0))
    sphenoid = fields.ellipse(x, y, centre=(0.0, -28.0), radii=(13.0, 9.0))
    head.paint("bone", low * fields.cover(sphenoid, pixel))
    head.paint("air", low * fields.cover(sphenoid - 2.0, pixel))


def _vessels(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    depth, pixel, level = brain_depth(who, here), here.pixel, here.level
    back = who.anatomy.half_length * patient.head_scale(level) - who.anatomy.scalp - who.anatomy.skull
    sinus = np.minimum(4.2 - 1.5 * np.abs(here.ax) - 0.45 * (back - here.ay), depth + 0.5)
    head.paint("vessel", fields.cover(sinus, pixel))
    for x, y, radius in who.confounders.vessels:
        reach = patient.brain_radius((0.0, 1.0), level, who.anatomy)
        dot = fields.ellipse(here.x, here.y, centre=(0.8 * reach * x, reach * y), radii=(radius, radius))
        head.paint("vessel", fields.cover(np.minimum(dot, depth), pixel))
    if level < patient.LOW_LEVEL + 0.04:
        strength = fields.bump(level, 0.18, 0.36)
        carotid = fields.ellipse(np.abs(here.ax), here.ay, centre=(11.5, -16.0), radii=(2.6, 3.2))
        basilar = fields.ellipse(here.ax, here.ay, centre=(0.0, -4.0), radii=(1.8, 1.8))
        gland = fields.ellipse(here.ax, here.ay, centre=(0.0, -15.0), radii=(4.5, 3.0))
        head.paint("gland", fields.bump(level, 0.2, 0.27) * fields.cover(gland, pixel))
        head.paint("vessel", strength * fields.cover(np.maximum(carotid, basilar), pixel))


def _findings(who: patient.Patient, here: Frame, head: tissues.TissueMap) -> None:
    """Paints age spots and an old infarct, in white and grey matter only."""
    found, reach = who.confounders, patient.brain_radius((0.0, 1.0), here.level, who.anatomy)
    tissue = head.share("white") + 0.5 * head.share("grey")
    for x, y, radius in found.spots:
        spot = fields.ellipse(here.ax, here.ay, centre=(0.45 * reach * x, 0.6 * reach * y), radii=(radius, radius))
        head.paint("spot", tissue * fields.cover(spot, 2.5))
    x, y, radius = found.scar
    away = (here.level - who.lesion.level - found.scar_level) * patient.HEIGHT_MM
    if radius > abs(away):
        inner = math.sqrt(radius**2 - away**2)
        scar = fields.ellipse(here.ax, here.ay, centre=(0.7 * reach * x, 0.8 * reach * y), radii=(inner, 0.7 * inner))
        ragged = scar + 1.2 * fields.smooth(who.anatomy.gyri[1], here.level, here.size)
        head.paint("spot", tissue * fields.cover(ragged + 2.0, 3.0))
        head.paint("scar", tissue * fields.cover(ragged, 2.0))
