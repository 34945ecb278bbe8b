"""Prepares the containers of Slurm's own OCI support before the step: a bundle for each role, in its submission."""

import os
from typing import FrozenSet, List, Mapping

from slurm_tf import files
from slurm_tf.errors import ContainerError
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.mapping import allocation, container, oci_bundle
from slurm_tf.run.container_settings import ContainerSettings, Runtime
from slurm_tf.run.settings import LaunchSettings, RoleSettings
from slurm_tf.slurm import in_job

# The first Slurm that tells a task in a container its rank and devices, and starts several on a node.
_TELLS_TASKS = (23, 2)
_DO = "a runtime that the agent starts (charliecloud, apptainer), or Slurm 23.02 or later"


def prepare(context: JobContext, settings: LaunchSettings) -> FrozenSet[str]:
    """Write the bundles of the job's roles, if they have any; return the variables that their images set.

    Raises ContainerError: another attempt would find the same.
    """
    roles = [role for role in settings.roles if role.container and role.container.runtime is Runtime.OCI]
    if not roles:
        return frozenset()
    version = in_job.srun_version(context.environ)
    if version is not None and version < _TELLS_TASKS:
        _check_tasks(roles, context.environ, version)
    return frozenset().union(*(_write(context, role.name, role.container) for role in roles if role.container))


def _write(context: JobContext, role: str, settings: ContainerSettings) -> FrozenSet[str]:
    own, home = (context.run.path, os.getcwd()), context.environ.get("HOME", "")
    try:
        mounts = container.all_mounts(settings, own, home)
        return oci_bundle.write(context.submission.bundle(role), settings.image, mounts, os.getcwd())
    except (ContainerError, OSError) as error:
        cause = files.storage_error(error, "make the container") if isinstance(error, OSError) else error
        where = f"container of role {role} on {os.uname().nodename}"
        raise ContainerError(cause.found, cause.needed, cause.do, where) from error


def _check_tasks(roles: List[RoleSettings], environ: Mapping[str, str], version: in_job.Version) -> None:
    """Raise ContainerError for what an older Slurm cannot do in a container."""
    slurm = f"Slurm {version[0]}.{version[1]:02d} in an OCI container"
    if environ.get("SLURM_HET_SIZE"):
        found = "found a heterogeneous job: a task is not told its rank"
        raise ContainerError(found, f"roles that ask for the same, for {slurm}", _DO)
    expected = allocation.expected_nodes(environ)
    crowded = [node for node, tasks in expected.items() if tasks > 1]
    if crowded or (expected and any(role.count > len(expected) for role in roles)):
        found = f"found several tasks on {', '.join(crowded[:3]) or 'a node'}"
        raise ContainerError(found, f"one task a node (ntasks-per-node = 1), for {slurm}", _DO)
    with_gpus = [role.name for role in roles if role.gpus]
    if with_gpus:
        found = f"found GPUs for {', '.join(with_gpus)}: a task is not told which are its own"
        raise ContainerError(found, f"roles without GPUs, for {slurm}", _DO)
