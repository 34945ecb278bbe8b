"""Looks for the Python environment of a job before it is submitted, as far as it can be known on this machine.

It is what `setup` activates (venv, conda), a Python that the command names, or else the first one in PATH.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import containers, plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.submit import program_files

_CONDA = ("conda", "mamba", "micromamba")
_CONDA_SCRIPT = "/etc/profile.d/conda.sh"
_AND = re.compile(r";|&&")
_CONDITION = re.compile(r"\s*(if|for|while|until|case|function|trap|test|\[+|!)(\s|$)|.*\(\)\s*\{", re.ASCII)
_HAS_TENSORFLOW = "import importlib.util; print(importlib.util.find_spec('tensorflow') is not None)"
_SECONDS = 20.0


def check(job: Job, environ: Mapping[str, str]) -> None:
    """Raise ConfigError for an environment that `setup` activates, and that is not there."""
    for folder in filter(None, _activated(job, environ)):
        script = os.path.join(folder, "bin", "activate")
        if program_files.is_lost(job, script) and not _is_conda(folder):
            make = f"python3 -m venv {shlex.quote(folder)} makes one"
            raise ConfigError(f"there is no {script}", "a virtual environment", make, job.where("setup"))
    _check_conda(job, environ)


def warnings(job: Job, environ: Mapping[str, str]) -> list[str]:
    """Return what the programs of `job` may lack on nodes: the program itself, a module, TensorFlow."""
    lines = []
    on_nodes = [role for role in job.spec.roles.with_tasks.values() if not containers.merged(job, role).image]
    for words in dict.fromkeys(filter(None, map(job.spec.command_of, on_nodes))):
        python = _python(job, words[0], environ)
        if python is None and not _prepares(job) and "/" not in words[0] and not shutil.which(words[0]):
            lines.append(f"there is no program {words[0]} in PATH here, and the job has no setup")
        if python and not _has_tensorflow(python, job, environ):
            lines.append(f"{python}, which runs the job's program, has no TensorFlow: {_cure(python)}")
        path = os.path.join(plan.source_folder(job), words[0])
        if "/" in words[0] and not os.path.exists(path):
            lines.append(f"there is no {path} on this machine: the nodes must have it")
    return [*dict.fromkeys(lines), *_unknown_modules(job, environ)]


def _cure(python: str) -> str:
    """Return what to do about a Python without TensorFlow: that of the machine is not the user's."""
    prefix = os.path.dirname(os.path.dirname(python))
    if _is_conda(prefix) or os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        return f"{shlex.quote(python)} -m pip install tensorflow"
    return 'activate an environment that has it, such as setup = "source ~/venv/bin/activate"'


def _prepares(job: Job) -> bool:
    """Whether lines of the job or of its site may change PATH before the program starts."""
    return bool(job.spec.setup.strip() or job.site.prologue.strip() or job.site.modules)


def _statements(text: str) -> list[list[str]]:
    """Return the words of each simple command in lines of a shell that runs in any case, or fails.

    None of lines with conditions and loops; those that cannot be told apart are left out.
    """
    found = []
    for line in text.splitlines():
        if _CONDITION.match(line):
            return []
        for part in _AND.split(line) if "||" not in line else ():
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            found += [words] if words else []
    return found


def _activated(job: Job, environ: Mapping[str, str]) -> list[str | None]:
    """Return the folders of the environments that `setup` activates; None where this machine does not know it."""
    found: list[str | None] = []
    for words in _statements(job.spec.setup):
        name = words[1] if len(words) > 1 else ""
        if words[0] in ("source", ".") and name.endswith("/bin/activate"):
            found.append(_folder(job, name.removesuffix("/bin/activate")))
        elif words[0] in _CONDA and name == "activate" and len(words) > 2:
            found.append(_conda_environments(job, environ).get(words[2]))
    return found


def _folder(job: Job, text: str) -> str | None:
    """Return the folder that a shell makes of `text`, None where this machine does not know."""
    try:
        path = files.expand(text)
    except UsageError:
        return None
    return None if re.search(r"[$`*?]", path) else os.path.join(plan.source_folder(job), path)


