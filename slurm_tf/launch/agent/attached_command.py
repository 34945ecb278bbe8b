"""Runs a command beside the living program of a task, on its node and in its environment: `slurm-tf attach`."""

import contextlib
import os
import signal
import sys
from typing import Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

from slurm_tf.errors import AllocationError
from slurm_tf.launch.agent import command_failure, program_namespaces
from slurm_tf.launch.log import say
from slurm_tf.run import env

# Of the program alone: its connections to its agent and to MPI, where another process would be taken for it.
_NOT_FOR_OTHERS = (env.CONTROL_FD,)
_NOT_FOR_OTHERS_PREFIXES = ("PMI_", "PMIX_", "OMPI_COMM_WORLD_")
# What says how the user's own terminal works.
_OF_TERMINAL = ("TERM", "COLORTERM", "LINES", "COLUMNS")
# What names programs and libraries of a container, and means nothing outside of it.
_OF_CONTAINER = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "SHELL")
# More parents than there are between an agent and its program: apptainer has two processes of its own there.
_MOST_PARENTS = 8
# Slurm's variables that say how a task is bound to its GPUs.
_BINDINGS = ("SLURMD_TRES_BIND", "SLURM_TRES_BIND")


class _Program(NamedTuple):
    """A process that is the program of a task; `started`: in ticks since the boot."""

    started: int
    pid: int
    parent: int
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
    outside = _enter(program.pid)
    if outside:
        say(f"warning: the container of {task} cannot be entered ({outside}): this runs on its node, outside of it")
        environ = outside_of(environ, os.environ)
    with contextlib.suppress(OSError):  # it may have gone
        os.chdir(f"/proc/{program.pid}/cwd")
    argv = list(command) or [_shell(environ), "-i"]
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
                if _has_agent(name):
                    found.append(_Program(started, int(name), parent, environ))
    return _innermost(found) if found else None


def _innermost(processes: Sequence[_Program]) -> _Program:
    """Return the program of a task, of all processes with its variables.

    The first one may serve the image's files to the program, which is its child: ch-run with a squashfs (0.31).
    """
    program = min(processes)
    while True:
        children = [each for each in processes if each.parent == program.pid]
        inside = [each for each in children if _see_other_files(each.pid, program.pid)]
        if not inside:
            return program
        program = min(inside)


def _see_other_files(pid: int, other: int) -> bool:
    with contextlib.suppress(OSError):  # one of them has gone
        return program_namespaces.have_other_mounts(pid, other)
    return False


def _has_agent(pid: str) -> bool:
    """Whether an agent has started a process, perhaps through a container runtime. Raises OSError or ValueError."""
    for _ in range(_MOST_PARENTS):
        parent = _stat(pid)[0]
        if parent <= 1:
            return False
        if b"agent" in _read(f"/proc/{parent}/cmdline").split(b"\0"):
            return True
        pid = str(parent)
    return False


def _enter(pid: int) -> str:
    """Enter the container that a program is in, if it is in one; return why that cannot be done."""
    try:
        if program_namespaces.have_other_mounts(pid):
            program_namespaces.enter(pid)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def outside_of(environ: Mapping[str, str], own: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment of a program in a container for a command outside of it, `own` being that of the node."""
    found = {name: value for name, value in environ.items() if name not in _OF_CONTAINER}
    found.update({name: own[name] for name in _OF_CONTAINER if name in own})
    return found


def _shell(environ: Mapping[str, str]) -> str:
    """Return the user's shell, or another one where an image does not have it."""
    shell = environ.get("SHELL", "")
    return shell if os.access(shell, os.X_OK) else "/bin/sh"


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
