"""What [checkpoint], [train] and [export] of a job file say to slurm_tf.train: one variable, as JSON. Python 3.9."""

from dataclasses import dataclass
from enum import Enum
from typing import Mapping, Optional

from slurm_tf.run import env, json_file


class Better(str, Enum):
    """Which values of a metric are better: lower ones or higher ones."""

    MIN = "min"
    MAX = "max"


@dataclass(frozen=True)
class ExportSettings:
    """Where a program exports its model, and when. `to`: the model's folder, "" for the run's folder of exports.

    `metric`: by which versions are compared, "" for none; `mode`: which of its values are better. `every`: seconds
    between two exports while training; None: at its end alone. `keep`: how many versions stay, None for all.
    """

    to: str = ""
    metric: str = ""
    mode: Better = Better.MAX
    every: Optional[float] = None
    keep: Optional[int] = None


@dataclass(frozen=True)
class TrainSettings:
    """How slurm_tf.train saves and trains; the defaults hold for a program outside of a run.

    `checkpoint_every`: seconds, None where steps or costs decide; `checkpoint_every_steps`: None where time decides.
    `mtbf`: mean seconds between interruptions, where the interval between checkpoints is chosen by it; of one node in
    launch.json, of the whole job in a program. `checkpoint_keep`: how many checkpoints stay. `accumulate`: over how
    many steps gradients are averaged into one update. `mixed_precision`: "float16", "bfloat16" or "" for none.
    `bytes_per_pack`: None where slurm_tf.train decides. `collective`: "auto", "ring" or "nccl". `export`: [export].
    """

    checkpoint_every: Optional[float] = None
    checkpoint_every_steps: Optional[int] = None
    mtbf: Optional[float] = None
    checkpoint_keep: int = 3
    accumulate: int = 1
    mixed_precision: str = ""
    bytes_per_pack: Optional[int] = None
    collective: str = "auto"
    export: ExportSettings = ExportSettings()


def from_environ(environ: Mapping[str, str]) -> TrainSettings:
    """Return the settings that the agent left in a program's environment. Raises RunError."""
    text = environ.get(env.TRAIN)
    return TrainSettings() if text is None else json_file.parse(text, TrainSettings, env.TRAIN)


def to_variable(settings: TrainSettings) -> str:
    """Return the value of the variable."""
    return json_file.dumps(settings)
