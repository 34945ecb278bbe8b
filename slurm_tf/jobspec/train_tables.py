"""The tables of a job file for slurm_tf.train: [checkpoint], [train], [export]."""

from typing import Annotated, Literal

from msgspec import Meta

from slurm_tf.jobspec.base_table import Amount, Base

# checkpoint.every
AUTO = "auto"


class Checkpoint(Base, frozen=True):
    """When checkpoints are written, and how many of them slurm_tf.train keeps."""

    every: Annotated[
        Amount,
        Meta(description='longest time between two checkpoints; "auto": chosen by the time to save one and node-mtbf'),
    ] = AUTO
    every_steps: (
        Annotated[int, Meta(ge=1, description="steps between two checkpoints; replaces the default of every")] | None
    ) = None
    keep: Annotated[int, Meta(ge=1, description="how many checkpoints are kept, the newest ones")] = 3
    warning: (
        Annotated[Amount, Meta(description="time before the job's time limit at which to save (sbatch --signal)")]
        | None
    ) = None
    signal: (
        Annotated[
            Literal["HUP", "INT", "TERM", "USR1", "USR2"],
            Meta(description="signal on which a program that does not use slurm_tf.train saves a checkpoint"),
        ]
        | None
    ) = None


class Train(Base, frozen=True):
    """Settings of slurm_tf.train, which change training without a change of the program."""

    accumulate: Annotated[
        int, Meta(ge=1, description="number of steps whose gradients are averaged into one update")
    ] = 1
    mixed_precision: Annotated[
        Literal["float16", "bfloat16"] | None,
        Meta(description="type in which Keras computes (mixed precision); variables stay float32"),
    ] = None
    bytes_per_pack: (
        Annotated[
            int,
            Meta(ge=0, description="bytes of gradients in one allreduce under multi_worker; 0: TensorFlow decides"),
        ]
        | None
    ) = None
    collective: Annotated[
        Literal["auto", "ring", "nccl"],
        Meta(description="allreduce of multi_worker; auto: NCCL if the workers have GPUs, otherwise ring"),
    ] = "auto"


class Export(Base, frozen=True):
    """Where a program's run.export puts versions of its model, and which of them are served."""

    to: Annotated[
        str,
        Meta(description="the model's folder, MODELS/NAME, relative to the job file; default: export/ of the run"),
    ] = ""
    metric: Annotated[
        str,
        Meta(
            description="a metric that the program reports: a version that is worse than the served one is kept aside"
        ),
    ] = ""
    mode: Annotated[
        Literal["min", "max"], Meta(description="whether lower or higher values of the metric are better")
    ] = "max"
    every: (
        Annotated[
            Amount, Meta(description="time between two exports while training; default: only where training has ended")
        ]
        | None
    ) = None
    keep: (
        Annotated[
            int,
            Meta(
                ge=1,
                description="how many versions stay, the newest ones; "
                "none is removed that is promoted, has a label or is a canary; default: all",
            ),
        ]
        | None
    ) = None
