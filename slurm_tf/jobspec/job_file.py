"""The keys of job files (jobs/*.toml), their types, and the roles of each strategy.

Where sbatch has an option for a key, the key has its name and its meaning: a role is one component of the job, so `mem`
is for each node and `gpus` for all tasks of the role. Durations are written as for sbatch's --time.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, field

from slurm_tf.jobspec.base_table import Amount, Base
from slurm_tf.jobspec.serve_table import Serve
from slurm_tf.jobspec.train_tables import Checkpoint, Export, Train
from slurm_tf.run.settings import DATA_DISPATCHER, DATA_WORKER, ENGINE, REPLICA, SERVE

Strategy = Literal["single", "mirrored", "multi_worker", "ps", "between_graph", "horovod", "engine", "serve"]

SbatchValue = str | int | bool
ParamValue = str | int | float | bool
ParamType = Literal["int", "float", "str", "bool", "path"]


# Keys of a role of which it has one: a later layer that states another one replaces it, as sbatch's options do.
ALTERNATIVES = (("mem", "mem-per-cpu", "mem-per-gpu"), ("gpus", "gpus-per-node", "gpus-per-task"))


class Container(Base, frozen=True):
    """The container in which programs run. [roles.NAME.container] has the same keys, each in place of the job's."""

    image: (
        Annotated[
            str,
            Meta(
                description='a path that begins with /, ./, ../ or ~, or a name below the site\'s images; "": none, '
                "the programs run on the node itself"
            ),
        ]
        | None
    ) = None
    mounts: (
        Annotated[
            tuple[str, ...],
            Meta(
                description="files and folders of the node, as SRC[:DST[:ro]]; the run's folder, the code and the "
                "launcher are always there, at their own paths"
            ),
        ]
        | None
    ) = None
    home: Annotated[bool, Meta(description="mount the home folder; default: false")] | None = None
    env_from_host: (
        Annotated[
            tuple[str, ...],
            Meta(description="variables of the host that win over the image's; PATH and the like only if named here"),
        ]
        | None
    ) = None
    options: Annotated[tuple[str, ...], Meta(description="more words for the site's container runtime")] | None = None


class Role(Base, frozen=True):
    """The number of tasks of one role, the program that they run, and the resources that they need."""

    count: Annotated[int, Meta(ge=0, le=100_000, description="number of tasks (sbatch --ntasks)")] = 1
    cpus_per_task: Annotated[int, Meta(ge=1, description="CPUs of each task")] | None = None
    mem: Annotated[Amount, Meta(description="memory on each node (sbatch --mem); 0: all memory of the node")] | None = (
        None
    )
    mem_per_cpu: Annotated[Amount, Meta(description="memory for each CPU, in place of mem")] | None = None
    mem_per_gpu: Annotated[Amount, Meta(description="memory for each GPU, in place of mem")] | None = None
    gpus: Annotated[Amount, Meta(description="GPUs for all tasks of this role, as [type:]count[,...]")] | None = None
    gpus_per_node: Annotated[Amount, Meta(description="GPUs on each node, in place of gpus")] | None = None
    gpus_per_task: Annotated[Amount, Meta(description="GPUs of each task, in place of gpus")] | None = None
    ntasks_per_node: Annotated[int, Meta(ge=1, description="tasks of this role on each node")] | None = None
    partition: Annotated[str, Meta(description="the role's own partition, in place of the job's")] | None = None
    constraint: Annotated[str, Meta(description="features that the role's nodes must have")] | None = None
    command: (
        Annotated[
            tuple[str, ...],
            Meta(min_length=1, description="the program of this role, in place of the job's; cluster-flags are added"),
        ]
        | None
    ) = None
    container: Container = Container()


class Roles(Base, frozen=True):
    """The roles of a TensorFlow cluster, of an engine, of a tf.data service and of a served model, in rank order."""

    scheduler: Role | None = None
    chief: Role | None = None
    worker: Role | None = None
    ps: Role | None = None
    evaluator: Role | None = None
    driver: Role | None = None
    data_dispatcher: Role | None = None
    data_worker: Role | None = None
    replica: Role | None = None

    @property
    def with_tasks(self) -> dict[str, Role]:
        """The roles that have tasks, by name, in rank order."""
        found = {name: getattr(self, field) for name, field in zip(ROLES, self.__struct_fields__, strict=True)}
        return {name: role for name, role in found.items() if role and role.count}


# the names of all roles, in rank order
ROLES = Roles.__struct_encode_fields__


class Param(Base, frozen=True):
    """A variable of the job: what values it may have. One without a default must be given a value."""

    type: Annotated[
        ParamType | None, Meta(description="default: that of its default, choices or limits, or of its sweep, else str")
    ] = None
    default: Annotated[ParamValue | None, Meta(description="its value where none is given; without it: required")] = (
        None
    )
    min: Annotated[int | float | None, Meta(description="the lowest number that it may be")] = None
    max: Annotated[int | float | None, Meta(description="the highest number that it may be")] = None
    choices: Annotated[tuple[ParamValue, ...] | None, Meta(description="the only values that it may have")] = None
    help: Annotated[str, Meta(description="what it is, in a line")] = ""


