"""Resolves the container of a role: [container] of the job file and of its roles, with [container] of the site."""

import os
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from slurm_tf import files
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import container_runtimes, layers, resources, site_variables, user_settings
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.job_file import Container, Role
from slurm_tf.run import env
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime

# Runtimes that take their mounts as lists with commas.
_WITH_COMMAS = (Runtime.APPTAINER, Runtime.SINGULARITY, Runtime.PYXIS)
# A mount there would hide what programs, or the runtime, need.
_NEVER_TARGETS = ("/", "/dev", "/proc", "/sys")
_PATH = ("/", "./", "../", "~", "$")


def check(job: Job) -> None:
    """Raise ConfigError for all that is wrong with the containers of a job, as far as no file has to be looked at."""
    errors = ErrorList()
    for name, role in job.spec.roles.with_tasks.items():
        with errors.collecting():
            resolve(job, name, role)
    if not any(merged(job, role).image for role in job.spec.roles.with_tasks.values()):
        stated = [key for key in job.origins if key.startswith("container.") and key != "container.image"]
        if stated and "container.image" not in job.origins:
            errors.add(ConfigError("there is no image", "image = ...", where=job.where("container")))
    errors.raise_all()


def resolve(job: Job, name: str, role: Role) -> ContainerSettings | None:
    """Return the container of a role, None where its programs run on the node itself. Raises ConfigError."""
    stated, site = merged(job, role), job.site.container
    if not stated.image:
        return None
    at = partial(where, job, name)
    if not site.runtime:
        found, needed = f"site {job.site_name} names no container runtime", "one in its profile, below [container]"
        do = 'such as runtime = "apptainer"; slurm-tf docs containers says what each can do'
        raise ConfigError(found, needed, do, at("image"))
    runtime = Runtime(site.runtime)
    errors = ErrorList()
    with errors.collecting():
        _check_scheduler(job, runtime, at("image"))
    image = ""
    with errors.collecting():
        image = _image(job, stated.image, at("image"))
    mounts: list[Mount] = []
    with errors.collecting():
        mounts = _mounts(job, runtime, stated.mounts or (), at("mounts"))
    for variable in stated.env_from_host or ():
        with errors.collecting():
            layers.check_variable(variable, at("env-from-host"))
    with errors.collecting():
        container_runtimes.check_options(runtime, stated.options or (), at("options"))
    gpu_options: tuple[str, ...] = ()
    with errors.collecting():
        gpu_options = _gpu_options(job, runtime, at("image")) if resources.asked_gpus(job, name, role) else ()
    errors.raise_all()
    return ContainerSettings(
        runtime=runtime,
        command=site.command or container_runtimes.PROGRAMS[runtime],
        image=image,
        mounts=tuple(mounts),
        home=bool(stated.home),
        env_from_host=tuple(dict.fromkeys([*_site_variables(job), *(stated.env_from_host or ())])),
        options=(*gpu_options, *(stated.options or ())),
    )


def check_paths(runtime: Runtime, paths: Iterable[str], where: str) -> None:
    """Raise ConfigError for a path that cannot be mounted. `paths`: those that slurm-tf mounts at their own place."""
    for path in paths:
        for sign in _not_in_paths(runtime):
            if sign in path:
                found = f"found {path!r}, which {runtime.value} cannot mount"
                raise ConfigError(found, f"a path without {sign!r}", where=where)


def _site_variables(job: Job) -> list[str]:
    """Return the variables that the site sets in every job: they win over an image's, as they do over a user's."""
    return [name for name in site_variables.of_script(job.site) if not name.startswith(env.RESERVED_PREFIXES)]


def where(job: Job, role: str, key: str) -> str:
    """Return "origin: key" of a role's container, for an error: its own key where it has one, else the job's."""
    own = f"roles.{role}.container.{key}"
    return job.where(own if own in job.origins else f"container.{key}")


def folder_of_images(job: Job) -> str:
    """Return the folder of the site's images, "" where it has none. Raises ConfigError."""
    images = job.site.container.images
    return images and files.absolute(user_settings.expand(images, f"site {job.site_name}: container.images"))


