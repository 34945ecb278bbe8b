"""The record of one incarnation of a job, as accounting has it. Sources yield it, reports read it."""

import re
from functools import lru_cache

import msgspec

from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import whole_job

Key = tuple[str, str] | tuple[str, str, int | None, int | None]

_parse_state = lru_cache(maxsize=4096)(JobState.parse)


class UsageRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One incarnation of a job, of an array task or of a component of a heterogeneous job.

    Times are whole seconds since the epoch; None: never or unknown. Amounts are what was allocated, 0 if it never ran.
    What was used is None if it was not recorded.
    """

    # as sacct prints it: "12", "12_3", "12_[1-5%2]" for pending array tasks, "12+1"; raw_id: the JobIDRaw
    id: str
    raw_id: str
    state_text: str  # as printed, "CANCELLED by 1000"
    cluster: str = ""
    sluid: str = ""  # since Slurm 24.11
    submitted: int | None = None
    eligible: int | None = None
    started: int | None = None
    ended: int | None = None
    counted_until: int | None = None  # if it runs: the time until which it is known to have run
    suspended: int = 0  # seconds in which it was suspended: it had its GPUs and memory, but not its CPUs
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
    gpu_type: str = ""  # "": no GPUs, or their type is unknown; several types as "a100+v100"
    memory: int = 0  # MiB
    billing: int = 0
    limit: int | None = None  # time limit in minutes; None: unlimited or unknown
    restarts: int | None = None
    used_cpu: float | None = None  # seconds
    used_memory: int | None = None  # bytes
    gpu_use: float | None = None  # percent
    energy: int | None = None  # joules
    out_of_memory: bool = False  # it or one of its steps ran out of memory; the job's state may be FAILED

    @property
    def key(self) -> Key:
        """The key that identifies this incarnation: Slurm reuses job ids, and a requeued job keeps its id.

        A job that is shrunk goes on in a row with the same start and another time of submission (22.05.8).
        """
        if self.sluid:
            return (self.cluster, self.sluid)
        return (self.cluster, self.raw_id, self.started, self.submitted)

    @property
    def job(self) -> str:
        """The id that sbatch printed, without array task or component."""
        return whole_job(self.id)

    @property
    def state(self) -> JobState:
        """The state; UNKNOWN if slurm-tf does not know the word."""
        return _parse_state(self.state_text)

    @property
    def cancelled_by(self) -> int | None:
        """The id of the user who cancelled it, if sacct has it."""
        match = re.fullmatch(r"CANCELLED by (\d+)", self.state_text, re.ASCII)
        return int(match[1]) if match else None

    @property
    def is_finished(self) -> bool:
        """Whether this incarnation has ended; the job may go on in another one."""
        return self.ended is not None

    def elapsed(self, start: int, end: int, now: int) -> int:
        """Return the seconds inside [start, end) in which it had its allocation.

        If it still runs, it is counted until `counted_until`, or until `now` if that is None.
        """
        return self._inside(start, end, now, 0)

    def running(self, start: int, end: int, now: int) -> int:
        """Return the seconds inside [start, end) in which it had its CPUs: `elapsed` without suspensions.

        sreport counts the same: a suspended job's CPUs are free for other jobs, its GPUs and memory are not (22.05.8).
        Slurm records how long a job was suspended, but not when: those seconds are subtracted at its end.
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
        """Return whether [start, end) contains a part of its allocation or, if it never ran, its end.

        A pending incarnation overlaps only a window that contains `now`.
        """
        begin = self.ended if self.started is None else self.started
        if begin is None:
            return start <= now <= end
        return begin < end and (self.ended is None or self.ended > start or begin >= start)
