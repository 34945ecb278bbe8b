"""Asks the Python that a program is about to run in what it has, without the program."""

import os
import re
from typing import Callable, Mapping, Sequence

from slurm_tf.errors import ContainerError
from slurm_tf.launch.agent import short_program
from slurm_tf.launch.agent.program_place import NODE, Place

# Returns what the Python of a program prints that runs some code, "" where it cannot be asked.
Ask = Callable[[str], str]

_SECONDS = 10.0
_PYTHON = re.compile(r"python[\d.]*", re.ASCII)


def is_python(program: str) -> bool:
    """Whether the name of a program is that of a Python."""
    return _PYTHON.fullmatch(os.path.basename(program)) is not None


def ask(argv: Sequence[str], environ: Mapping[str, str], code: str, place: Place = NODE) -> str:
    """Return what the Python of a command prints that runs `code`; "" if that fails, or it is not known which it is.

    `place`: where the command runs. Only a command named python is run: a script or a profiler may have side effects.
    Takes at most 10 s.
    """
    if not is_python(argv[0]):
        return ""
    try:
        done = short_program.run(*place.enter([argv[0], "-c", code], environ), _SECONDS)
    except (OSError, ContainerError):
        return ""
    return done.stdout.strip() if done.code == 0 and done.stdout.isascii() else ""
