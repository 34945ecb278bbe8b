"""Samples what the GPUs of one task do, every 30 s, into a file of the run: run/gpu_record.py.

It is a process of its own beside the agent, so that neither a driver nor storage that hangs can hold up the agent. It
is killed with the agent, and holds nothing of it.
"""

import contextlib
import os
import shutil
import signal
import time
from typing import Mapping, NoReturn, Optional, Sequence

from slurm_tf.errors import DriverError
from slurm_tf.launch.agent import nvidia_smi
from slurm_tf.launch.agent.child import die_with
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.launch.transport.signal_pipe import REPORTED
from slurm_tf.run import env, gpu_record
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.gpu_record import GpuSample

# The first sample, for programs that end soon, and the time between two.
_FIRST_SECONDS, _SECONDS = 10.0, 30.0
_ANSWER_SECONDS = 10.0
# So many times in a row nvidia-smi may fail until nothing more is sampled: the driver of a GPU that is lost.
_FAILURES = 3
# Training comes first.
_NICE = 10


class GpuSampler:
    """The sampler of a task's program, where the task has GPUs and its node has nvidia-smi."""

    def __init__(self, assignment: Assignment, gpus_on_node: Optional[int]) -> None:
        """`gpus_on_node`: how many the step has there, None where Slurm does not say."""
        self._task, self._has_gpus = assignment.name, bool(gpus_on_node)
        self._pid = 0

    def begin(self, environ: Mapping[str, str]) -> None:
        """Start to sample; `environ`: that of the program, which says what devices it sees."""
        wanted = devices_of(environ, self._has_gpus)
        program = shutil.which("nvidia-smi")
        if wanted is None or program is None:
            return
        parent = os.getpid()
        with contextlib.suppress(OSError):  # it trains without
            self._pid = os.fork()
            if not self._pid:
                _run_alone(parent, program, wanted, environ, self._task)

    def end(self) -> None:
        """Kill it, and do not wait: it may wait for storage."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, os.WNOHANG)
            self._pid = 0


def devices_of(environ: Mapping[str, str], has_gpus: bool) -> Optional[Sequence[str]]:
    """Return the devices of a program, () for all that its node shows it; None if it has no GPU.

    `has_gpus`: whether Slurm gave its step some; a task that is bound to none of them in particular sees all.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return () if has_gpus else None
    return nvidia_smi.devices(visible) or None


def _run_alone(parent: int, program: str, wanted: Sequence[str], environ: Mapping[str, str], task: str) -> NoReturn:
    """Be the sampler, in a process that was forked off the agent: without its signals, its files and its output."""
    try:
        die_with(parent)()
        signal.set_wakeup_fd(-1)
        for number in REPORTED:  # what Slurm sends to all processes of a step is for the program
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        os.nice(_NICE)
        sample_until_killed(program, wanted, RunFolder(environ[env.RUN_FOLDER]), task, environ[env.ATTEMPT])
    finally:
        os._exit(0)


def sample_until_killed(program: str, wanted: Sequence[str], folder: RunFolder, task: str, attempt: str) -> None:
    """Sample until this process is killed, or as long as nvidia-smi can be used."""
    failures, pause = 0, _FIRST_SECONDS
    while failures < _FAILURES:
        time.sleep(pause)
        pause = _SECONDS
        try:
            states = nvidia_smi.sample(program, wanted, _ANSWER_SECONDS)
            gpu_record.add(folder, task, attempt, GpuSample(round(time.time(), 3), states))
            failures = 0
        except DriverError as error:
            # a driver that hangs would hold one more process at each further try
            failures = _FAILURES if error.hangs else failures + 1
            if failures >= _FAILURES:
                with contextlib.suppress(OSError):
                    gpu_record.stop(folder, task, f"nvidia-smi on {os.uname().nodename}: {error.found}")
        except OSError:  # a full disk may have room later
            continue
