"""What a person learns when TensorFlow fails in the middle of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from medkeras import errors
from medkeras.data import prepare


@contextlib.contextmanager
def naming_files(data: prepare.Prepared) -> Iterator[None]:
    """Names the file where a failure inside the block comes from one that was removed or damaged since it was prepared.

    Raises:
        BadInputError: Such a file.
    """
    try:
        yield
    except tf.errors.OpError as failure:
        culprit = prepare.changed(data)
        if culprit is None:
            raise
        raise errors.BadInputError(culprit.path, f"{culprit.reason}; it could be read when the run began") from failure
