"""The program of a task of a service: runs its replica processes, and ends them once another job has taken over.

    python -m slurm_tf.serve.replica_task

Each process is python -m slurm_tf.serve.replica SETTINGS.json. One that dies is started again, unless it never answers.
Standard library, Python 3.9.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from slurm_tf import files
from slurm_tf.errors import AllocationError, RunError, SlurmTfError
from slurm_tf.launch.agent.memory_cgroup import MemoryCgroup
from slurm_tf.run import env, process_end, replica_ends, serve_settings
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.replica_ends import ReplicaEnd
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, RequestLogSettings, ServedModel
from slurm_tf.serve.replica_watch import ReplicaWatch
from slurm_tf.slurm import in_job, out_of_memory

_PROGRAM = ("-m", "slurm_tf.serve.replica")
_POLL_SECONDS = 0.5
# A process that ends is started again after this time, which doubles up to the second one until it answers.
_PAUSE_SECONDS, _LONGEST_PAUSE = 1.0, 60.0
# The task ends once a process has ended so often without an answer, with EX_UNAVAILABLE of sysexits.h.
_FRUITLESS = 3
_UNAVAILABLE = 69
_CPUS_OF_PROCESS = 4
# Where some replicas of the other job do not come, those that did take over this long before this job's end.
_HURRY_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """Where this task is. `number`: of the job in its service, 0 without Slurm; `task`: of the task; `tasks`: how many.

    `address`: by which others reach it. `ends`: when the allocation ends, in seconds since 1970, None if not known.
    """

    number: int
    task: int
    tasks: int
    job: str
    address: str
    ends: Optional[float]
    cpus: int
    has_gpus: bool

    @property
    def is_local(self) -> bool:
        """Whether this is no job of Slurm: only programs of this machine are to reach it."""
        return not self.job


def place(environ: Mapping[str, str]) -> Place:
    """Return where this task is. Raises AllocationError."""
    name = environ.get(env.RUN_FOLDER, "")
    task = environ.get(env.TASK, "").rpartition(":")[2]
    if not name or not task.isdecimal():
        raise AllocationError("this is no task of a service", "a job with strategy serve", "slurm-tf serve MODEL")
    number = os.path.basename(name)
    job = environ.get("SLURM_JOB_ID", "")
    given = environ.get("SLURM_CPUS_PER_TASK", "")
    return Place(
        number=int(number) if job and number.isdecimal() else 0,
        task=int(task),
        tasks=int(environ.get("SLURM_NTASKS") or 1),
        job=job,
        address=environ[env.ADDRESS].rpartition(":")[0].strip("[]") if job else "127.0.0.1",
        ends=_ends(job, environ) if job else None,
        cpus=int(given) if given.isdecimal() else len(os.sched_getaffinity(0)),
        has_gpus=bool(environ.get("CUDA_VISIBLE_DEVICES")),
    )


def processes(settings: ServeSettings, here: Place) -> int:
    """Return how many replica processes the task has."""
    if settings.processes:
        return settings.processes
    return 1 if here.has_gpus or here.is_local else max(1, here.cpus // _CPUS_OF_PROCESS)


def replica_name(number: int, task: int, process: int) -> str:
    """Return the name of a replica: no other one of the service has it, in whichever job."""
    return f"{number}-{task}-{process}"


def number_of(replica: str) -> int:
    """Return the number of a replica's job in its service."""
    return int(replica.partition("-")[0])


def of_process(settings: ServeSettings, here: Place, process: int) -> ReplicaSettings:
    """Return what one replica process is told."""
    service = RunFolder(settings.folder)
    batching = Batching(max_batch_size=settings.max_batch_size, batch_timeout_micros=settings.batch_timeout_micros)
    return ReplicaSettings(
        replica=replica_name(here.number, here.task, process),
        models=tuple(ServedModel(name, base, batching) for name, base in settings.models.items()),
        endpoint_folder=service.endpoints,
        job=here.job,
        ends=here.ends,
        host=here.address,
        address=here.address,
        grpc_port=_port(here.address, settings.ports),
        rest_port=_port(here.address, settings.ports),
        token_file=None if settings.is_open else service.token,
        open=settings.is_open,
        certificate_file=settings.certificate,
        key_file=settings.key,
        request_log=RequestLogSettings(service.requests),
    )


def _ends(job: str, environ: Mapping[str, str]) -> Optional[float]:
    """Return when the job's time is over, None where Slurm does not say: in most containers there is none."""
    if not in_job.has_commands(environ):
        return None
    return in_job.job_status(in_job.ask(in_job.job_status_command(job), environ)).ends


def _port(address: str, ports: Optional[Tuple[int, int]]) -> int:
    """Return a port of the site's range that is free now, 0 without a range. Raises AllocationError."""
    if ports is None:
        return 0
    first, last = ports
    start = int.from_bytes(os.urandom(4), "big")
    for step in range(last - first + 1):
        port = first + (start + step) % (last - first + 1)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as tried, contextlib.suppress(OSError):
            tried.bind((address, port))
            return port
    raise AllocationError(f"no port from {first} to {last} is free on {address}", "one for each replica")


class MemoryKills:
    """The processes of a task that the kernel has killed for their memory."""

    def __init__(self) -> None:
        self._cgroup = MemoryCgroup()
        self._explained = self._cgroup.kills

    def words(self, code: int) -> str:
        """Return in words that a process which ended with `code` was one of them, "" if it was none."""
        if code != -signal.SIGKILL or self._cgroup.kills <= self._explained:
            return ""
        self._explained += 1
        used, limit = self._cgroup.memory
        return out_of_memory.words({}, limit, used)


