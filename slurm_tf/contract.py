"""What one stage of a job leaves for the next: every variable, every file of a run, and the version of both.

Written on the login node, read inside the job and inside the user's program; runs on Python 3.9. Whoever reads
something of another version says so (`check_version`) instead of guessing.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from slurm_tf.errors import RunError

VERSION = 1

# --- coordinator -> agent, in the environment of the step ---
# "host,host,...:port", the addresses to try in this order
COORDINATOR = "SLURM_TF_COORDINATOR"
# seconds until which an agent must have found its coordinator
REGISTER_TIMEOUT = "SLURM_TF_REGISTER_TIMEOUT"
# hexadecimal, 32 bytes; the agent takes it out of the program's environment
SECRET = "SLURM_TF_SECRET"

# the job file's [env], as JSON: set for the program alone, so that it cannot break the launcher's own Python
PROGRAM_ENV = "SLURM_TF_PROGRAM_ENV"

# --- user -> doors without a coordinator (launch/doors.py), beside REGISTER_TIMEOUT and STRATEGY ---
ROLES = "SLURM_TF_ROLES"  # "chief=1,ps=1,worker=3", in rank order
EXCHANGE = "SLURM_TF_EXCHANGE"  # the folder where the tasks meet
PORTS = "SLURM_TF_PORTS"  # "20000-20999"; for an agent too, as a site's TaskProlog may give each user ports
INTERFACE = "SLURM_TF_INTERFACE"
GPU_SHARING = "SLURM_TF_GPU_SHARING"  # "split" or "all"
# and SLURM_TF_PYTHON, which only the shell script of a TaskProlog reads (submit/plugin.py)

# --- agent -> program, beside TF_CONFIG ---
CONTRACT = "SLURM_TF_CONTRACT"  # VERSION
RUN = "SLURM_TF_RUN"  # the run's name
RUN_FOLDER = "SLURM_TF_RUN_FOLDER"
STRATEGY = "SLURM_TF_STRATEGY"
TASK = "SLURM_TF_TASK"  # "worker:0", also where there is no TF_CONFIG
ATTEMPT = "SLURM_TF_ATTEMPT"  # as in the run's lease: "12_3.0" is the first incarnation of job 12_3
STEP = "SLURM_TF_STEP"  # how many steps the attempt has had before this one, as in the run's lease
RESTARTS = "SLURM_TF_RESTARTS"  # how often this task was started again in its allocation
CHECKPOINT_FOLDER = "SLURM_TF_CHECKPOINT_FOLDER"
CHECKPOINT_EVERY = "SLURM_TF_CHECKPOINT_EVERY"  # seconds; absent if steps or costs decide
CHECKPOINT_MTBF = "SLURM_TF_CHECKPOINT_MTBF"  # mean seconds between interruptions, where the interval is chosen by it
CHECKPOINT_EVERY_STEPS = "SLURM_TF_CHECKPOINT_EVERY_STEPS"
CHECKPOINT_KEEP = "SLURM_TF_CHECKPOINT_KEEP"
ACCUMULATE = "SLURM_TF_ACCUMULATE"  # these four: the job file's [train]
MIXED_PRECISION = "SLURM_TF_MIXED_PRECISION"
BYTES_PER_PACK = "SLURM_TF_BYTES_PER_PACK"
COLLECTIVE = "SLURM_TF_COLLECTIVE"
EXPORT_FOLDER = "SLURM_TF_EXPORT_FOLDER"
TENSORBOARD_FOLDER = "SLURM_TF_TENSORBOARD_FOLDER"
# number of an inherited socket: lines of JSON between the program and its agent, see launch/agent.py
CONTROL_FD = "SLURM_TF_CONTROL_FD"
# exit code of a program that was told to save and to end: EX_TEMPFAIL of sysexits.h
INTERRUPTED = 75

# how the names of RunFolder.claim begin
CLAIM = "alone."

# --- submission -> accounting: what tells whose hours these are. A template is the `name` of a job file ---
JOB_NAME = "stf-"  # before the template, in the job's name
COMMENT = "slurm-tf run="

# Never in a job's [env]: what Slurm and the launcher decide.
RESERVED_PREFIXES = ("SLURM_", "SLURMD_")
RESERVED = ("TF_CONFIG", "CUDA_VISIBLE_DEVICES")


def check_version(found: object, what: str) -> None:
    """Raise RunError unless `found` is this contract's version."""
    if str(found) != str(VERSION):
        raise RunError(
            f"{what} is of contract version {found}",
            f"version {VERSION}",
            "use one release of slurm-tf for submission and for slurm_tf.train in the job's Python",
        )


