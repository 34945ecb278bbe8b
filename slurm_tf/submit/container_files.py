"""Looks for the images and mounts of a job on this machine before it is submitted, where nodes see the same folders."""

import difflib
import os
from collections.abc import Sequence

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import containers
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.run.container_settings import Runtime
from slurm_tf.submit import program_files


def check(job: Job, role: str) -> None:
    """Raise ConfigError for an image or a mount of a role that is not there."""
    found = containers.resolve(job, role, job.spec.roles.with_tasks[role])
    if found is None:
        return
    errors = ErrorList()
    folder, images = os.path.dirname(found.image), containers.folder_of_images(job)
    is_of_site = bool(images) and os.path.isdir(images) and found.image.startswith(f"{images}/")
    if not os.path.lexists(found.image) and (is_of_site or program_files.is_lost(job, found.image)):
        near = difflib.get_close_matches(os.path.basename(found.image), _names(folder), n=1)
        do = f"did you mean {near[0]!r}?" if near else "slurm-tf images list shows those of the site"
        errors.add(ConfigError(f"there is no {found.image}", "an image", do, containers.where(job, role, "image")))
    for mount in found.mounts:
        if program_files.is_lost(job, mount.source):
            needed = "a file or folder to mount"
            errors.add(ConfigError(f"there is no {mount.source}", needed, where=containers.where(job, role, "mounts")))
    errors.raise_all()


def warnings(job: Job) -> list[str]:
    """Return what a runtime does not do as the job file says."""
    lines = []
    for name, role in job.spec.roles.with_tasks.items():
        found = containers.resolve(job, name, role)
        if found and found.runtime is Runtime.CHARLIECLOUD:
            stated = [each for each in containers.merged(job, role).mounts or () if each.endswith(":ro")]
            lines += [f"charliecloud mounts {each!r} for writing as well: it knows no :ro" for each in stated]
    return [*dict.fromkeys(lines)]


def _names(folder: str) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()
