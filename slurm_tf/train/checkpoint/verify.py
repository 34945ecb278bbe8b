"""python -m slurm_tf.train.checkpoint.verify FOLDER STEP...: reads whole checkpoints against TensorFlow's checksums.

Prints one line of JSON per checkpoint, [step, problem or null], as soon as it is read. Exit code 69: no TensorFlow.
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
    """Verify the checkpoints of these steps of a folder; return the exit code."""
    if importlib.util.find_spec("tensorflow") is None:
        return NO_TENSORFLOW
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    from slurm_tf.train.checkpoint import checkpoints

    steps = {int(step) for step in arguments[1:]}
    for found in checkpoint_folder.complete(arguments[0]):
        if found.step not in steps:
            continue
        problem = None
        try:
            checkpoints.verify(found)
        except (CheckpointError, OSError) as error:
            problem = str(error)
        sys.stdout.write(json.dumps([found.step, problem]) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
