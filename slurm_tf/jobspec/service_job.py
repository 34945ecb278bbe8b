"""The job of a service: that of a job file with strategy serve, or one that is made for folders of models."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import UsageError
from slurm_tf.jobspec import configuration, serve_plan, serve_table
from slurm_tf.jobspec.configuration import Job

# Options of sbatch that are keys of a role's table: a service has one role.
_KEYS = ("constraint", "cpus-per-task", "mem", "mem-per-cpu", "mem-per-gpu", "ntasks-per-node")
_GPU_KEYS = ("gpus", "gpus-per-node", "gpus-per-task")
_OF_ROLE = {"ntasks": "count", **{name: name for name in (*_KEYS, *_GPU_KEYS)}}


@dataclass(frozen=True, slots=True)
class Start:
    """What to serve, and how. `words`: a job file, or folders of models, each as FOLDER or NAME=FOLDER.

    `overrides`: KEY=VALUE of the job file; `sbatch`: options of sbatch, those about tasks for the replicas.
    """

    words: tuple[str, ...]
    site: str
    overrides: tuple[str, ...]
    sbatch: Mapping[str, str | bool]


def load(start: Start) -> Job:
    """Return the job of a service. Raises UsageError, ConfigError."""
    if not start.words:
        usage = "slurm-tf serve MODELS/NAME [SBATCH OPTIONS], or slurm-tf serve JOB.toml"
        raise UsageError("found no model", "the folder of a model, with its versions", usage)
    of_role = {name: value for name, value in start.sbatch.items() if name in _OF_ROLE}
    overrides = [*start.overrides, *(f"roles.replica.{_OF_ROLE[name]}={value}" for name, value in of_role.items())]
    others = {name: value for name, value in start.sbatch.items() if name not in _OF_ROLE}
    if len(start.words) == 1 and start.words[0].endswith(".toml"):
        path = Path(start.words[0])
        if not path.is_file():
            raise UsageError(f"there is no job file {path}", "a .toml file, or the folder of a model")
        return _checked(configuration.load(path, os.environ, start.site, overrides, others))
    with tempfile.TemporaryDirectory(prefix="slurm-tf-") as folder:
        made = Path(folder, "serve.toml")
        made.write_text(_job_file(start.words))
        job = configuration.load(made, os.environ, start.site, overrides, others)
    return _checked(replace(job, path=Path(start.words[0])))


def _checked(job: Job) -> Job:
    if not serve_plan.is_service(job):
        needed = 'strategy = "serve"'
        do = f"slurm-tf submit {job.typed} submits it"
        raise UsageError(f"found the strategy {job.spec.strategy} in {job.typed}", needed, do)
    return job


def _job_file(models: Sequence[str]) -> str:
    """Return a job file for folders of models. Raises UsageError."""
    bases: dict[str, str] = {}
    for typed in models:
        given, equals, folder = typed.partition("=")
        base = files.absolute(files.expand(folder if equals else typed))
        name = given if equals else serve_table.model_name(base)
        if not serve_table.MODEL_NAME.fullmatch(name):
            needed = "a name of letters, digits and . _ -, as it is a part of URLs"
            raise UsageError(f"found the model {name!r}", needed, "slurm-tf serve NAME=FOLDER gives it another name")
        if not os.path.isdir(base):
            raise UsageError(f"there is no folder {base}", "the folder of a model, with its versions")
        if name in bases:
            raise UsageError(f"found two models named {name}", "folders with different names")
        bases[name] = base
    # JSON's text is TOML's
    lines = [
        f"name = {json.dumps(next(iter(bases)))}",
        'strategy = "serve"',
        f"chdir = {json.dumps(files.absolute('.'))}",
        "[roles.replica]",
        f"command = {json.dumps([sys.executable, '-m', 'slurm_tf.serve.replica_task'])}",
        "[serve.models]",
        *(f"{json.dumps(name)} = {json.dumps(base)}" for name, base in bases.items()),
    ]
    return "".join(f"{line}\n" for line in lines)