def merged(job: Job, role: Role) -> Container:
    """Return the job's [container] with each key that the role states in place of its own."""
    stated = {
        name: value for name in Container.__struct_fields__ if (value := getattr(role.container, name)) is not None
    }
    return msgspec.structs.replace(job.spec.container, **stated)


def _check_scheduler(job: Job, runtime: Runtime, where: str) -> None:
    if job.site.scheduler == "local" and not runtime.wraps:
        found = f"the runtime of site {job.site_name} is {runtime.value}, which is a part of srun, and here is no Slurm"
        raise ConfigError(found, "apptainer, singularity or charliecloud", where=where)


def _image(job: Job, image: str, where: str) -> str:
    """Return the path of an image."""
    if image.startswith(_PATH):
        return files.absolute(str(job.folder / user_settings.expand(image, where)))
    if "://" in image:
        scheme = image.partition(":")[0]
        do = "nothing is pulled in a job: `slurm-tf images build` makes a file of it on the login node"
        raise ConfigError(f"found {image!r}, an address of {scheme}", "the path of an image, or its name", do, where)
    images = folder_of_images(job)
    if not images:
        needed = "a path that begins with /, ./, ../ or ~"
        do = f"image = {f'./{image}'!r}, if it is beside the job file"
        raise ConfigError(f"found {image!r}, and site {job.site_name} has no folder of images", needed, do, where)
    return os.path.normpath(os.path.join(images, image))


def _mounts(job: Job, runtime: Runtime, own: Sequence[str], where: str) -> list[Mount]:
    """Return the site's mounts and the job's, which win where both have a target."""
    of_site = f"site {job.site_name}: container.mounts"
    found: dict[str, Mount] = {}
    for text in job.site.container.mounts:
        mount = parse_mount(text, of_site)
        if not os.path.isabs(mount.source):
            raise ConfigError(f"found {text!r}", "an absolute path", where=of_site)
        found[mount.target] = mount
    stated: dict[str, Mount] = {}
    for text in own:
        mount = parse_mount(text, where, str(job.folder))
        if mount.target in stated:
            raise ConfigError(f"found two mounts at {mount.target}", "one", where=where)
        stated[mount.target] = mount
    both = [*{**found, **stated}.values()]
    for mount in both:
        check_paths(runtime, (mount.source, mount.target), where if mount in stated.values() else of_site)
    return both


def parse_mount(text: str, where: str, folder: str = "") -> Mount:
    """Return the mount that SRC[:DST[:ro]] says; a relative SRC is one below `folder`. Raises ConfigError."""
    parts = text.split(":")
    needed = "SRC, SRC:DST or SRC:DST:ro"
    if len(parts) > 3 or not all(parts) or parts[2:] not in ([], ["ro"], ["rw"]):
        raise ConfigError(f"found the mount {text!r}", needed, where=where)
    source = user_settings.expand(parts[0], where)
    if folder or os.path.isabs(source):
        source = files.absolute(os.path.join(folder, source))
    target = os.path.normpath(parts[1]) if len(parts) > 1 else source
    if not os.path.isabs(target):
        do = f"to mount it read-only at its own path: {source}:{source}:ro" if target in ("ro", "rw") else ""
        raise ConfigError(f"found the mount {text!r}", f"{needed}, DST a path that begins with /", do, where)
    if target in _NEVER_TARGETS:
        raise ConfigError(f"found the mount {text!r}", f"another DST: {target} is the container's own", where=where)
    return Mount(source, target, parts[2:] == ["ro"])


def _gpu_options(job: Job, runtime: Runtime, where: str) -> tuple[str, ...]:
    """Return the words for GPUs."""
    stated = job.site.container.gpu_options
    if stated is not None:
        return stated
    if runtime is Runtime.CHARLIECLOUD:
        raise ConfigError(
            "found a role with GPUs, and charliecloud, which brings no driver: `ch-fromhost --nvidia IMAGE` copies its "
            "libraries into an image",
            f"gpu-options = [] below [container] of site {job.site_name}, which says that its images have them",
            where=where,
        )
    return ("--nv",) if runtime in (Runtime.APPTAINER, Runtime.SINGULARITY) else ()


def _not_in_paths(runtime: Runtime) -> tuple[str, ...]:
    return (":", ",") if runtime in _WITH_COMMAS else (":",)
