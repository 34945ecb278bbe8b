"""Looks for a job's program on this machine before it is submitted: a job that waits for nodes may miss it hours later.

What only nodes may have is no error: a program that `setup` makes or puts into PATH, a path in a folder of the nodes.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from slurm_tf import search_path
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.run import placeholders

_PYTHON = re.compile(r"python[\d.]*", re.ASCII)
# Options of Python with a value of their own.
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_MOVES = re.compile(r"\b(cd|pushd)\b", re.ASCII)


def check(job: Job, words: Sequence[str], where: str) -> None:
    """Raise ConfigError for a command whose program, or Python script, is not there; `where`: the command's key."""
    if any(map(placeholders.names, words[:1])) or _MOVES.search(f"{job.site.prologue}\n{job.spec.setup}"):
        return
    program, folder = words[0], plan.source_folder(job)
    if "/" in program:
        _check_file(job, program, where)
        path = os.path.join(folder, program)
        if os.path.isfile(path) and not os.access(path, os.X_OK):
            raise ConfigError(f"{path} cannot be executed", "a program", f"chmod +x {program}", where)
    if not is_python(program):
        return
    script, module = _python_argument(words[1:])
    if script:
        _check_file(job, script, where)
    elif module:
        _check_module(folder, module, where)


def is_python(program: str) -> bool:
    """Whether the name of a program is that of a Python."""
    return _PYTHON.fullmatch(os.path.basename(program)) is not None


def is_lost(job: Job, path: str) -> bool:
    """Whether there is nothing at `path`, in a folder that nodes see as well as this machine.

    That is your home, what is beside the working directory, and what is beside the runs.
    """
    whole = os.path.normpath(path)
    beside = {os.path.dirname(plan.source_folder(job)), os.path.dirname(job.runs), os.path.expanduser("~")} - {"/"}
    return not os.path.lexists(whole) and any(whole.startswith(f"{folder}/") for folder in beside)


def _python_argument(words: Sequence[str]) -> tuple[str, str]:
    """Return the script that a Python is told to run, or the module; "" for what is not known."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in _WITH_VALUE:
            del rest[:1]
        elif word == "-m":
            module = rest[0] if rest else ""
            return "", "" if placeholders.names(module) else module
        elif word.startswith("-m"):
            return "", "" if placeholders.names(word) else word[2:]
        elif word.startswith("-c") or word == "-":
            return "", ""
        elif not word.startswith("-"):
            return "" if placeholders.names(word) else word, ""
    return "", ""


def _check_file(job: Job, name: str, where: str) -> None:
    """Raise ConfigError for a file that is not there, unless `setup` names it, which may make it."""
    path = os.path.join(plan.source_folder(job), name)
    refused = search_path.why_refused(Path(path), job.trusted) if job.runs_template and os.path.exists(path) else None
    if refused:
        raise refused
    if os.path.basename(name) in job.spec.setup or not is_lost(job, path):
        return
    folder = os.path.dirname(path)
    near = difflib.get_close_matches(os.path.basename(name), _names(folder), n=1)
    do = "a line of setup that makes it has to name it"
    if near:
        do = f"did you mean {near[0]!r}?"
    elif name.startswith("~"):
        do = f"no shell replaces ~ in a command: {os.path.expanduser(name)}"
    raise ConfigError(f"there is no {path}", "the program", do, where)


def _check_module(folder: str, module: str, where: str) -> None:
    """Raise ConfigError for a module that is not in a package of the working directory; others may be installed."""
    top, *inner = module.split(".")
    package = os.path.join(folder, top)
    if not inner or not any(name.endswith(".py") for name in _names(package)):
        return
    path = os.path.join(package, *inner)
    if not os.path.isfile(f"{path}.py") and not os.path.isdir(path):
        raise ConfigError(f"there is no module {module} in {folder}", f"{'/'.join([top, *inner])}.py", where=where)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
