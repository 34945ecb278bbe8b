"""python -m slurm_tf.train.checkpoint.verify FOLDER STEP...: read checkpoints whole, against TensorFlow's checksums.

Prints a line of JSON for each, [step, what is wrong or null], as soon as it is known. Exit code 69: no TensorFlow.
"""

import importlib.util
import json
import os
import sys
from typing import Sequence

from slurm_tf.errors import CheckpointError
from slurm_tf.run import checkpoint_folder

NO_TENSORFLOW = os.EX_UNAVAILABLE


def main(arguments: Sequence[str]) -> int:
    """Verify these steps of a folder; return the exit code."""
    if importlib.util.find_spec("tensorflow") is None:
        return NO_TENSORFLOW
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    from slurm_tf.train.checkpoint import checkpoints

    wanted = {int(step) for step in arguments[1:]}
    for found in checkpoint_folder.complete(arguments[0]):
        if found.step not in wanted:
            continue
        wrong = None
        try:
            checkpoints.verify(found)
        except (CheckpointError, OSError) as error:
            wrong = str(error)
        sys.stdout.write(json.dumps([found.step, wrong]) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
