"""The messages about files that nodes copy to their scratch before the programs start: [stage] of a job file."""

from dataclasses import dataclass
from typing import Union

from slurm_tf.launch.transport.message import Message

# --- from the agent that copies for its node ---


@dataclass(frozen=True)
class StageProgress(Message):
    """How many bytes the node has copied to its scratch, of how many that it did not have yet."""

    copied: int
    wanted: int


@dataclass(frozen=True)
class Staged(Message):
    """Answer to Stage: the files are in `folder`, of which an earlier attempt left `kept` bytes."""

    folder: str
    copied: int
    kept: int


@dataclass(frozen=True)
class StageFailed(Message):
    """Answer to Stage: why the node has not all files; `is_of_scratch`: its tasks can read them where they are."""

    found: str
    needed: str
    do: str
    is_of_scratch: bool


# --- from the coordinator ---


@dataclass(frozen=True)
class Stage(Message):
    """Copy the files that `plan` names (run/stage_plan.py) to the node's scratch, for the run in the folder `run`."""

    plan: str
    run: str


@dataclass(frozen=True)
class StillStaging(Message):
    """Wait on for the assignment: nodes are copying files."""


@dataclass(frozen=True)
class Unstage(Message):
    """Remove what was staged for the run in the folder `run`, which is over."""

    run: str


StageAnswer = Union[StageProgress, Staged, StageFailed]
STAGE_ANSWERS = (StageProgress, Staged, StageFailed)
STAGE_REQUESTS = (Stage, StillStaging, Unstage)
