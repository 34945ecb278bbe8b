"""Warns of a program whose TensorFlow cannot use the GPUs of its task: by how it was built, and by what it prints.

A program with slurm_tf.train ends by itself where its role asked for GPUs (train/devices.py). Of others no more is
known.
"""

import contextlib
import os
from typing import Callable, Mapping, Optional, Sequence

from slurm_tf.errors import SlurmTfError
from slurm_tf.launch.agent.program_python import Ask
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.run import env
from slurm_tf.run.settings import GpuNeed

# What TensorFlow (2.4 to 2.21) prints without a driver, without CUDA's libraries, and where the driver fails.
_SIGNS = (b"GPU will not be used", b"Skipping registering GPU devices", b"failed call to cuInit")
# It prints them when it is first used: so much of the output is searched.
_SEARCHED = 1 << 18
_LONGEST = 200
# Prints how TensorFlow was built without importing it, which would take seconds. Other devices are plugins.
_CODE = """
import importlib.util, os, runpy
folder = importlib.util.find_spec("tensorflow").submodule_search_locations[0]
build = runpy.run_path(os.path.join(folder, "python", "platform", "build_info.py"))["build_info"]
plugins = os.path.isdir(os.path.join(os.path.dirname(folder), "tensorflow-plugins"))
print("for GPUs" if build["is_cuda_build"] or build["is_rocm_build"] or plugins else "for CPUs")
"""


class OutputCheck:
    """Looks in the output of one program for TensorFlow's words that it has no GPU, and says so once."""

    def __init__(self, name: str, log: str, say: Callable[[str], None]) -> None:
        """`log`: the file of its output, to which this program has written nothing yet."""
        self._name, self._log, self._say = name, log, say
        self._at = os.path.getsize(log) if os.path.exists(log) else 0
        self._end = self._at + _SEARCHED

    def look(self) -> None:
        """Look at what the program has printed since the last look."""
        if self._at >= self._end:
            return
        with contextlib.suppress(OSError), open(self._log, "rb") as file:
            file.seek(self._at)
            data = file.read(self._end - self._at)
            *lines, rest = data.split(b"\n")
            self._at += len(data) - (len(rest) if self._at + len(data) < self._end else 0)
            said = next((line for line in lines if any(sign in line for sign in _SIGNS)), b"")
            if said:
                self._end = self._at
                text = said.decode("utf-8", "replace").strip()[:_LONGEST]
                self._say(_warning(f"{self._name} has GPUs, and its TensorFlow says: {text}"))


def begin(
    assignment: Assignment,
    argv: Sequence[str],
    environ: Mapping[str, str],
    log: str,
    say: Callable[[str], None],
    ask: Ask,
) -> Optional[OutputCheck]:
    """Say of a program that is about to start, once a role, that its TensorFlow is not built for GPUs.

    `ask`: has the program's Python run some code (program_python.ask). Otherwise return what looks in its output, None
    for a program that need not have GPUs. Takes at most 10 s.
    """
    if not _wants_gpus(assignment, environ):
        return None
    is_first = environ[env.RESTARTS] == "0" and assignment.index == 0
    if is_first and ask(_CODE) == "for CPUs":
        python = os.path.basename(argv[0])
        say(_warning(f"{assignment.name} has GPUs, and the TensorFlow of its {python} is built without GPU support"))
        return None
    return OutputCheck(assignment.name, log, say)


def _wants_gpus(assignment: Assignment, environ: Mapping[str, str]) -> bool:
    """Whether the program is to use GPUs: its role asked for some, or Slurm gave some that no role stated."""
    need = assignment.variables.get(env.GPUS)
    has_some = assignment.gpus is None and any(environ.get(name) for name in env.DEVICE_VARIABLES)
    return need == GpuNeed.REQUIRED or (need == GpuNeed.NONE and has_some)


def _warning(found: str) -> str:
    needed = "a TensorFlow that uses them, such as that of pip install 'tensorflow[and-cuda]', and a driver on the node"
    do = "gpus-optional = true in the job file says that it may run on CPUs"
    return f"warning: {SlurmTfError(found, needed, do)}"
