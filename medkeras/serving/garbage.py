"""Python's garbage collector, kept from looking at models again and again.

TensorFlow and a model leave some 400,000 Python objects. To look at them all takes the collector a third of a second,
in which no other thread runs, and large JSON makes it look often.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Collects what is garbage now, and spares the collector the rest; for when models came or went."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
