"""Runs a command beside the living program of a task, on its node and in its environment: `slurm-tf attach`."""

import contextlib
import os
import signal
import sys
from typing import Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

from slurm_tf.errors import AllocationError
from slurm_tf.launch.agent import command_failure
from slurm_tf.launch.log import say
from slurm_tf.run import env

# Of the program alone: its connections to its agent and to MPI, where another process would be taken for it.
_NOT_FOR_OTHERS = (env.CONTROL_FD,)
_NOT_FOR_OTHERS_PREFIXES = ("PMI_", "PMIX_", "OMPI_COMM_WORLD_")
# What says how the user's own terminal works.
_OF_TERMINAL = ("TERM", "COLORTERM", "LINES", "COLUMNS")
# Slurm's variables that say how a task is bound to its GPUs.
_BINDINGS = ("SLURMD_TRES_BIND", "SLURM_TRES_BIND")


class _Program(NamedTuple):
    """A process that is the program of a task; `started`: in ticks since the boot."""

    started: int
    pid: int
    environ: Dict[str, str]


def main(arguments: Sequence[str]) -> NoReturn:
    """attach RUN_FOLDER TASK -- [COMMAND...]"""
    folder, task, _, *command = arguments
    try:
        program = find(folder, task)
        if program is None:
            raise AllocationError(
                f"found no program of {task} on {os.uname().nodename}",
                "a task whose program runs",
                "it may have ended a moment ago, or be started again in a moment: slurm-tf status shows its tasks",
            )
    except AllocationError as error:
        say(str(error))
        sys.exit(error.exit_code)
    environ, remark = environment(program.environ, os.environ, task)
    if remark:
        say(remark)
    with contextlib.suppress(OSError):  # it may have gone
        os.chdir(f"/proc/{program.pid}/cwd")
    argv = list(command) or [environ.get("SHELL") or "/bin/sh", "-i"]
    if not command and not sys.stdin.isatty():
        argv.pop()  # it reads commands
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, environ)  # noqa: S606
    except OSError as error:
        say(f"cannot start {argv[0]!r}: {error.strerror}")
        sys.exit(command_failure.exit_code(error))


def find(folder: str, task: str) -> Optional[_Program]:
    """Return the program of a task of the run in `folder`: of the user's processes, the one that an agent started."""
    found: List[_Program] = []
    for name in os.listdir("/proc"):
        environ = _environ(name) if name.isdigit() else {}
        if environ.get(env.TASK) == task and environ.get(env.RUN_FOLDER) == folder:
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent, started = _stat(name)
                if b"agent" in _read(f"/proc/{parent}/cmdline").split(b"\0"):
                    found.append(_Program(started, int(name), environ))
    return min(found, default=None)


def environment(program: Mapping[str, str], own: Mapping[str, str], task: str) -> Tuple[Dict[str, str], str]:
    """Return the environment for a command beside a program, and a remark where it is not the program's own.

    Where Slurm has bound a task to GPUs of its own, each task calls its first one 0: in another step that may be
    another GPU.
    """
    environ = {
        name: value
        for name, value in program.items()
        if name not in _NOT_FOR_OTHERS and not name.startswith(_NOT_FOR_OTHERS_PREFIXES)
    }
    environ.update({name: own[name] for name in _OF_TERMINAL if name in own})
    visible = own.get("CUDA_VISIBLE_DEVICES")
    is_bound = any("gpu:" in program.get(name, "") for name in _BINDINGS)
    if not is_bound or visible is None or not program.get("CUDA_VISIBLE_DEVICES"):
        return environ, ""
    environ["CUDA_VISIBLE_DEVICES"] = visible
    return environ, f"warning: Slurm gave {task} GPUs of its own; those here may be other ones of the job: {visible}"


def _environ(pid: str) -> Dict[str, str]:
    """Return the environment with which a process was started; {} if it is not ours, or gone."""
    try:
        pairs = _read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(each).split("=", 1) for each in pairs if b"=" in each)


def _stat(pid: str) -> Tuple[int, int]:
    """Return the parent of a process, and when it started."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]), int(fields[19])


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
