"""How incarnations end, and which of their hours are lost by it."""

from enum import IntEnum
from functools import lru_cache

from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.slurm.job_states import JobState


class End(IntEnum):
    """One class; a report has them in this order."""

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
        """As reports write it."""
        return self.name.lower().replace("_", " ")

    @property
    def loses(self) -> bool:
        """Whether what was done may be lost."""
        return self not in _KEEP


_KEEP = (End.COMPLETED, End.RUNNING, End.UNKNOWN)
_SAME = {
    JobState[end.name]: end
    for end in End
    if end not in (End.CANCELLED, End.CANCELLED_BY_SITE, End.RUNNING, End.UNKNOWN)
}
# The old record of a job that was put back, held or not, or that goes on with other nodes.
_PUT_BACK = (JobState.REQUEUE_FED, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT)


def of(record: UsageRecord) -> End:
    """Return how an incarnation ended; one that says FAILED, and ran out of memory in a step, by that."""
    return _of(record.state_text, record.ended is not None, record.out_of_memory)


@lru_cache(maxsize=4096)
def _of(text: str, is_over: bool, oom: bool) -> End:
    state = JobState.parse(text)
    if state is JobState.FAILED and oom:
        return End.OUT_OF_MEMORY
    if state in _SAME:
        return _SAME[state]
    if state is JobState.CANCELLED:
        return End.CANCELLED_BY_SITE if text == "CANCELLED by 0" else End.CANCELLED
    if state in _PUT_BACK:
        return End.REQUEUED
    if state is JobState.RESIZING and is_over:  # the rest of the job has a record of its own
        return End.COMPLETED
    return End.UNKNOWN if state is JobState.UNKNOWN or is_over else End.RUNNING
