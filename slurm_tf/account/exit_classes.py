"""Exit classes: how an incarnation ended, and whether its work may be lost."""

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from slurm_tf.slurm.job_states import JobState

if TYPE_CHECKING:
    from slurm_tf.account.usage_record import UsageRecord


class ExitClass(IntEnum):
    """How an incarnation ended; a report lists the classes in this order."""

    COMPLETED = 0
    FAILED = 1
    TIMEOUT = 2
    OUT_OF_MEMORY = 3
    CANCELLED = 4
    CANCELLED_BY_SITE = 5
    PREEMPTED = 6
    REQUEUED = 7
    NODE_FAIL = 8
    BOOT_FAIL = 9
    DEADLINE = 10
    RUNNING = 11
    UNKNOWN = 12

    @property
    def word(self) -> str:
        """The name that reports use."""
        return self.name.lower().replace("_", " ")

    @classmethod
    def named(cls, word: str) -> "ExitClass":
        """Return the class of a word that reports use."""
        return cls[word.upper().replace(" ", "_")]

    @property
    def colour(self) -> str:
        """The colour of such ends in plots."""
        return _COLOURS[self]

    @property
    def loses(self) -> bool:
        """Whether the work of an incarnation of this class may be lost."""
        return self not in _KEEP


# No two are alike: those of Okabe and Ito, which colour-blind readers can distinguish, and shades between them.
_COLOURS = {
    ExitClass.COMPLETED: "#009e73",
    ExitClass.FAILED: "#d55e00",
    ExitClass.TIMEOUT: "#cc79a7",
    ExitClass.OUT_OF_MEMORY: "#b0305c",
    ExitClass.CANCELLED: "#a48fd0",
    ExitClass.CANCELLED_BY_SITE: "#6a3fb0",
    ExitClass.PREEMPTED: "#e69f00",
    ExitClass.REQUEUED: "#f0e442",
    ExitClass.NODE_FAIL: "#8f5a2a",
    ExitClass.BOOT_FAIL: "#c9a36b",
    ExitClass.DEADLINE: "#0072b2",
    ExitClass.RUNNING: "#56b4e9",
    ExitClass.UNKNOWN: "#9a9a9a",
}
_KEEP = (ExitClass.COMPLETED, ExitClass.RUNNING, ExitClass.UNKNOWN)
SAME = {
    JobState[end.name]: end
    for end in ExitClass
    if end not in (ExitClass.CANCELLED, ExitClass.CANCELLED_BY_SITE, ExitClass.RUNNING, ExitClass.UNKNOWN)
}
# States of the old record of a job that was requeued, with or without a hold.
PUT_BACK = (JobState.REQUEUE_FED, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT)


def classify(record: "UsageRecord") -> ExitClass:
    """Return the exit class of an incarnation; OUT_OF_MEMORY also for FAILED if a step ran out of memory."""
    return _of(record.state_text, record.ended is not None, record.out_of_memory)


@lru_cache(maxsize=4096)
def _of(text: str, is_over: bool, oom: bool) -> ExitClass:
    state = JobState.parse(text)
    if state is JobState.FAILED and oom:
        return ExitClass.OUT_OF_MEMORY
    if state in SAME:
        return SAME[state]
    if state is JobState.CANCELLED:
        return ExitClass.CANCELLED_BY_SITE if text == "CANCELLED by 0" else ExitClass.CANCELLED
    if state in PUT_BACK:
        return ExitClass.REQUEUED
    if state is JobState.RESIZING and is_over:  # the job goes on in another record
        return ExitClass.COMPLETED
    return ExitClass.UNKNOWN if state is JobState.UNKNOWN or is_over else ExitClass.RUNNING