class Launch(Base, frozen=True):
    """How tasks are started and ended."""

    register_timeout: Annotated[
        Amount, Meta(description="how long the coordinator waits until all tasks have registered")
    ] = "00:05:00"
    wait: Annotated[
        Amount, Meta(description="how long other tasks may run after the chief has ended (as srun --wait)")
    ] = "00:01:00"
    kill_wait: Annotated[Amount, Meta(description="time between SIGTERM and SIGKILL (as KillWait of slurm.conf)")] = (
        "00:00:05"
    )
    max_restarts: Annotated[
        int, Meta(ge=0, description="restarts of the programs in the same allocation, before the job fails")
    ] = 0
    preflight_factor: Annotated[
        float, Meta(gt=1, description="preflight: a node this many times slower than the others is bad")
    ] = 4.0


class Retry(Base, frozen=True):
    """When a run is retried after its job failed. A preemption or the time limit is not a failure."""

    permanent: Annotated[tuple[int, ...], Meta(description="exit codes after which the run is never retried")] = (
        2, 64, 65, 69, 70, 73, 76, 77, 78, 126, 127, 130
    )  # fmt: skip
    retryable: Annotated[tuple[int, ...], Meta(description="exit codes after which the run is always retried")] = (75,)
    unknown: Annotated[
        int,
        Meta(ge=0, description="retries after other exit codes, only if the failed attempt wrote a new checkpoint"),
    ] = 3
    fruitless: Annotated[
        int, Meta(ge=1, description="the run ends after this many attempts in a row without a new checkpoint")
    ] = 3
    wait: Annotated[
        Amount, Meta(description="waiting time before the first retry; doubled before each further retry")
    ] = "00:02:00"


class Watch(Base, frozen=True):
    """How long a program may make no progress before it counts as hung (0: no limit), and which tasks count as slow."""

    step: Annotated[Amount, Meta(description="longest time of one training step")] = "00:30:00"
    compile: Annotated[Amount, Meta(description="longest time until the first step is done")] = "01:00:00"
    evaluate: Annotated[
        Amount,
        Meta(description="longest time of an evaluation, or of the program's code between two steps of run.loop"),
    ] = "02:00:00"
    output: Annotated[
        Amount,
        Meta(
            description="a program without slurm_tf.train: longest time without output or a change of its checkpoints"
        ),
    ] = 0
    coordinator: Annotated[
        Amount, Meta(description="longest time in which the job's coordinator does not answer its tasks")
    ] = "00:02:00"
    straggler_factor: Annotated[
        float,
        Meta(ge=0, description="a task is slow if it works this many times as long in each step as others; 0: never"),
    ] = 1.5
    straggler_time: Annotated[
        Amount, Meta(description="how long a task must exceed straggler-factor before it counts as slow")
    ] = "00:01:00"


class Horovod(Base, frozen=True):
    """How Horovod's processes find each other and communicate."""

    controller: Annotated[
        Literal["gloo", "mpi"],
        Meta(description="gloo: over TCP, without MPI; mpi: over MPI, started with srun --mpi"),
    ] = "gloo"


class Stage(Base, frozen=True):
    """Files and folders that each node copies to its scratch before training."""

    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="files and folders on shared storage, such as prepared data sets; SLURM_TF_STAGE_FOLDER is the "
            "folder that has each by the last part of its path"
        ),
    ] = ()
    size: (
        Annotated[Amount, Meta(description="what they may have at most on each node; default: the site's scratch-size")]
        | None
    ) = None
    optional: Annotated[
        bool, Meta(description="tasks of a node whose scratch cannot hold them read them from shared storage")
    ] = False


