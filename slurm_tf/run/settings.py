"""The coordinator's settings: launch.json in the folder of a submission. Standard library, Python 3.9."""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, List, Mapping, Optional, Tuple

from slurm_tf.errors import RunError
from slurm_tf.run import json_file, placeholders
from slurm_tf.run.container_settings import ContainerSettings
from slurm_tf.run.env import INTERRUPTED
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.run.stage_settings import StageSettings
from slurm_tf.run.train_settings import TrainSettings


class GpuNeed(str, Enum):
    """Whether a program is to have GPUs: its role asked for some, the job can do without, or neither."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


# The roles of TensorFlow's tf.data service: its data workers compute the elements of data sets for tasks that train.
DATA_DISPATCHER, DATA_WORKER = "data-dispatcher", "data-worker"
DATA_SERVICE = (DATA_DISPATCHER, DATA_WORKER)
# The strategy of an engine that does not train: Dask, Spark and the like. What its driver does is the job.
ENGINE = "engine"
# The strategy of a job that serves models, and its one role.
SERVE = "serve"
REPLICA = "replica"
# The roles whose first task leads the others.
_LEADS = ("chief", "driver", REPLICA)
# gpu_sharing of a job in which no role says how many GPUs it needs
AS_GIVEN = "as-given"


@dataclass(frozen=True)
class RoleMemory:
    """The memory of a role, in MiB: what all tasks of `roles` on a node have together, or, without these, each task."""

    mib: int
    roles: Tuple[str, ...] = ()


@dataclass(frozen=True)
class RoleSettings:
    """One role. `gpus`: how many each task gets; None: an equal share of what the job has on its node.

    `command`: its program and arguments; () under `slurm-tf launch`, where each task was started with its own.
    `node_gpus`: how many each of its nodes has, at a site whose Slurm knows of none; 0 where Slurm gives them.
    `container`: where its programs run, None for on the node itself. `memory`: what the role has, None where the job
    file does not say; then its tasks divide what is on their nodes.
    """

    name: str
    count: int
    gpus: Optional[int] = 0
    command: Tuple[str, ...] = ()
    node_gpus: int = 0
    container: Optional[ContainerSettings] = None
    memory: Optional[RoleMemory] = None


@dataclass(frozen=True)
class RetrySettings:
    """After which exit codes of its program a run goes on; codes in neither list are retried `unknown` times.

    `fruitless`: the run ends after this many attempts in a row without a new checkpoint. `wait`: seconds before the
    first retry.
    """

    permanent: Tuple[int, ...] = ()
    retryable: Tuple[int, ...] = (INTERRUPTED,)
    unknown: int = 0
    fruitless: int = 3
    wait: float = 0.0


@dataclass(frozen=True)
class WatchSettings:
    """How long a program may go without progress, in seconds; 0: for ever. See launch/decide/hangs.py.

    `coordinator`: how long an agent may hear nothing from the coordinator. `straggler_factor`: a task that is this many
    times slower than the others, for `straggler_time` seconds, is a straggler; 0: none is.
    """

    step: float = 0.0
    compile: float = 0.0
    evaluate: float = 0.0
    output: float = 0.0
    coordinator: float = 0.0
    straggler_factor: float = 0.0
    straggler_time: float = 60.0


@dataclass(frozen=True)
class LaunchSettings:
    """What the coordinator must know of the job file and the site; times in seconds.

    `preflight_factor`: by what factor a node may be slower than others; `preflight_mpi`: the command of the MPI step,
    () for none. `points`: of an array, the values of all params of each point, by its index; of a single run and of one
    point these are `params`, with which the placeholders of commands and env are filled.
    `horovod`: its controller, "" under another strategy. `gpu_sharing`: the job file's key, or AS_GIVEN.
    `host_suffix`: what the fast network adds to a node's host name, "" for nothing.
    `gpus_optional`: a program that has no GPU goes on, whatever its role asked for. `join_required`: a job none of
    whose tasks joins the cluster fails.

    `warning`: the signal of the job's --signal, "USR1", and how long before the limit it comes. `checkpoint_signal`:
    the signal at which a program without slurm_tf.train saves, "" for none. `goes_on`: whether an interrupted run goes
    on in another attempt. `stage`: None where nothing is copied to the nodes' scratch. `serve`: of a job that serves
    models, None for another. Its jobs are points, each the next number, and all with the same settings. `chdir`: the
    working directory of the programs.
    """

    run: str
    local: bool
    strategy: str
    roles: Tuple[RoleSettings, ...]
    env: Mapping[str, str]
    cluster_flags: bool
    gpu_sharing: str
    max_restarts: int
    register_timeout: float
    wait: float
    kill_wait: float
    ports: Optional[Tuple[int, int]]
    coordinator_ports: Optional[Tuple[int, int]]
    interface: str
    train: TrainSettings
    host_suffix: str = ""
    gpus_optional: bool = False
    join_required: bool = False
    preflight: bool = False
    preflight_factor: float = 4.0
    preflight_mpi: Tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    horovod: str = ""
    warning: Tuple[str, float] = ("", 0.0)
    checkpoint_signal: str = ""
    goes_on: bool = True
    retry: RetrySettings = RetrySettings()
    watch: WatchSettings = WatchSettings()
    stage: Optional[StageSettings] = None
    serve: Optional[ServeSettings] = None
    chdir: str = ""

    def of_point(self, index: int) -> "LaunchSettings":
        """Return the settings of one point of an array, with its values filled in. Raises RunError."""
        values = self.points.get(str(index))
        if values is None and self.serve:
            values = next(iter(self.points.values()))
        if values is None:
            raise RunError(f"run {self.run} has no point {index}", f"one of {', '.join(self.points)}")
        return replace(self.filled(values), run=f"{self.run}/{index}", points={})

    def filled(self, params: Mapping[str, Any]) -> "LaunchSettings":
        """Return the settings with the placeholders of commands, env and stage filled by the values of `params`."""
        values = {name: placeholders.value_text(value) for name, value in params.items()}

        def filled(words: Tuple[str, ...]) -> Tuple[str, ...]:
            return tuple(placeholders.fill(word, values) for word in words)

        stage = replace(self.stage, paths=filled(self.stage.paths)) if self.stage else None
        return replace(
            self,
            params=params,
            stage=stage,
            roles=tuple(replace(role, command=filled(role.command)) for role in self.roles),
            env={name: placeholders.fill(text, values) for name, text in self.env.items()},
        )

    def gpu_need(self, role: str) -> GpuNeed:
        """Return whether the programs of `role` are to have GPUs."""
        if self.gpus_optional:
            return GpuNeed.OPTIONAL
        asked = any(each.gpus != 0 for each in self.roles if each.name == role)
        return GpuNeed.REQUIRED if asked and self.gpu_sharing != AS_GIVEN else GpuNeed.NONE

    @property
    def step_containers(self) -> List[ContainerSettings]:
        """The containers that srun enters: those of all roles, or none."""
        found = [role.container for role in self.roles if role.container]
        return [each for each in found if not each.runtime.wraps]

    @property
    def lead(self) -> str:
        """The task whose end is that of the job: an engine's driver, the chief, or worker 0 where there is none.

        Of a service, whose replicas are all alike, the first one.
        """
        first = next((role.name for role in self.roles if role.name in _LEADS and role.count), "worker")
        return f"{first}:0"

    @property
    def shares_addresses(self) -> bool:
        """Whether programs need addresses that TF_CONFIG does not have: of an engine, of one service or the other."""
        return self.strategy in (ENGINE, SERVE) or any(role.name in DATA_SERVICE for role in self.roles)

    @property
    def tasks(self) -> List[Tuple[str, int]]:
        """(role, index) of every task, in rank order."""
        return [(role.name, index) for role in self.roles for index in range(role.count)]


def read_settings(submission: SubmissionFolder) -> LaunchSettings:
    """Return the settings of a submission. Raises RunError or OSError."""
    return json_file.read(submission.settings, LaunchSettings)


def write_settings(submission: SubmissionFolder, settings: LaunchSettings) -> None:
    """Write the settings of a submission. Raises OSError."""
    json_file.write(submission.settings, settings)