def _conda_environments(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the folders of conda's environments by name, and by path; empty where this machine knows no conda."""
    home = Path(files.expand("~"))
    roots = [Path(environ["CONDA_EXE"]).parent.parent] if environ.get("CONDA_EXE") else []
    sourced = [words[1] for words in _statements(job.spec.setup) if words[1:] and words[1].endswith(_CONDA_SCRIPT)]
    roots += [Path(root.removesuffix(_CONDA_SCRIPT)) for root in (_folder(job, path) for path in sourced) if root]
    listed = home / ".conda" / "environments.txt"
    paths = [Path(line) for line in _lines(listed)]
    own = [Path(each) for each in environ.get("CONDA_ENVS_PATH", environ.get("CONDA_ENVS_DIRS", "")).split(":") if each]
    for folder in (*(root / "envs" for root in roots), *own, *([home / ".conda" / "envs"] if roots else [])):
        paths += _entries(folder)
    there = {path.name: str(path) for path in paths if _is_conda(str(path))}
    there |= {str(path): str(path) for path in paths if _is_conda(str(path))}
    return there | ({"base": str(roots[0])} if roots else {})


def _lines(file: Path) -> list[str]:
    """Return the lines of a file that are not empty; none if it cannot be read."""
    try:
        return [line for line in file.read_text(errors="surrogateescape").split("\n") if line]
    except OSError:
        return []


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, nothing if it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_conda(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "conda-meta"))


def _check_conda(job: Job, environ: Mapping[str, str]) -> None:
    """Raise ConfigError for a name that no environment of this machine's conda has."""
    there = _conda_environments(job, environ)
    for words in _statements(job.spec.setup):
        if words[0] not in _CONDA or words[1:2] != ["activate"] or len(words) < 3 or not there:
            continue
        name = words[2]
        if "/" not in name and "$" not in name and name not in there:
            names = ", ".join(sorted(each for each in there if "/" not in each))
            do = f"{words[0]} create -n {shlex.quote(name)} python"
            raise ConfigError(f"there is no conda environment {name!r}", f"one of {names}", do, job.where("setup"))


def _python(job: Job, program: str, environ: Mapping[str, str]) -> str | None:
    """Return the path of the Python that a command runs, None where that is not known here."""
    if not program_files.is_python(program):
        return None
    if "/" in program:
        path: str | None = os.path.join(plan.source_folder(job), program)
    elif activated := _activated(job, environ):
        path = os.path.join(activated[-1], "bin", program) if activated[-1] else None
    else:
        path = None if _prepares(job) else shutil.which(program, path=environ.get("PATH"))
    return path if path and os.access(path, os.X_OK) else None


def _has_tensorflow(python: str, job: Job, environ: Mapping[str, str]) -> bool:
    """Whether a Python would find TensorFlow, which it does not import; True where it does not say."""
    prefix = Path(python).parent.parent
    if any(prefix.glob("lib*/python3*/site-packages/tensorflow/__init__.py")):
        return True
    own = {name: job.spec.env[name] for name in ("PYTHONPATH",) if name in job.spec.env}
    try:
        done = subprocess.run(
            [python, "-c", _HAS_TENSORFLOW],
            cwd=plan.source_folder(job), env={**environ, **own}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.stdout.strip() != b"False"


def _unknown_modules(job: Job, environ: Mapping[str, str]) -> list[str]:
    """Return a line about the first module that is loaded, if no folder of MODULEPATH has it.

    Of later ones nobody knows: a module may bring others.
    """
    folders = [each for each in environ.get("MODULEPATH", "").split(":") if os.path.isdir(each)]
    name = _first_module(job)
    has_aliases = any(
        os.path.exists(os.path.join(each, rc)) for each in folders for rc in (".modulerc", ".modulerc.lua")
    )
    if not folders or not name or has_aliases:
        return []
    if any(os.path.exists(os.path.join(each, f"{name}{end}")) for each in folders for end in ("", ".lua")):
        return []
    return [f"no folder of MODULEPATH has the module {name}: `module avail {shlex.quote(name)}` shows those like it"]


def _first_module(job: Job) -> str:
    if job.site.prologue.strip():
        return ""
    if job.site.modules:
        return job.site.modules[0]
    for words in _statements(job.spec.setup):
        if words[0] == "module" and words[1:2] in (["load"], ["add"]) and len(words) > 2:
            return words[2] if re.fullmatch(r"[\w./+-]+", words[2]) else ""
        if words[0] in ("module", "ml") and words[1:2] != ["purge"]:
            return ""  # it changes where modules are, or their names
    return ""
