"""Why a file is not passed on."""

from __future__ import annotations


class HeldBackError(Exception):
    """One sentence that says why a file is held back; it never holds a value of the file."""
