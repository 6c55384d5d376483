"""Simulated head scans with and without a tumour: the data set that needs no download."""

from medkeras.data.phantom.generator import (
    IMAGE_SIZE,
    PATIENTS,
    SEED,
    SLICES_PER_PATIENT,
    PhantomSlice,
    load,
    slices,
)
from medkeras.data.phantom.patient import CLASSES
from medkeras.data.phantom.writers import write

__all__ = [
    "CLASSES",
    "IMAGE_SIZE",
    "PATIENTS",
    "SEED",
    "SLICES_PER_PATIENT",
    "PhantomSlice",
    "load",
    "slices",
    "write",
]