class JobSpec(Base, frozen=True):
    """A job file, with all layers of configuration merged into it."""

    name: Annotated[str, Meta(min_length=1, description="job name (sbatch --job-name)")]
    strategy: Annotated[Strategy, Meta(description="how TensorFlow divides the training")]
    extends: Annotated[
        str, Meta(description="a job template whose keys count where this file has none; tables merge key by key")
    ] = ""
    description: Annotated[str, Meta(description="what the job is, in a line, for the list of job templates")] = ""
    command: (
        Annotated[
            tuple[str, ...],
            Meta(
                min_length=1,
                description="the program and its arguments, of all roles without a command of their own; passed on "
                "byte for byte",
            ),
        ]
        | None
    ) = None
    setup: Annotated[
        str,
        Meta(description="your own shell lines, run before the tasks start; not quoted; one that fails ends the job"),
    ] = ""
    chdir: Annotated[str, Meta(description="working directory; default: the job file's folder")] = ""
    time: Annotated[Amount, Meta(description="time limit of the job; default: that of its partition")] | None = None
    partition: Annotated[str, Meta(description="partition, or several with commas; default: the site's")] | None = None
    account: Annotated[str, Meta(description="account that is charged; default: your default account")] | None = None
    qos: Annotated[str, Meta(description="quality of service; default: that of your account")] | None = None
    exclusive: (
        bool
        | Annotated[str, Meta(description='share nodes with no other job; "user": with no job of another user')]
        | None
    ) = None
    gpu_sharing: Annotated[
        Literal["split", "all"],
        Meta(description="if each task sees all GPUs of its node: split: each gets a part of them; all: each gets all"),
    ] = "split"
    gpus_optional: Annotated[
        bool, Meta(description="a program in whose TensorFlow there is no GPU goes on, also if its role asked for GPUs")
    ] = False
    join: Annotated[
        Literal["required", "optional"],
        Meta(description="required: a job of several tasks fails if none of them has joined TensorFlow's cluster"),
    ] = "required"
    cluster_flags: (
        Annotated[
            bool,
            Meta(
                description="add --ps_hosts, --worker_hosts, --job_name and --task_index to the command; default: only "
                "for between_graph"
            ),
        ]
        | None
    ) = None
    snapshot: Annotated[
        bool, Meta(description="slurm-tf submit: run a copy of the program's code, so that later edits have no effect")
    ] = True
    group: Annotated[str, Meta(description="Unix group whose members may read the run's folder and checkpoints")] = ""
    preflight: Annotated[
        bool | Literal["mpi"],
        Meta(
            description='test the nodes and the network between them before training; "mpi": with an MPI step as well'
        ),
    ] = False
    array: Annotated[
        str | int, Meta(description="task indexes of a job array (sbatch --array); %N: run at most N at once")
    ] = ""
    params: Annotated[
        dict[str, Param],
        Meta(
            description="variables of the job: {NAME} in command, env and stage.paths is replaced by the value of "
            "NAME; a value alone is a default"
        ),
    ] = field(default_factory=dict)
    sweep: Annotated[
        dict[str, tuple[ParamValue, ...]],
        Meta(description="values of params: each combination of them is an array task"),
    ] = field(default_factory=dict)
    roles: Roles = Roles()
    checkpoint: Checkpoint = Checkpoint()
    train: Train = Train()
    export: Export = Export()
    launch: Launch = Launch()
    retry: Retry = Retry()
    watch: Watch = Watch()
    horovod: Horovod = Horovod()
    env: Annotated[
        dict[str, str],
        Meta(description="environment variables of the program; kept in a private file, not in the script"),
    ] = field(default_factory=dict)
    sbatch: Annotated[dict[str, SbatchValue], Meta(description="other options of sbatch, by their long names")] = field(
        default_factory=dict
    )
    container: Container = Container()
    stage: Stage = Stage()
    serve: Serve = Serve()

    def command_of(self, role: Role) -> tuple[str, ...]:
        """Return the command of a role: its own, else the job's; () where there is none.

        A role of the tf.data service, or a replica, without a command runs slurm-tf's program in the job's Python.
        """
        if role is self.roles.replica:
            return role.command or (python_of(self.command or ()), "-m", "slurm_tf.serve.replica_task")
        if role is self.roles.data_dispatcher or role is self.roles.data_worker:
            return role.command or (python_of(self.command or ()), "-m", "slurm_tf.train.data.service")
        return role.command or self.command or ()


def python_of(words: Iterable[str]) -> str:
    """Return the first Python among the words of commands, "python3" if there is none."""
    return next((word for word in words if re.fullmatch(r"(.*/)?python[0-9.]*", word)), "python3")


# A strategy under which programs use slurm_tf.train may have one data dispatcher and its data workers; not ps, where
# elements of a lost worker would be lost, nor horovod, whose ranks are all tasks.
_DATA_SERVICE = {DATA_DISPATCHER: (0, 1), DATA_WORKER: (0, 100_000)}
# the roles of each strategy, each with the (minimum, maximum) number of its tasks
TOPOLOGIES: dict[str, dict[str, tuple[int, int]]] = {
    "single": {"worker": (1, 1), **_DATA_SERVICE},
    "mirrored": {"worker": (1, 1), **_DATA_SERVICE},
    "multi_worker": {"chief": (0, 1), "worker": (1, 100_000), "evaluator": (0, 1), **_DATA_SERVICE},
    "horovod": {"worker": (1, 100_000)},
    "ps": {"chief": (1, 1), "worker": (1, 100_000), "ps": (1, 100_000), "evaluator": (0, 1)},
    "between_graph": {"chief": (0, 1), "worker": (1, 100_000), "ps": (1, 100_000), "evaluator": (0, 1)},
    ENGINE: {"scheduler": (0, 1), "worker": (1, 100_000), "driver": (1, 1)},
    SERVE: {REPLICA: (1, 100_000)},
}
