"""What an evaluator does in place of training: it restores each new checkpoint."""

import contextlib
import time
from typing import Iterator, Optional

import tensorflow as tf

from slurm_tf.run import checkpoint_folder

_POLL_SECONDS = 1.0


def restore_each(checkpoint: Optional[tf.train.Checkpoint], folder: str, steps: int) -> Iterator[int]:
    """Restore each new checkpoint in `folder` and yield its step, until that is `steps`."""
    last = -1
    while last < steps:
        newest = next(checkpoint_folder.complete(folder), None)
        if newest is None or newest.step == last or checkpoint is None:
            time.sleep(_POLL_SECONDS)
            continue
        # It may have been pruned in the meantime; then there is a newer one.
        with contextlib.suppress(tf.errors.NotFoundError, tf.errors.DataLossError):
            checkpoint.read(newest.prefix).expect_partial()
            last = newest.step
            yield last
