"""The three tumours, painted over the healthy head."""

from __future__ import annotations

import math

import numpy as np

from medkeras.data.phantom import anatomy, fields, patient, tissues

CORE, OEDEMA = 1, 2


def paint(who: patient.Patient, here: anatomy.Frame, head: tissues.TissueMap) -> np.ndarray:
    """Paints a patient's tumour and returns its mask, uint8 `[H, W]`: 0 none, 1 core, 2 oedema."""
    mask = np.zeros((here.size, here.size), np.uint8)
    if who.grade == 0:
        return mask
    core, around = {"infiltrating": _infiltrating, "extra_axial": _extra_axial, "sellar": _sellar}[who.label](
        who, here, head
    )
    mask[around > 0.5] = OEDEMA
    mask[core > 0.0] = CORE
    return mask


def _in_plane_radius(who: patient.Patient, here: anatomy.Frame) -> float:
    """Returns the core's radius in the slice in mm, never less than a pixel shows."""
    away = (here.level - who.lesion.level) * patient.HEIGHT_MM
    return max(math.sqrt(max(who.lesion.radius**2 - away**2, 0.0)), 0.9 * here.pixel)


def _ball(who: patient.Patient, here: anatomy.Frame, *, ragged: float, stretch: float) -> np.ndarray:
    """Returns the signed distance in mm to the core's outline, positive inside."""
    radius, (ratio, angle) = _in_plane_radius(who, here), who.lesion.stretch
    longer = math.sqrt(1.0 + stretch * (ratio - 1.0))
    shape = fields.ellipse(
        here.x, here.y, centre=who.lesion.centre, radii=(radius * longer, radius / longer), angle=angle
    )
    return shape + ragged * radius * fields.smooth(who.lesion.ragged, here.level, here.size)


def _infiltrating(who: patient.Patient, here: anatomy.Frame, head: tissues.TissueMap) -> tuple[np.ndarray, np.ndarray]:
    lesion, room = who.lesion, _brain(who, here)
    ball = np.minimum(_ball(who, here, ragged=0.22, stretch=1.0), room)
    grain = fields.smooth(lesion.ragged[::-1], here.level, here.size)
    spread = ball + lesion.oedema * (1.0 + 0.5 * grain)
    white = np.clip(head.share("white") + 0.35 * head.share("grey") + 0.5 * head.share("nuclei"), 0.0, 1.0)
    around = fields.cover(spread, 5.0) * white * (room > 0.0)
    head.paint("oedema", 0.85 * around)
    head.paint("necrosis", 0.9 * fields.cover(ball, 2.5))
    rim = np.minimum(ball, 1.2 + (1.0 - lesion.necrosis) * 0.5 * lesion.radius + 1.5 * grain - ball)
    head.paint("core", fields.cover(rim, 2.5))
    return ball, around


def _extra_axial(who: patient.Patient, here: anatomy.Frame, head: tissues.TissueMap) -> tuple[np.ndarray, np.ndarray]:
    lesion, inner = who.lesion, anatomy.brain_depth(who, here)
    room = np.minimum(inner, _brain(who, here) + 2.0)
    ball = np.minimum(_ball(who, here, ragged=0.06, stretch=0.8), room - 0.4)
    white = head.share("white") + 0.3 * head.share("grey")
    around = fields.cover(ball + lesion.oedema, 3.0) * white * (lesion.oedema > 0.0)
    head.paint("oedema", 0.8 * around)
    near = fields.cover(_ball(who, here, ragged=0.0, stretch=0.8) + 0.5 * lesion.radius, 4.0)
    tail = np.minimum(inner + 0.3, 2.2 - inner)
    head.paint("core", 0.8 * near * fields.cover(tail, here.pixel))
    head.paint("csf", 0.6 * fields.cover(np.minimum(ball + 1.4, room), here.pixel))
    head.paint("core", fields.cover(ball, here.pixel))
    return ball, around


def _sellar(who: patient.Patient, here: anatomy.Frame, head: tissues.TissueMap) -> tuple[np.ndarray, np.ndarray]:
    ball = _ball(who, here, ragged=0.08, stretch=0.5)
    head.paint("core", fields.cover(ball, here.pixel + 0.5))
    cyst = ball - (0.45 + 0.5 * who.lesion.push) * who.lesion.radius
    head.paint("necrosis", 0.7 * fields.cover(cyst, 1.5) * (who.lesion.push > 0.36))
    return ball, np.zeros_like(ball)


def _brain(who: patient.Patient, here: anatomy.Frame) -> np.ndarray:
    """Returns how far a pixel lies inside the brain in mm, positive inside: under the skull, behind the orbits."""
    room = anatomy.brain_depth(who, here) - 2.0
    if here.level < patient.LOW_LEVEL + 0.03:
        room = np.minimum(room, -3.0 - anatomy.face_depth(here))
    return room