def comment(run: str, template: str) -> str:
    """Return the comment of a job; a run's name, which is a folder's, has no slash."""
    return f"{COMMENT}{run}/template={template}"


def read_comment(text: str) -> Tuple[str, str]:
    """Return the run and the template that a comment names, "" for both where it is none of ours."""
    run, slash, template = text.partition("/template=")
    return (run[len(COMMENT) :], template) if slash and run.startswith(COMMENT) else ("", "")


@dataclass(frozen=True)
class RunFolder:
    """The name of every file of one run."""

    path: str

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return os.path.basename(self.path)

    @property
    def script(self) -> str:
        """The rendered batch script."""
        return os.path.join(self.path, "script.sbatch")

    @property
    def launcher(self) -> str:
        """The zip file of slurm_tf.launch that the script runs: a requeue never runs edited launcher code."""
        return os.path.join(self.path, "launch.pyz")

    @property
    def settings(self) -> str:
        """LaunchSettings as JSON."""
        return os.path.join(self.path, "launch.json")

    @property
    def manifest(self) -> str:
        """Where this run came from, as JSON: resolved job, site, versions."""
        return os.path.join(self.path, "manifest.json")

    @property
    def cluster(self) -> str:
        """The cluster of the newest attempt, as JSON: task, node, address, GPUs."""
        return os.path.join(self.path, "cluster.json")

    @property
    def status(self) -> str:
        """How the newest attempt is doing, as JSON: see launch/status.py."""
        return os.path.join(self.path, "status.json")

    @property
    def attempts(self) -> str:
        """How each attempt of the run went, as JSON: see launch/attempts.py."""
        return os.path.join(self.path, "attempts.json")

    @property
    def jobs(self) -> str:
        """What was submitted for the run, as JSON: see submit/submissions.py; of a point, the jobs that followed."""
        return os.path.join(self.path, "jobs.json")

    @property
    def preflight(self) -> str:
        """What the newest preflight measured, as JSON: see launch/preflight.py."""
        return os.path.join(self.path, "preflight.json")

    @property
    def preflight_script(self) -> str:
        """The batch script of a preflight alone."""
        return os.path.join(self.path, "preflight.sbatch")

    @property
    def mpi_probe(self) -> str:
        """The copy of train/mpi_probe.py, where the job's preflight is to measure MPI."""
        return os.path.join(self.path, "mpi_probe.py")

    @property
    def probes(self) -> str:
        """The folder where the nodes of a preflight write and read."""
        return os.path.join(self.path, "preflight")

    @property
    def bad_nodes(self) -> str:
        """Nodes that the next attempt leaves out, as JSON: see launch/bad_nodes.py."""
        return os.path.join(self.path, "bad_nodes.json")

    @property
    def cancelled(self) -> str:
        """There if the run was cancelled: no attempt may start."""
        return os.path.join(self.path, "cancelled")

    @property
    def lease(self) -> str:
        """Whose the run is, as JSON: see Lease."""
        return os.path.join(self.path, "lease.json")

    def claim(self, attempt: str) -> str:
        """There if an agent of `attempt`, which has lost its coordinator, sees to it that the run goes on."""
        return os.path.join(self.path, f"{CLAIM}{attempt}")

    @property
    def rehearsal(self) -> str:
        """What `slurm-tf interrupt` asks the living attempt for, as JSON: see launch/rehearsal.py."""
        return os.path.join(self.path, "rehearsal.json")

    @property
    def logs(self) -> str:
        """The folder of logs, one file a task."""
        return os.path.join(self.path, "logs")

    @property
    def checkpoints(self) -> str:
        """The folder of checkpoints."""
        return os.path.join(self.path, "checkpoints")

    @property
    def exports(self) -> str:
        """The folder for SavedModels."""
        return os.path.join(self.path, "export")

    @property
    def tensorboard(self) -> str:
        """The folder for what TensorBoard shows."""
        return os.path.join(self.path, "tensorboard")

    @property
    def folders(self) -> Tuple[str, ...]:
        """All that a program or its agent may write to: made before anything starts."""
        return (self.logs, self.checkpoints, self.exports, self.tensorboard)

    def point(self, index: int) -> "RunFolder":
        """The folder of one task of an array, which is a run of its own."""
        return RunFolder(os.path.join(self.path, str(index)))

    def code(self, number: int) -> str:
        """The `number`-th copy of the program's code; each submission has its own."""
        return os.path.join(self.path, f"code-{number}")

    def log(self, role: str, index: int) -> str:
        """The file that holds what one task printed, over all attempts."""
        return os.path.join(self.logs, f"{role}-{index}.log")


