"""The request that `slurm-tf interrupt` leaves for the living attempt, which injects the fault.

Login nodes often cannot reach compute nodes, so the request is a file.
"""

from slurm_tf.run.attempts import PREEMPTION, TIMEOUT

KILL, NODE_FAILURE = "kill", "node-failure"
KINDS = (PREEMPTION, TIMEOUT, KILL, NODE_FAILURE)
