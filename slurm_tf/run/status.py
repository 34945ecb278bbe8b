"""How the newest attempt of a run is doing: status.json in its folder, written by the coordinator.

Times are of the coordinator's clock, seconds since the epoch. Standard library, Python 3.9.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Mapping, Optional, Sequence

from slurm_tf import units
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder

# So many tasks are named in one line.
_NAMED = 5
# What the end of a job is found by none of whose tasks has joined the cluster.
NEVER_JOINED = "tasks has joined the cluster"


class TaskState(str, Enum):
    """State of a task. MISSING: it has not registered yet; LOST: its agent's connection ended before its program."""

    MISSING = "missing"
    REGISTERED = "registered"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


class AttemptState(str, Enum):
    """State of an attempt.

    REGISTERING: at first and in each new step, until all tasks have registered. STAGING: nodes copy files to their
    scratch. RUNNING: the programs run. RESTARTING: all programs are ended, to be started again. RENEWING: no program is
    left, and the step is to end before a new one is started. SAVING: a termination is under way, and a task that ends
    now is not started again. FINISHING: the lead is done, and stragglers are not. ENDING: the outcome is known, and
    programs that still run are ended. ENDED: the run is over. REQUEUED: the job, or one that follows it, waits to be
    started. WAITS_FOR_SLURM: Slurm did not say why it sent a signal, or took no requeue, and may requeue the job when
    it ends it.
    """

    REGISTERING = "registering"
    STAGING = "staging"
    RUNNING = "running"
    RESTARTING = "restarting"
    RENEWING = "renewing"
    SAVING = "saving"
    FINISHING = "finishing"
    ENDING = "ending"
    ENDED = "ended"
    REQUEUED = "requeued"
    WAITS_FOR_SLURM = "waits for Slurm"


@dataclass(frozen=True)
class Progress:
    """What a task's program said of its training: `step` of `steps`, `rate` in steps per second, metrics by name.

    `at`: when it said so. None stands for what it did not say, or no number.
    """

    step: Optional[float]
    steps: Optional[float]
    rate: Optional[float]
    values: Mapping[str, Optional[float]]
    at: float


@dataclass(frozen=True)
class TaskStatus:
    """One task. `restarts`: how often it was started again in this allocation; `code`: its program's exit code.

    `error`: why its program failed, None if it did not, or did not say. `joined`: False if it trains alone, though the
    cluster has others.
    """

    state: TaskState = TaskState.MISSING
    node: Optional[str] = None
    restarts: Optional[int] = None
    code: Optional[int] = None
    progress: Optional[Progress] = None
    error: Optional[str] = None
    joined: Optional[bool] = None


@dataclass(frozen=True)
class SlowTask:
    """A task that others wait for: seconds of `own` work in each step, the `others`' median, for how many `seconds`."""

    own: float
    others: float
    seconds: float

    @property
    def words(self) -> str:
        """How much longer the task works in each step than others do, and for how long it has done so."""
        times = f"{self.own / self.others:.1f} times" if self.others > 0 else "far more than"
        return (
            f"works {self.own:.3g} s by itself in each step, {times} the {self.others:.3g} s of the others, "
            f"for {self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class StragglerReport:
    """How long each task works by itself in each step (`own`, in seconds), and the slow tasks, by name."""

    own: Mapping[str, float]
    slow: Mapping[str, SlowTask]


@dataclass(frozen=True)
class StagingStatus:
    """The copies to the nodes' scratch: `bytes` of `wanted` on all nodes, and how many nodes are done, of how many."""

    bytes: int
    wanted: int
    nodes: int
    all_nodes: int

    @property
    def words(self) -> str:
        """How far they are: "staging 3.2 GiB of 8.0 GiB, 2 of 4 nodes done"."""
        size = f"{units.format_bytes(self.bytes)} of {units.format_bytes(self.wanted)}"
        return f"staging {size}, {self.nodes} of {self.all_nodes} nodes done"


@dataclass(frozen=True)
class RunStatus:
    """One attempt. `attempt`: how often Slurm restarted its job; `host`: where the coordinator runs.

    `restarts`: of tasks and steps in this allocation; `code`, `reason`: how the job ended; `failed`: the task that
    failed first, "" for none. `stragglers`: None where nothing is known. `staging`: None unless nodes copy now.
    `written`: when the file was.
    """

    run: str
    job: str
    attempt: int
    host: str
    started: float
    state: AttemptState
    restarts: int = 0
    code: Optional[int] = None
    reason: str = ""
    failed: str = ""
    stragglers: Optional[StragglerReport] = None
    tasks: Mapping[str, TaskStatus] = field(default_factory=dict)
    written: float = 0.0
    staging: Optional[StagingStatus] = None


def alone_words(names: Sequence[str]) -> str:
    """Return the line that says that tasks train alone, though their cluster has others."""
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    if len(names) == 1:
        return f"{shown} has not joined the cluster: it trains alone"
    return f"{shown} have not joined the cluster: each trains alone"


def never_joined_words(tasks: int) -> str:
    """Return why a job has failed whose tasks all ended well."""
    return (
        f"none of the {tasks} {NEVER_JOINED}: each trained a model of its own, and all wrote the same files; the "
        "program needs slurm_tf.train or a tf.distribute strategy that reads TF_CONFIG (slurm-tf docs train), or one "
        'task: strategy = "single"; join = "optional" allows it'
    )


def read(folder: RunFolder) -> Optional[RunStatus]:
    """Return the status of a run's newest attempt, None if there was none. Raises RunError or OSError."""
    try:
        return json_file.read(folder.status, RunStatus)
    except FileNotFoundError:
        return None


def write(folder: RunFolder, status: RunStatus) -> None:
    """Replace the status of a run. Raises OSError."""
    json_file.write(folder.status, status, indent=None)