@dataclass(frozen=True)
class Lease:
    """The attempt that may write to a run: one incarnation of one job.

    `attempt`: the job's id, a dot, how often Slurm restarted it. `job`: its id as Slurm's commands take it, "" without
    Slurm. `process`: of the coordinator on `host`, its id, a dash, its start (field 22 of /proc/PID/stat). `at`: when,
    seconds since the epoch. `step`: how many steps the attempt has had; what is left of a former one may not write.
    """

    attempt: str
    job: str
    host: str
    process: str
    at: float
    step: int = 0

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps({"contract": VERSION, **asdict(self)}, indent=1) + "\n"


def read_lease(folder: RunFolder) -> Optional[Lease]:
    """Return whose the run is, None if nobody has taken it. Raises RunError or OSError."""
    try:
        with open(folder.lease, encoding="utf-8") as file:
            values = json.load(file)
        check_version(values.pop("contract", "none"), folder.lease)
        return Lease(**values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        needed, do = "the file that an attempt wrote", "remove it if no attempt lives"
        raise RunError(f"{folder.lease} is no lease ({error})", needed, do) from error


@dataclass(frozen=True)
class RoleSettings:
    """One role of the plan. `gpus` is how many each task is to get; None: some, as many as its node divides."""

    name: str
    count: int
    gpus: Optional[int] = 0


@dataclass(frozen=True)
class RetrySettings:
    """When a run goes on after a bad end, by exit code; codes in neither list are retried `unknown` times.

    `fruitless`: so many attempts in a row without a new checkpoint end the run. `wait`: seconds before the first retry.
    """

    permanent: Tuple[int, ...] = ()
    retryable: Tuple[int, ...] = (INTERRUPTED,)
    unknown: int = 0
    fruitless: int = 3
    wait: float = 0.0


@dataclass(frozen=True)
class WatchSettings:
    """How long a program may make no progress, in seconds; 0: for ever. See launch/watchdog.py.

    `coordinator`: how long that may say nothing to an agent. `straggler_factor`: so many times slower than others is
    slow, 0: never; `straggler_time`: after so many seconds.
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
    """What the coordinator must know about the plan; times in seconds.

    `preflight_factor`: by what factor a node may be slower than others; `preflight_mpi`: the Python of the MPI step.
    `train`: variables for slurm_tf.train. `points`: of an array, the values of each task by its index; `point`: the
    values of this run. `horovod`: its controller, "" under another strategy. `checkpoint_mtbf`: mean time between
    failures of one node, where the interval between checkpoints is chosen by it.

    `warning`: the signal of the job's --signal, "USR1", and how long before the limit it comes. `checkpoint_signal`:
    what a program that does not use slurm_tf.train saves at, "" for none. `goes_on`: whether what is interrupted does.
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
    checkpoint_every: Optional[float]
    checkpoint_every_steps: Optional[int]
    checkpoint_keep: int
    preflight: bool = False
    preflight_factor: float = 4.0
    preflight_mpi: str = ""
    train: Mapping[str, str] = field(default_factory=dict)
    point: Mapping[str, str] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    horovod: str = ""
    checkpoint_mtbf: Optional[float] = None
    warning: Tuple[str, float] = ("", 0.0)
    checkpoint_signal: str = ""
    goes_on: bool = True
    retry: RetrySettings = RetrySettings()
    watch: WatchSettings = WatchSettings()

    def of_point(self, index: int) -> "LaunchSettings":
        """Return the settings of one task of the array. Raises RunError."""
        if str(index) not in self.points:
            raise RunError(f"run {self.run} has no point {index}", f"one of {', '.join(self.points)}")
        return replace(self, run=f"{self.run}/{index}", point=self.points[str(index)], points={})

    def to_json(self) -> str:
        """Return the text of the settings file."""
        return json.dumps({"contract": VERSION, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LaunchSettings":
        """Return the settings that `text` holds; RunError if another version wrote them."""
        values: Dict[str, Any] = json.loads(text)
        check_version(values.pop("contract", "none"), "launch.json")
        values["roles"] = tuple(RoleSettings(**role) for role in values["roles"])
        for name in ("ports", "coordinator_ports"):
            values[name] = tuple(values[name]) if values[name] else None
        values["warning"] = tuple(values["warning"])
        retry = values["retry"]
        lists = {name: tuple(retry[name]) for name in ("permanent", "retryable")}
        values["retry"] = RetrySettings(**{**retry, **lists})
        values["watch"] = WatchSettings(**values["watch"])
        return cls(**values)

    @property
    def tasks(self) -> List[Tuple[str, int]]:
        """(role, index) of every task, in rank order."""
        return [(role.name, index) for role in self.roles for index in range(role.count)]
