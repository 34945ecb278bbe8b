"""Records of jobs, nodes and partitions, which are the same from every client."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slurm_tf.slurm.job_states import JobState


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job, array task ("42_3") or component of a heterogeneous job ("42+1"), in its newest incarnation.

    What is unknown is None or "". `exit_code` is a shell's: 128 + n where signal n ended the job's script
    (`signalled`); None before the end. It may be 0 for a job that Slurm itself ended: `state` says how. A pending job
    has no `started`: `expected_start` is when the scheduler means to start it. `ended` of a job that runs or is pending
    is when its time limit ends. `nodes` is a node list.
    """

    id: str
    state: JobState
    reason: str = ""
    user: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    nodes: str = ""
    submitted: datetime | None = None
    started: datetime | None = None
    expected_start: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None
    signalled: bool = False
    restarts: int | None = None
    script: str = ""

    @property
    def time_limit(self) -> timedelta | None:
        """The time limit of a job that runs or is pending; None where Slurm does not say when it will end."""
        begin = self.started or self.expected_start
        return self.ended - begin if begin and self.ended and not self.state.ended else None

    @property
    def job(self) -> str:
        """The id that sbatch printed: without array task or component."""
        return whole_job(self.id)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node: `state` as sinfo prints it in long form, without its flags; memory in MiB."""

    name: str
    state: str
    cpus: int
    memory: int
    partitions: tuple[str, ...]
    gpus: int


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """One partition: `max_time` in minutes, None for none; `is_default`."""

    name: str
    is_up: bool
    is_default: bool
    nodes: int
    max_time: int | None


def whole_job(job_id: str) -> str:
    """Return the id of the array or heterogeneous job that a task or component belongs to."""
    return job_id.partition("_")[0].partition("+")[0]


def is_named(record: JobRecord, raw: str, ids: Sequence[str]) -> bool:
    """Return whether `ids` name the record by its own id, that of the whole job, or its JobIDRaw `raw`."""
    return not {record.id, record.job, raw}.isdisjoint(ids)


def text_or_empty(text: str | None) -> str:
    """Return `text`, "" where it is None or one of the words that Slurm prints for no value."""
    return "" if text in (None, "(null)", "None", "N/A", "None assigned", "Unknown") else str(text)


def exit_code(status: int, signal: int) -> int:
    """Return a shell's exit code for Slurm's pair "status:signal"."""
    return 128 + signal if signal else status
