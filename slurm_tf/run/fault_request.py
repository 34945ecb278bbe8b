"""The request that `slurm-tf interrupt` leaves for the living attempt, which injects the fault.

Login nodes often cannot reach compute nodes, so the request is a file.
"""

from slurm_tf.run.attempts import EndCause

KILL, NODE_FAILURE = "kill", "node-failure"
KINDS = (EndCause.PREEMPTION.value, EndCause.TIMEOUT.value, KILL, NODE_FAILURE)
