"""The keys of job files (jobs/*.toml), their types, and the roles of each strategy.

Keys have sbatch's own names where it has one, with its meaning: a role is one component of the
job, so `mem` is for each node and `gpus` for all tasks of the role. Durations are written as sbatch's --time.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Strategy = Literal["single", "mirrored", "multi_worker", "ps", "between_graph", "horovod"]

# A duration or an amount of memory may be a bare number: minutes or MiB, as for sbatch.
Amount = str | Annotated[int, Meta(ge=0)]
SbatchValue = str | int | bool
SweepValue = str | int | float | bool


# checkpoint.every
AUTO = "auto"


class Base(Struct, forbid_unknown_fields=True, rename=lambda name: name.replace("_", "-"), frozen=True, kw_only=True):
    """A table of TOML: its keys are written with dashes, and an unknown key is an error."""


class Role(Base, frozen=True):
    """The number of tasks of one role, and the resources that they need."""

    count: Annotated[int, Meta(ge=0, le=100_000, description="number of tasks (sbatch --ntasks)")] = 1
    cpus_per_task: Annotated[int, Meta(ge=1)] | None = None
    mem: Annotated[Amount, Meta(description="memory of each node; 0: all of it")] | None = None
    mem_per_cpu: Amount | None = None
    mem_per_gpu: Amount | None = None
    gpus: Annotated[Amount, Meta(description="[type:]count of GPUs for all tasks of this role")] | None = None
    gpus_per_node: Amount | None = None
    gpus_per_task: Amount | None = None
    ntasks_per_node: Annotated[int, Meta(ge=1)] | None = None
    partition: str | None = None
    constraint: str | None = None


class Roles(Base, frozen=True):
    """The roles of a TensorFlow cluster, in rank order."""

    chief: Role | None = None
    worker: Role | None = None
    ps: Role | None = None
    evaluator: Role | None = None


class Checkpoint(Base, frozen=True):
    """When checkpoints are written, and how many of them slurm_tf.train keeps."""

    every: Annotated[
        Amount, Meta(description='longest time between two checkpoints; "auto": by what one costs, and node-mtbf')
    ] = AUTO
    every_steps: Annotated[int, Meta(ge=1, description="steps between two checkpoints, instead of a time")] | None = (
        None
    )
    keep: Annotated[int, Meta(ge=1)] = 3
    warning: (
        Annotated[Amount, Meta(description="from the last checkpoint to the time limit (sbatch --signal)")] | None
    ) = None
    signal: (
        Annotated[
            Literal["HUP", "INT", "TERM", "USR1", "USR2"],
            Meta(description="at which a program that does not use slurm_tf.train saves"),
        ]
        | None
    ) = None


class Train(Base, frozen=True):
    """Settings of slurm_tf.train, which change training without a change of the program."""

    accumulate: Annotated[int, Meta(ge=1, description="steps whose gradients are averaged into one update")] = 1
    mixed_precision: Annotated[
        Literal["float16", "bfloat16"] | None, Meta(description="what Keras computes in; variables stay float32")
    ] = None
    bytes_per_pack: (
        Annotated[int, Meta(ge=0, description="gradients reduced together under multi_worker; 0: TensorFlow decides")]
        | None
    ) = None
    collective: Annotated[
        Literal["auto", "ring", "nccl"], Meta(description="how workers reduce; auto: NCCL where they have GPUs")
    ] = "auto"


class Launch(Base, frozen=True):
    """How tasks are started and ended."""

    register_timeout: Annotated[Amount, Meta(description="how long to wait until all tasks have come")] = "00:05:00"
    wait: Annotated[Amount, Meta(description="how long stragglers may go on after the chief (srun --wait)")] = (
        "00:01:00"
    )
    kill_wait: Annotated[Amount, Meta(description="from SIGTERM to SIGKILL (slurm.conf KillWait)")] = "00:00:05"
    max_restarts: Annotated[int, Meta(ge=0, description="restarts in the same allocation before the job fails")] = 0
    preflight_factor: Annotated[float, Meta(gt=1, description="a node so many times slower than others is bad")] = 4.0


class Retry(Base, frozen=True):
    """When a run goes on after its job failed; a preemption or a time limit is no failure."""

    permanent: Annotated[tuple[int, ...], Meta(description="exit codes after which it never does")] = (
        2, 64, 65, 69, 70, 73, 76, 77, 78, 126, 127, 130
    )  # fmt: skip
    retryable: Annotated[tuple[int, ...], Meta(description="exit codes after which it always does")] = (75,)
    unknown: Annotated[
        int, Meta(ge=0, description="how often it does after others, each time with a new checkpoint")
    ] = 3
    fruitless: Annotated[int, Meta(ge=1, description="attempts in a row without a new checkpoint that end the run")] = 3
    wait: Annotated[Amount, Meta(description="before the first retry, twice as long before each further one")] = (
        "00:02:00"
    )


class Watch(Base, frozen=True):
    """How long a program may make no progress before it counts as hung (0: no limit), and which tasks count as slow."""

    step: Annotated[Amount, Meta(description="without a step that is done")] = "00:30:00"
    compile: Annotated[Amount, Meta(description="before its first step is done")] = "01:00:00"
    evaluate: Annotated[Amount, Meta(description="in an evaluation, or code between two yields of run.loop")] = (
        "02:00:00"
    )
    output: Annotated[
        Amount, Meta(description="a program without slurm_tf.train, without output or a change of its checkpoints")
    ] = 0
    coordinator: Annotated[Amount, Meta(description="the job's coordinator, without an answer to its tasks")] = (
        "00:02:00"
    )
    straggler_factor: Annotated[
        float, Meta(ge=0, description="a task is slow that works so many times as long in a step as others; 0: none is")
    ] = 1.5
    straggler_time: Annotated[Amount, Meta(description="and does so for this time")] = "00:01:00"


class Horovod(Base, frozen=True):
    """How Horovod's processes find each other and communicate."""

    controller: Annotated[
        Literal["gloo", "mpi"], Meta(description="gloo: over TCP, needs nothing; mpi: under srun --mpi=pmix")
    ] = "gloo"


