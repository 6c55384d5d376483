"""DICOM images: `inspect` reads what a file says of itself, `read` its pixels as the values that they mean.

Runs in the worker process that opens untrusted files; nothing here imports TensorFlow. Both raise
`medkeras.errors.RefusalError` with one sentence that holds no value of an element that could identify a patient.
"""

from medkeras.data.readers.dicom.display import voi
from medkeras.data.readers.dicom.facts import inspect
from medkeras.data.readers.dicom.reading import read

__all__ = ["inspect", "read", "voi"]
