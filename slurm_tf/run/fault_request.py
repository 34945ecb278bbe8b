"""The request that `slurm-tf interrupt` leaves for the attempt that runs, which then injects the fault.

Login nodes often cannot reach compute nodes, so the request is a file: fault_request.json. Standard library, Python
3.9.
"""

import os
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from slurm_tf.errors import RunError
from slurm_tf.run import json_file
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.folder import RunFolder


class Fault(str, Enum):
    """What is to happen to an attempt.

    PREEMPTION and TIMEOUT to all of it, KILL to one task's program, NODE_FAILURE to one task's node.
    """

    PREEMPTION = EndCause.PREEMPTION.value
    TIMEOUT = EndCause.TIMEOUT.value
    KILL = "kill"
    NODE_FAILURE = "node-failure"

    @property
    def is_of_task(self) -> bool:
        """Whether the fault happens to one task or its node."""
        return self in (Fault.KILL, Fault.NODE_FAILURE)


@dataclass(frozen=True)
class FaultRequest:
    """A fault that is to be injected into `attempt`, and the task that is hit where the fault is of one."""

    attempt: str
    fault: Fault
    task: str


def write(folder: RunFolder, request: FaultRequest) -> None:
    """Leave a request for the attempt. Raises OSError."""
    json_file.write(folder.fault_request, request)


def take(folder: RunFolder) -> Optional[FaultRequest]:
    """Return the request that was left, and remove it; None if there is none. Raises RunError or OSError."""
    try:
        request = json_file.read(folder.fault_request, FaultRequest)
    except FileNotFoundError:
        return None
    except RunError:
        os.unlink(folder.fault_request)
        raise
    os.unlink(folder.fault_request)
    return request
