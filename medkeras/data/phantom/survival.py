"""Time to event: a proportional hazards model in grade, age and treatment."""

from __future__ import annotations

import math

import numpy as np

WEIBULL_SHAPE = 1.3
WEIBULL_SCALE_MONTHS = 150.0
REFERENCE_AGE = 55.0
LOG_HAZARD_GRADE = 0.8
LOG_HAZARD_DECADE = 0.25
LOG_HAZARD_TREATMENT = -0.7
FOLLOW_UP_MONTHS = (12.0, 96.0)


def log_hazard(grade: int, age: float, treatment: int) -> float:
    """Returns the log hazard ratio against an untreated patient of grade 0 and the reference age."""
    return (
        LOG_HAZARD_GRADE * grade + LOG_HAZARD_DECADE * (age - REFERENCE_AGE) / 10.0 + LOG_HAZARD_TREATMENT * treatment
    )


def draw(rng: np.random.Generator, *, grade: int, age: float, treatment: int) -> tuple[float, int]:
    """Draws the time seen in months and whether the event was seen (1) or the patient censored (0).

    The event time has the survival function `exp(-(t / scale) ** shape * exp(log_hazard))`, a Weibull model, and is
    drawn by its inverse; censoring is uniform over the follow-up and independent of everything else.

    Reference:
        Bender, Augustin and Blettner, "Generating survival times to simulate Cox proportional hazards models",
        Statistics in Medicine 24 (2005).
    """
    cumulative = rng.exponential() * math.exp(-log_hazard(grade, age, treatment))
    until_event = WEIBULL_SCALE_MONTHS * cumulative ** (1.0 / WEIBULL_SHAPE)
    until_censored = float(rng.uniform(*FOLLOW_UP_MONTHS))
    return min(until_event, until_censored), int(until_event <= until_censored)
