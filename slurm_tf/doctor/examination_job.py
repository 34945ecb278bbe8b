"""The job that examines compute nodes: one task on each, with the settings of a job file or of the site."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from slurm_tf import units
from slurm_tf.jobspec import configuration, containers, plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.job_file import Container, Horovod, Role, Roles
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.serve_table import Serve
from slurm_tf.run import placeholders
from slurm_tf.run.examination import RoleContainer
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import new_run, program_files

# The time limit: the examination takes less than one of them, and the lines of setup some time before it.
MINUTES = 2
_NAME = "doctor"
# The command of an examination whose job file names no Python.
NO_PYTHON = ("true",)
# A job file for nothing but this: what the site and the user say of all jobs counts.
_PLAIN = f'name = "{_NAME}"\nstrategy = "multi_worker"\ncommand = ["true"]\nchdir = "/"\n[roles.worker]\n'
# Options of the job file that are about when its own job is to run, and who hears of it.
_OF_THE_RUN = ("array", "begin", "deadline", "dependency", "licenses", "mail-type", "mail-user", "signal")


@dataclass(frozen=True, slots=True)
class Examination:
    """The job that examines nodes, outside of any container, and the containers that it looks for there."""

    job: Job
    containers: tuple[RoleContainer, ...]


def load(
    path: Path | None,
    environ: Mapping[str, str],
    site: str,
    nodes: int,
    options: Mapping[str, str | bool],
) -> Examination:
    """Return what examines `nodes` nodes: with the resources of the job file `path`, if there is one.

    `options`: of sbatch, by their long names. Raises ConfigError or UsageError.
    """
    if path is not None:
        return _examination(configuration.load(path, environ, site, options=options), nodes)
    with tempfile.TemporaryDirectory(prefix="slurm-tf-") as folder:
        plain = Path(folder, "doctor.toml")
        plain.write_text(_PLAIN)
        return _examination(configuration.load(plain, environ, site, options=options), nodes)


def plan_of(job: Job, folder: str = ".doctor") -> Plan:
    """Return the plan of the examination, whose files are in `folder` of the folder of runs. Raises ConfigError."""
    return plan.fit(job, RunFolder(os.path.join(job.runs, folder)), nodes_of=new_run.nodes_of)


def _examination(job: Job, nodes: int) -> Examination:
    ErrorList(job.errors).raise_all()
    found = dict[RoleContainer, None]()
    for name, role in job.spec.roles.with_tasks.items():
        container, command = containers.resolve(job, name, role), job.spec.command_of(role)
        if container and command:
            found[RoleContainer(container, tuple(command))] = None
    return Examination(_on_nodes(job, nodes), tuple(found))


def _on_nodes(job: Job, nodes: int) -> Job:
    """Return `job` with one task on each of some nodes, as the role with the most GPUs has them, for a short time."""
    roles = job.spec.roles.with_tasks
    name = max(roles, key=lambda each: _gpus_of_a_task(roles[each]), default="")
    role = roles.get(name, Role())
    command = job.spec.command_of(role)
    python = command[:1] if command and program_files.is_python(command[0]) else NO_PYTHON
    if name and containers.resolve(job, name, role):
        python = NO_PYTHON
    spec = msgspec.structs.replace(
        job.spec,
        name=_NAME,
        strategy="multi_worker",
        command=python,
        roles=Roles(worker=_one_a_node(role, nodes)),
        container=Container(),
        time=job.spec.time if _is_typed(job, "time") else MINUTES,
        array="",
        params={},
        sweep={},
        env={name: value for name, value in job.spec.env.items() if not placeholders.names(value)},
        sbatch={**_sbatch(job), "requeue": False},
        snapshot=False,
        preflight=False,
        horovod=Horovod(),
        serve=Serve(),
    )
    return replace(job, spec=spec)


def _sbatch(job: Job) -> dict[str, Any]:
    """Return the job's own options of sbatch, without those that are about its run, unless they were typed here."""
    options = job.spec.sbatch.items()
    return {key: value for key, value in options if key not in _OF_THE_RUN or _is_typed(job, f"sbatch.{key}")}


def _is_typed(job: Job, key: str) -> bool:
    return job.origins.get(key, "").startswith("command line")


def _one_a_node(role: Role, nodes: int) -> Role:
    """Return a role with a task on each of some nodes, which has what a task of `role` has."""
    changes: dict[str, Any] = {"count": nodes, "ntasks_per_node": 1, "command": None, "container": Container()}
    if role.gpus is not None:  # those of all tasks together
        of_task = [each._replace(number=max(1, each.number // role.count)) for each in units.parse_gpus(str(role.gpus))]
        changes |= {"gpus": None, "gpus_per_task": units.format_gpus(of_task)}
    return msgspec.structs.replace(role, **changes)


def _gpus_of_a_task(role: Role) -> int:
    asked = role.gpus_per_task or role.gpus_per_node or role.gpus
    return sum(each.number for each in units.parse_gpus(str(asked))) if asked else 0
