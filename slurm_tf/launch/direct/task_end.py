"""Runs the program of `slurm-tf launch --json` as a child, and prints how it ended: a line of JSON for each task.

stdout is for these lines alone, so that `srun slurm-tf launch --json ... > ends.jsonl` writes one for each task and
nothing else: what the program prints goes to stderr.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import Mapping, Optional, Sequence

from slurm_tf.launch.agent.child import die_with
from slurm_tf.run import process_end

_STDOUT, _STDERR = 1, 2
# What srun, scancel and Slurm itself send to tasks. With proctrack/linuxproc the program gets it twice.
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class TaskEnd:
    """How one task ended; `rank` and `node` as Slurm says. None: unknown.

    `task`: its name, None where the tasks formed no cluster; `signal`: what ended the program; `seconds`: how long it
    ran, None if it did not start; `reason`: why it did not.
    """

    task: Optional[str]
    rank: Optional[int]
    node: Optional[str]
    exit_code: int
    signal: Optional[str] = None
    seconds: Optional[float] = None
    reason: Optional[str] = None


def run(task: str, argv: Sequence[str], environ: Mapping[str, str], inherited: Sequence[int]) -> int:
    """Run the program of a task, print how it ended, and return its exit code, as a shell does that of a signal.

    `inherited`: the file descriptors that it inherits. Raises OSError if it cannot be started.
    """
    die, unblocked = die_with(os.getpid()), signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)

    def before_exec() -> None:
        die()
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    started = time.monotonic()
    process = subprocess.Popen(
        list(argv),
        env=dict(environ),
        stdout=_STDERR,
        pass_fds=list(inherited),
        preexec_fn=before_exec,  # noqa: PLW1509 - this process has one thread
    )
    for number in _PASSED_ON:
        signal.signal(number, lambda each, _: process.send_signal(each))
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    code = process.wait()
    ended_by = process_end.signal_name(-code) if code < 0 else None
    code = 128 - code if code < 0 else code
    seconds = round(time.monotonic() - started, 3)
    _print(TaskEnd(task, *_place(environ), code, ended_by, seconds))
    return code


def print_not_started(task: Optional[str], code: int, reason: str) -> None:
    """Print that the program of this task was not started, and why."""
    _print(TaskEnd(task, *_place(os.environ), code, reason=reason))


def _place(environ: Mapping[str, str]) -> "tuple[Optional[int], Optional[str]]":
    """Return the rank and the node of this task."""
    rank = environ.get("SLURM_PROCID", "")
    return int(rank) if rank.isdigit() else None, environ.get("SLURMD_NODENAME")


def _print(end: TaskEnd) -> None:
    """Print one line in one write: tasks print at the same time. srun, which reads it, may be gone."""
    with contextlib.suppress(OSError):
        os.write(_STDOUT, f"{json.dumps(asdict(end))}\n".encode())
