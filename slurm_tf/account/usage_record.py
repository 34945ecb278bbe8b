"""One incarnation of a job as accounting has it: what flows from the sources to the reports."""

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import whole_job

Key = tuple[str, str] | tuple[str, str, int | None, int | None]

_parse_state = lru_cache(maxsize=4096)(JobState.parse)


class Window(NamedTuple):
    """A half-open time: seconds since the epoch."""

    start: int
    end: int


class UsageRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One incarnation of a job, of an array task or of a component of a heterogeneous job.

    Times are whole seconds since the epoch, None for never and unknown. Amounts are what was allocated, 0 where it
    never ran. What was used is None where it was not recorded.
    """

    # as sacct prints it: "12", "12_3", "12_[1-5%2]" of tasks that wait, "12+1"; raw_id is Slurm's number of it
    id: str
    raw_id: str
    state_text: str  # as printed, "CANCELLED by 1000"
    cluster: str = ""
    sluid: str = ""  # since Slurm 24.11
    submitted: int | None = None
    eligible: int | None = None
    started: int | None = None
    ended: int | None = None
    counted_until: int | None = None  # of one that runs: until when it is known to have run
    suspended: int = 0  # seconds in which its CPUs were not its own; all else it kept
    user: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    wckey: str = ""
    name: str = ""
    comment: str = ""
    admin_comment: str = ""
    extra: str = ""
    submit_line: str = ""
    work_dir: str = ""
    nodes: str = ""
    reason: str = ""
    status: int | None = None
    signal: int | None = None
    cpus: int = 0
    node_count: int = 0
    gpus: int = 0
    gpu_type: str = ""  # "" for none and for any; of several "a100+v100"
    memory: int = 0  # MiB
    billing: int = 0
    limit: int | None = None  # minutes, None for unlimited and unknown
    restarts: int | None = None
    used_cpu: float | None = None  # seconds
    used_memory: int | None = None  # bytes
    gpu_use: float | None = None  # percent
    energy: int | None = None  # joules
    out_of_memory: bool = False  # it or one of its steps was ended for its memory: the job may say FAILED

    @property
    def key(self) -> Key:
        """What tells this incarnation from all others: job ids come again, and so do jobs that are requeued.

        A job that is made smaller goes on in a row with the same start and another time of submission (22.05.8).
        """
        if self.sluid:
            return (self.cluster, self.sluid)
        return (self.cluster, self.raw_id, self.started, self.submitted)

    @property
    def job(self) -> str:
        """The id that sbatch printed: without array task or component."""
        return whole_job(self.id)

    @property
    def state(self) -> JobState:
        """The state, UNKNOWN for a word that slurm-tf does not know."""
        return _parse_state(self.state_text)

    @property
    def cancelled_by(self) -> int | None:
        """The user id that cancelled it, where sacct says so."""
        match = re.fullmatch(r"CANCELLED by (\d+)", self.state_text, re.ASCII)
        return int(match[1]) if match else None

    @property
    def is_finished(self) -> bool:
        """Whether this incarnation is over; the job may go on in another."""
        return self.ended is not None

    def elapsed(self, start: int, end: int, now: int) -> int:
        """Return the seconds inside [start, end) for which it held its allocation.

        One that runs is counted until `counted_until`, else until `now`.
        """
        return self._inside(start, end, now, 0)

    def running(self, start: int, end: int, now: int) -> int:
        """Return the seconds inside [start, end) for which it held its CPUs: those of `elapsed` but for suspensions.

        sreport counts so: CPUs are free for others then, GPUs and memory are not (22.05.8). Slurm says how long a job
        was suspended and not when: those seconds are taken off its end.
        """
        return self._inside(start, end, now, self.suspended)

    def _inside(self, start: int, end: int, now: int, less: int) -> int:
        if self.started is None:
            return 0
        stop = self.ended
        if stop is None:
            stop = now if self.counted_until is None else self.counted_until
        stop -= less
        low = self.started if self.started > start else start
        high = stop if stop < end else end
        return high - low if high > low else 0

    def overlaps(self, start: int, end: int, now: int) -> bool:
        """Return whether [start, end) has a part of it: of its allocation, or the moment when it ended without one.

        What waits is in no time that is over, only in one that reaches `now`.
        """
        begin = self.ended if self.started is None else self.started
        if begin is None:
            return start <= now <= end
        return begin < end and (self.ended is None or self.ended > start or begin >= start)