class Container(Base, frozen=True):
    """Reserved for a later release."""

    image: str | None = None


class JobSpec(Base, frozen=True):
    """A job file, with all layers of configuration merged into it."""

    name: Annotated[str, Meta(min_length=1, description="job name (sbatch --job-name)")]
    strategy: Annotated[Strategy, Meta(description="how TensorFlow divides the training")]
    command: Annotated[tuple[str, ...], Meta(min_length=1, description="the program and its arguments, as they are")]
    setup: Annotated[str, Meta(description="your own shell lines, run before the tasks start; never quoted")] = ""
    chdir: Annotated[str, Meta(description="working directory; default: the job file's folder")] = ""
    time: Amount | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    exclusive: (
        bool | Annotated[str, Meta(description='share nodes with no other job; "user": with none of others')] | None
    ) = None
    gpu_sharing: Annotated[
        Literal["split", "all"],
        Meta(description="tasks that see all GPUs of a node get a slice each, or each keeps all"),
    ] = "split"
    cluster_flags: (
        Annotated[
            bool,
            Meta(description="add --ps_hosts, --worker_hosts, --job_name, --task_index to the command (between_graph)"),
        ]
        | None
    ) = None
    snapshot: Annotated[
        bool, Meta(description="submit: run a copy of the program's code, so that edits do not count")
    ] = True
    group: Annotated[str, Meta(description="Unix group whose members may read the run's folder and checkpoints")] = ""
    preflight: Annotated[
        bool | Literal["mpi"],
        Meta(description='try the nodes and the ways between them before training; "mpi": by an MPI step as well'),
    ] = False
    array: Annotated[
        str | int, Meta(description="task indexes of a job array (sbatch --array), or %N: so many at once")
    ] = ""
    sweep: Annotated[
        dict[str, tuple[SweepValue, ...]],
        Meta(description="a grid: each combination is an array task, in which {key} in the command is its value"),
    ] = field(default_factory=dict)
    roles: Roles = Roles()
    checkpoint: Checkpoint = Checkpoint()
    train: Train = Train()
    launch: Launch = Launch()
    retry: Retry = Retry()
    watch: Watch = Watch()
    horovod: Horovod = Horovod()
    env: Annotated[dict[str, str], Meta(description="environment of the program; kept out of the script")] = field(
        default_factory=dict
    )
    sbatch: Annotated[dict[str, SbatchValue], Meta(description="any other option of sbatch, by its long name")] = field(
        default_factory=dict
    )
    container: Annotated[Container, Meta(description="reserved for a later release")] | None = None


# role: (fewest, most) tasks of it; a strategy has no other roles
TOPOLOGIES: dict[str, dict[str, tuple[int, int]]] = {
    "single": {"worker": (1, 1)},
    "mirrored": {"worker": (1, 1)},
    "multi_worker": {"chief": (0, 1), "worker": (1, 100_000), "evaluator": (0, 1)},
    "horovod": {"worker": (1, 100_000)},
    "ps": {"chief": (1, 1), "worker": (1, 100_000), "ps": (1, 100_000), "evaluator": (0, 1)},
    "between_graph": {"chief": (0, 1), "worker": (1, 100_000), "ps": (1, 100_000), "evaluator": (0, 1)},
}

# options of sbatch that slurm-tf writes itself, and what to use instead
OWNED: dict[str, str] = {
    "account": "the key `account`",
    "array": "the key `array`",
    "chdir": "the key `chdir`",
    "constraint": "`constraint` in a role's table",
    "cpus-per-task": "`cpus-per-task` in a role's table",
    "error": "the run's folder of logs, where every task has a file",
    "exclusive": "the key `exclusive`",
    "export": "the table [env]; the job gets the environment that it is submitted from",
    "gpus": "`gpus` in a role's table",
    "gpus-per-node": "`gpus-per-node` in a role's table",
    "gpus-per-task": "`gpus-per-task` in a role's table",
    "job-name": "the key `name`",
    "mem": "`mem` in a role's table",
    "mem-per-cpu": "`mem-per-cpu` in a role's table",
    "mem-per-gpu": "`mem-per-gpu` in a role's table",
    "nodes": "`ntasks-per-node` in a role's table: the number of nodes follows",
    "ntasks": "`count` in a role's table",
    "ntasks-per-node": "`ntasks-per-node` in a role's table",
    "open-mode": "nothing: logs are appended to, so that a requeue keeps them",
    "output": "the run's folder of logs",
    "parsable": "nothing: slurm-tf reads sbatch's answer itself",
    "partition": "the key `partition`, or `partition` in a role's table",
    "qos": "the key `qos`",
    "time": "the key `time`",
    "wrap": "the key `command`",
}
