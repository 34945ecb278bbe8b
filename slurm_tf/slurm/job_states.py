"""The states of a Slurm job, by the long and short names that squeue and sacct print."""

from enum import Enum


class JobState(Enum):
    """One state: its short name, and whether an incarnation of a job in it is over.

    Source: squeue(1) of Slurm 22.05.8, JOB STATE CODES. A requeued job goes on as a new incarnation, so PREEMPTED and
    NODE_FAIL end an incarnation and say nothing about the job.
    """

    BOOT_FAIL = ("BF", True)
    CANCELLED = ("CA", True)
    COMPLETED = ("CD", True)
    CONFIGURING = ("CF", False)
    COMPLETING = ("CG", False)
    DEADLINE = ("DL", True)
    FAILED = ("F", True)
    NODE_FAIL = ("NF", True)
    OUT_OF_MEMORY = ("OOM", True)
    PENDING = ("PD", False)
    PREEMPTED = ("PR", True)
    REQUEUED = ("RQ", False)
    REQUEUE_FED = ("RF", False)
    REQUEUE_HOLD = ("RH", False)
    RESIZING = ("RS", False)
    RESV_DEL_HOLD = ("RD", False)
    REVOKED = ("RV", True)
    RUNNING = ("R", False)
    SIGNALING = ("SI", False)
    SPECIAL_EXIT = ("SE", False)
    STAGE_OUT = ("SO", False)
    STOPPED = ("ST", False)
    SUSPENDED = ("S", False)
    TIMEOUT = ("TO", True)
    UNKNOWN = ("", False)

    def __init__(self, short: str, ended: bool) -> None:
        self.short, self.ended = short, ended

    @property
    def succeeded(self) -> bool:
        """Whether the job ended as it should."""
        return self is JobState.COMPLETED

    @classmethod
    def parse(cls, text: str) -> "JobState":
        """Return the state that `text` names, long or short; UNKNOWN for any other text.

        sacct adds who cancelled a job ("CANCELLED by 1000") and cuts long names in columns ("CANCELLED+").
        """
        name = text.strip().split(" ")[0].rstrip("+").upper()
        return _BY_NAME.get(name, cls.UNKNOWN)


_BY_NAME = {name: state for state in JobState for name in (state.name, state.short) if name}
