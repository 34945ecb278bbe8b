"""The options of an srun whose tasks start in a container: Slurm's own --container (OCI), and those of pyxis.

Source of pyxis' options: its args.c, 0.9 to 0.21. It splits mounts at "," and ":", and the names of variables at ",".
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.components import Layout, Step
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.directives import Option
from slurm_tf.run import env
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.settings import LaunchSettings

# Where the agent's Python is: the image's PATH says.
PYTHON = "python3"
# pyxis runs the site's TaskProlog inside the container.
_SLURM_CONF = "/etc/slurm"
# What the launcher, Slurm and the site tell a task; an image that sets them would win (pyxis#26).
_OURS = (
    env.COORDINATOR, env.REGISTER_TIMEOUT, env.SECRET, env.PROGRAM_ENV, env.SCRATCH, env.THREAD_VARIABLES,
    *env.DEVICE_VARIABLES,
)  # fmt: skip
_OPTION = re.compile(r"--(?P<name>(?:no-)?container-[a-z0-9-]+)(?:=(?P<value>.*))?", re.ASCII)


def enter(job: Job, layout: Layout, settings: LaunchSettings, submission: SubmissionFolder, cwd: str) -> Layout:
    """Return the layout with the options by which each srun enters the container of its roles.

    `cwd`: where the tasks start. Raises ConfigError.
    """
    containers = {role.name: role.container for role in settings.roles}
    inside = [name for name, container in containers.items() if container and not container.runtime.wraps]
    if not inside:
        return layout
    outside = [name for name in containers if name not in inside]
    if outside:
        found = f"found a container for {', '.join(inside)}, and none for {', '.join(outside)}"
        needed = "one for each role, or for none: all are entered by srun"
        raise ConfigError(found, needed, where=job.where("container.image"))
    if settings.horovod == "mpi" and Runtime.OCI in {each.runtime for each in settings.step_containers}:
        needed = "'gloo': what MPI tells a task by variables does not reach it in an OCI container"
        raise ConfigError("found 'mpi'", needed, where=job.where("horovod.controller"))
    return replace(layout, steps=tuple(_entered(job, step, containers, submission, cwd) for step in layout.steps))


def _entered(
    job: Job, step: Step, containers: Mapping[str, ContainerSettings | None], submission: SubmissionFolder, cwd: str
) -> Step:
    container, where = containers[step.roles[0]], job.where("container.options")
    if container is None:
        return step
    if container.runtime is Runtime.OCI:
        if container.options:
            found = f"found the options {' '.join(container.options)}"
            raise ConfigError(found, "none: srun --container has none", where=where)
        options: tuple[Option, ...] = (("container", submission.bundle(step.roles[0])),)
    else:
        options = _of_pyxis(container, submission, cwd, where)
    return replace(step, srun=(*step.srun, *options), inside=container.runtime.value)


def _of_pyxis(container: ContainerSettings, submission: SubmissionFolder, cwd: str, where: str) -> tuple[Option, ...]:
    own = [submission.run.path, cwd, *([_SLURM_CONF] if os.path.isdir(_SLURM_CONF) else [])]
    mounts = [*(Mount(path, path) for path in own), *container.mounts]
    names = dict.fromkeys([*_OURS, *container.env_from_host])
    return (
        ("container-image", container.image),
        ("container-mounts", ",".join(dict.fromkeys(_pyxis_mount(each) for each in mounts))),
        ("container-mount-home" if container.home else "no-container-mount-home", None),
        ("container-workdir", cwd),
        ("container-env", ",".join(names)),
        *_split(container.options, where),
    )


def _pyxis_mount(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"


def _split(words: Sequence[str], where: str) -> list[Option]:
    """Return words such as --container-writable as options. Raises ConfigError."""
    matches = [_OPTION.fullmatch(word) for word in words]
    wrong = next((word for word, match in zip(words, matches, strict=True) if match is None), None)
    if wrong is not None:
        raise ConfigError(f"found {wrong!r}", "options of pyxis, such as --container-writable", "", where)
    return [(match["name"], match["value"]) for match in matches if match]
