"""Runs one step of the job: its launchers, srun or launch/direct/local_tasks.py, from their start to their end."""

import contextlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import time
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple, cast

from slurm_tf.launch.agent import process_tree
from slurm_tf.launch.decide.restarts import describe
from slurm_tf.launch.mapping import step_environ
from slurm_tf.launch.transport import ports
from slurm_tf.run import env
from slurm_tf.run.settings import LaunchSettings

# How long the launcher may take to exit after every agent was told to leave, and again after each signal.
_SECONDS = 10.0
# Not passed to srun, which gives a step its job's memory without them. Where two components of a heterogeneous job set
# two of them, srun ends with "SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU, and SLURM_MEM_PER_NODE are mutually exclusive"
# (22.05.8).
_NOT_FOR_SRUN = ("SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE")
# Nor to several sruns, which share the job's nodes: what the job has on a node is more than one of them asks for.
_NOT_FOR_SEVERAL = (
    "SLURM_CPUS_PER_TASK", "SLURM_GPUS", "SLURM_NPROCS", "SLURM_NTASKS", "SLURM_TASKS_PER_NODE", "SLURM_TRES_PER_TASK",
)  # fmt: skip


# How much of what the launcher printed is read.
_PRINTED = 1 << 16


class Step:
    """One start of all tasks: the processes of its launchers, each of which leads its own session and process group.

    Of several launchers, each starts a step of Slurm's for one role: here they are one, and begin and end together.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        settings: LaunchSettings,
        port: int,
        secret: bytes,
        of_images: FrozenSet[str] = frozenset(),
    ) -> None:
        """Start the launchers, whose agents reach the coordinator at `port`. Raises OSError.

        `of_images`: the variables that images set, of containers that srun enters.
        """
        self._signals = [signal.SIGTERM, signal.SIGKILL]
        self._next_at: Optional[float] = None
        self._file_limits: Dict[int, Dict[int, Tuple[int, int]]] = {}
        self._printed_from = _size_of_stderr()
        environ = _environ(settings, port, secret, len(commands) > 1, of_images)
        self._launchers = [
            # found here: the launchers' environment may have no PATH
            subprocess.Popen(
                command,
                executable=shutil.which(command[0]),
                env=environ,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            for command in map(list, commands)
        ]

    @property
    def end_in_words(self) -> str:
        """How a launcher ended; "" while all run."""
        ended = [each for each in self._launchers if each.poll() is not None]
        return f"{_name(ended[0])} {describe(ended[0].returncode)}" if ended else ""

    @property
    def printed(self) -> str:
        """The beginning of what was printed to stderr since the start, "" unless it is a file, as Slurm makes it.

        A pipe to read a launcher's own words from would end with this process, and its tasks print through the same.
        """
        return self._stderr_from(self._printed_from)

    @property
    def last_printed(self) -> str:
        """The end of what was printed to stderr since the start; "" as for `printed`."""
        size = _size_of_stderr()
        return self._stderr_from(None if size is None else max(size - _PRINTED, self._printed_from or 0))

    def _stderr_from(self, start: Optional[int]) -> str:
        with contextlib.suppress(OSError):
            if start is not None and self._printed_from is not None:
                with open("/proc/self/fd/2", "rb") as file:
                    file.seek(start)
                    return file.read(_PRINTED).decode("utf-8", "replace")
        return ""

    def keep_if_srun_is_killed(self) -> None:
        """Keep srun's shepherd, a child process of srun, from having the whole step killed as soon as srun is killed.

        After a batch script was killed Slurm kills the processes that it left, srun and the shepherd too. On a busy
        node the shepherd often still told slurmctld to kill the step (_shepherd_spawn in srun_job.c, 22.05.8), and no
        agent could save. Here its limit of file descriptors is set to 0, so that it cannot connect and tries again each
        second; the limit is restored when its srun has ended by itself.
        """
        for srun in self._launchers:
            if os.path.basename(_name(srun)) == "srun":
                command_line = _command_line(srun.pid)
                for pid in process_tree.children(srun.pid):
                    if command_line and _command_line(pid) == command_line:
                        self._set_no_file_descriptors(srun.pid, pid)

    def end(self, now: float, agents_were_told: bool) -> None:
        """Begin to end the step: `tick` sends its launchers SIGTERM, then SIGKILL.

        `agents_were_told`: all agents were told to leave, and have time to do so first. A second call changes nothing.
        """
        if self._next_at is None:
            self._next_at = now + _SECONDS if agents_were_told else now

    @property
    def is_ending(self) -> bool:
        """Whether `end` was called."""
        return self._next_at is not None

    def tick(self, now: float) -> bool:
        """Send the launchers the next signal, if it is due; return whether all have ended."""
        running = []
        for each in self._launchers:
            if each.poll() is None:
                running.append(each)
            else:
                self._restore_file_descriptors(each.pid)
        if not running:
            return True
        if self._next_at is None or now < self._next_at:
            return False
        self._next_at = now + _SECONDS
        if not self._signals:
            return True
        number = self._signals.pop(0)
        for each in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, number)
        return False

    @property
    def wakes_at(self) -> Optional[float]:
        """When the next signal is due, None unless the step is ending."""
        return self._next_at

    def wait(self) -> None:
        """Wait until all launchers have ended; `end` must have been called."""
        while not self.tick(time.monotonic()):
            running = next((each for each in self._launchers if each.poll() is None), None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if running:
                    running.wait(max(0.0, (self._next_at or 0.0) - time.monotonic()))

    def _set_no_file_descriptors(self, srun: int, pid: int) -> None:
        with contextlib.suppress(OSError):
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, limits[1]))
            self._file_limits.setdefault(srun, {})[pid] = limits

    def _restore_file_descriptors(self, srun: int) -> None:
        for pid, limits in self._file_limits.pop(srun, {}).items():
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def _name(launcher: "subprocess.Popen[bytes]") -> str:
    """Return the command of a launcher, without its arguments."""
    return cast(List[str], launcher.args)[0]


def _size_of_stderr() -> Optional[int]:
    """Return the size of the file that stderr is, None if it is no file."""
    with contextlib.suppress(OSError):
        found = os.fstat(2)
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    return None


def _command_line(pid: int) -> bytes:
    """Return a process's command line, the parent's for one that was only forked; empty if it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
    return b""


def _environ(
    settings: LaunchSettings, port: int, secret: bytes, has_several: bool, of_images: FrozenSet[str]
) -> Dict[str, str]:
    """Return the environment of the launchers; `has_several`: they share what the job has."""
    dropped = _NOT_FOR_SRUN + (_NOT_FOR_SEVERAL if has_several else ())
    inherited: Mapping[str, str] = os.environ
    if containers := settings.step_containers:
        inherited = step_environ.environ_of_srun(os.environ, containers, of_images)
    hosts = ["127.0.0.1"] if settings.local else ports.own_addresses(settings.interface, settings.host_suffix)
    return {
        **{name: value for name, value in inherited.items() if not name.startswith(dropped)},
        env.COORDINATOR: f"{','.join(hosts)}:{port}",
        env.SECRET: secret.hex(),
        env.REGISTER_TIMEOUT: str(settings.register_timeout),
        env.PROGRAM_ENV: json.dumps(dict(settings.env)),
    }