class Process:
    """One replica process, which is started again when it dies. `is_hopeless`: it never answered, several times."""

    def __init__(
        self,
        settings: ReplicaSettings,
        folder: str,
        environ: Mapping[str, str],
        program: Sequence[str],
        kills: MemoryKills,
    ) -> None:
        """`folder`: of the job, where its settings are written; `program`: the words behind "python"."""
        self.name = settings.replica
        self._settings, self._folder, self._environ, self._program = settings, RunFolder(folder), environ, program
        self._path = os.path.join(folder, f"replica-{self.name}.json")
        self._kills, self._times = kills, 0
        self._pause, self._due, self._fruitless = _PAUSE_SECONDS, 0.0, 0
        self._has_answered = False
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_hopeless(self) -> bool:
        """Whether it has ended several times without an answer."""
        return self._fruitless >= _FRUITLESS

    def keep(self, answers: bool, now: float) -> None:
        """Start it if it does not run and is due; `answers`: whether its endpoint is there."""
        if self.lives:
            if answers and not self._has_answered:
                self._has_answered, self._fruitless, self._pause = True, 0, _PAUSE_SECONDS
            return
        if self._process is not None:
            self._ended(now)
        if now >= self._due and not self.is_hopeless:
            replica_settings.write(self._path, self._settings)
            command = [sys.executable, *self._program, self._path]
            self._process = subprocess.Popen(command, env=dict(self._environ), stdin=subprocess.DEVNULL)

    def end(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _ended(self, now: float) -> None:
        code = self._process.returncode if self._process else 0
        why = self._kills.words(code) or process_end.exit_status(code)
        self._fruitless += not self._has_answered
        say(f"replica {self.name} has ended: {why}; it is started again in {self._pause:.0f} s")
        self._times += 1
        try:
            replica_ends.write(self._folder, ReplicaEnd(self.name, self._times, time.time(), why))
        except (RunError, OSError) as error:
            say(f"how it ended cannot be written: {error}")
        endpoint.remove(self._settings.endpoint_folder, self.name)
        self._process, self._has_answered = None, False
        self._due, self._pause = now + self._pause, min(self._pause * 2, _LONGEST_PAUSE)


def has_successor(names: List[str], here: Place, expected: int, now: float) -> bool:
    """Whether another job has taken over: `names` of the replicas that live; `expected`: how many a job has.

    All of the other job's replicas answer; or some, and this job ends soon.
    """
    others: Dict[int, int] = {}
    for name in names:
        if number_of(name) > here.number:
            others[number_of(name)] = others.get(number_of(name), 0) + 1
    most = max(others.values(), default=0)
    hurry = here.ends is not None and here.ends - now < _HURRY_SECONDS
    return most >= expected or (most > 0 and hurry)


def say(text: str) -> None:
    """Print a line for the job's output."""
    sys.stderr.write(f"slurm-tf: {text}\n")
    sys.stderr.flush()


def run(environ: Mapping[str, str], program: Sequence[str] = _PROGRAM) -> int:
    """Run the task until another job has taken over, or a signal ends it; return its exit code.

    `program`: the words behind "python" that start a replica process, before the path of its settings.
    """
    settings, here = serve_settings.from_environ(environ), place(environ)
    count = processes(settings, here)
    folder = environ[env.RUN_FOLDER]
    inner = _environ(environ, here, count)
    kills = MemoryKills()
    running = [Process(of_process(settings, here, process), folder, inner, program, kills) for process in range(count)]
    watch, told = ReplicaWatch(RunFolder(settings.folder).endpoints), _Told()
    expected = here.tasks * count
    while not told.to_end:
        names = [each.replica for each in watch.living()]
        for process in running:
            process.keep(process.name in names, time.monotonic())
        if any(process.is_hopeless for process in running):
            say(f"a replica has ended {_FRUITLESS} times without an answer: the task ends")
            _end(running)
            return _UNAVAILABLE
        if not here.is_local and has_successor(names, here, expected, time.time()):
            say("another job of the service has taken over")
            break
        told.wait(_POLL_SECONDS)
    _end(running)
    return 0


class _Told:
    """Whether a signal said that the task is to end."""

    def __init__(self) -> None:
        self.to_end = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def wait(self, seconds: float) -> None:
        """Wait for a signal, at most so long."""
        self._reader.settimeout(seconds)
        with contextlib.suppress(socket.timeout):
            self._reader.recv(64)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.to_end = True


def _end(running: List[Process]) -> None:
    """End all processes: each answers what it was asked before. Who does not, the agent of the task kills."""
    for process in running:
        process.end()
    while any(process.lives for process in running):
        time.sleep(0.05)


def _environ(environ: Mapping[str, str], here: Place, count: int) -> Dict[str, str]:
    """Return the environment of replica processes: together they have the task's CPUs."""
    threads = str(max(1, here.cpus // count))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return {**dict.fromkeys(names, threads), **environ}


def main() -> None:
    """Run the task of this process's environment."""
    try:
        code = run(os.environ)
    except SlurmTfError as error:
        say(str(error))
        code = error.exit_code
    except OSError as error:
        say(str(files.storage_error(error, "serve")))
        code = os.EX_IOERR
    sys.exit(code)


if __name__ == "__main__":
    main()
