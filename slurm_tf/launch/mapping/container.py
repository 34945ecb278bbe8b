"""Makes the command and the environment with which a container runtime starts a program: nothing is run here.

What slurm-tf and the job file set wins over the image's own variables, byte for byte, and no shell reads it. Seen with
apptainer 1.4.5 and Charliecloud 0.31.
"""

from dataclasses import dataclass
from typing import Collection, Dict, Iterable, List, Mapping, Sequence, Tuple

from slurm_tf.run import env
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime

# Variables that name files of the host, or have a shell or Python read them: an image has its own.
_OF_HOST_ALONE = (
    "PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE",
    "PYTHONEXECUTABLE", "VIRTUAL_ENV", "CONDA_PREFIX", "BASH_ENV", "ENV", "TMPDIR", "PWD", "OLDPWD",
)  # fmt: skip
# How a shell exports its functions, which those of an image may not be able to read.
_FUNCTION = "BASH_FUNC_"
# What Charliecloud, Debian and Docker take where an image sets no PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What these runtimes prefix a variable with that is to be set in the container, whatever the image sets.
_PREFIXES: Mapping[Runtime, str] = {Runtime.APPTAINER: "APPTAINERENV_", Runtime.SINGULARITY: "SINGULARITYENV_"}
# What the loader of shared libraries reads, of the runtime's own program as well.
_OF_LOADER = "LD_"
# Folders at the top of an image that have files of its own: nothing is put over them.
_OF_IMAGES = (
    "bin", "boot", "ch", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "run", "sbin", "srv", "sys", "tmp",
    "usr", "var",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """How programs enter a container: its settings, all its mounts, and the folder in which they start.

    `covers`: folders of the node that are mounted first, over folders at an image's top; see `covered`.
    """

    settings: ContainerSettings
    mounts: Tuple[Mount, ...]
    cwd: str
    covers: Tuple[Mount, ...] = ()


def all_mounts(settings: ContainerSettings, own: Sequence[str], home: str) -> Tuple[Mount, ...]:
    """Return the mounts of a container, each after those that it is below.

    `own`: the folders that programs need of slurm-tf, each at its own path; `home`: the home folder.
    """
    stated = {mount.target: mount for mount in settings.mounts}
    paths = [*own, *([home] if settings.home and home else [])]
    for path in sorted(paths):
        covered = any(_is_below(path, mount) and not mount.read_only for mount in stated.values())
        if not covered:
            stated[path] = Mount(path, path)
    return tuple(sorted(stated.values(), key=lambda mount: mount.target.count("/")))


def inherited(host: Mapping[str, str], image: Mapping[str, str], named: Iterable[str]) -> Dict[str, str]:
    """Return the variables that a program in a container starts from: the host's, over them the image's.

    `named`: those of the host that win over the image's, as what Slurm sets does. What names files of the host is left
    out unless it is named.
    """
    found = {name: value for name, value in host.items() if not is_of_host_alone(name)}
    found.update({name: value for name, value in image.items() if not is_slurms(name)})
    found.update({name: host[name] for name in named if name in host})
    found.setdefault("PATH", DEFAULT_PATH)
    return found


def enter(
    entry: Entry, argv: Sequence[str], environ: Mapping[str, str], host: Mapping[str, str], exact: Collection[str] = ()
) -> Tuple[List[str], Dict[str, str]]:
    """Return the command and the environment that run `argv` in the container with the variables `environ`.

    `host`: the agent's own variables; `exact`: those that are the program's even where the runtime has its own of that
    name.
    """
    if entry.settings.runtime is Runtime.CHARLIECLOUD:
        return _charliecloud(entry, argv, environ, host, exact)
    return _apptainer(entry, argv, environ, host, exact)


def in_image(
    settings: ContainerSettings, argv: Sequence[str], host: Mapping[str, str], sets_variables: bool = True
) -> Tuple[List[str], Dict[str, str]]:
    """Return the command and the environment that run `argv` in an image, with the variables of the image alone.

    `sets_variables`: whether an image of Charliecloud has the file of variables without which ch-run would end.
    """
    if settings.runtime is Runtime.CHARLIECLOUD:
        own = ["--unset-env=*", "--set-env" if sets_variables else f"--set-env=PATH={DEFAULT_PATH}"]
        return [*settings.command, *own, *settings.options, settings.image, "--", *argv], _of_ch_run({}, host)
    return _apptainer(Entry(settings, (), "/"), argv, {}, host, ())


def covered(mounts: Sequence[Mount], not_empty: Collection[str]) -> Dict[str, List[Mount]]:
    """Return the mounts whose mount points an image of Charliecloud need not have, by the folder at its top.

    ch-run cannot make a mount point in an image. So a folder of the node that has them is put over the one at the top,
    such as /home or /shared. `not_empty`: the folders there in which the image has files of its own, as far as known.
    """
    found: Dict[str, List[Mount]] = {}
    targets = {mount.target for mount in mounts}
    for mount in mounts:
        top, _, rest = mount.target[1:].partition("/")
        if rest and top not in _OF_IMAGES and top not in not_empty and f"/{top}" not in targets:
            found.setdefault(top, []).append(mount)
    return found


def _is_below(path: str, mount: Mount) -> bool:
    """Whether a path of the node is at its own path already, by a mount of what is above it."""
    return mount.source == mount.target and f"{path}/".startswith(f"{mount.target.rstrip('/')}/")


def is_of_host_alone(name: str) -> bool:
    """Return whether a variable says where files of the host are, or has a program read some."""
    return name in _OF_HOST_ALONE or name.startswith(_FUNCTION)


def is_slurms(name: str) -> bool:
    """Return whether a variable says what Slurm or slurm-tf gave to a task, which an image cannot know."""
    return name in (*env.RESERVED, *env.DEVICE_VARIABLES) or name.startswith(env.RESERVED_PREFIXES)


def _charliecloud(
    entry: Entry, argv: Sequence[str], environ: Mapping[str, str], host: Mapping[str, str], exact: Collection[str]
) -> Tuple[List[str], Dict[str, str]]:
    """Return what runs `argv`: ch-run passes its own variables on, but for some, which are said to it."""
    settings = entry.settings
    binds = [f"--bind={mount.source}:{mount.target}" for mount in (*entry.covers, *entry.mounts)]
    said = {name: environ[name] for name in environ if name.startswith(_OF_LOADER)}
    said.update({name: environ[name] for name in ("HOME", "TMPDIR") if name in environ and name in exact})
    if "/bin" not in environ.get("PATH", "").split(":"):  # ch-run would add it
        said["PATH"] = environ.get("PATH", "")
    # it takes one pair of quotes away
    options = [f"--set-env={name}='{value}'" for name, value in said.items()]
    options += [f"--unset-env={name}" for name in host if name.startswith(_OF_LOADER) and name not in environ]
    options = [f"--cd={entry.cwd}", *binds, "--env-no-expand", *options, *settings.options]
    return [*settings.command, *options, settings.image, "--", *argv], _of_ch_run(environ, host)


def _of_ch_run(environ: Mapping[str, str], host: Mapping[str, str]) -> Dict[str, str]:
    """Return the variables of ch-run itself: it has the host's libraries, needs USER, would mount TMPDIR at /tmp."""
    found = {name: value for name, value in environ.items() if name != "TMPDIR" and not name.startswith(_OF_LOADER)}
    found.update({name: value for name, value in host.items() if name.startswith(_OF_LOADER)})
    found.setdefault("USER", host.get("USER", "user"))
    return found


def _apptainer(
    entry: Entry, argv: Sequence[str], environ: Mapping[str, str], host: Mapping[str, str], exact: Collection[str]
) -> Tuple[List[str], Dict[str, str]]:
    """Return what runs `argv`: variables with the runtime's prefix win over the image's scripts.

    Without --no-eval a shell would evaluate them.
    """
    settings, prefix = entry.settings, _PREFIXES[entry.settings.runtime]
    binds = [f"--bind={mount.source}:{mount.target}{':ro' * mount.read_only}" for mount in entry.mounts]
    home = [] if settings.home else ["--no-home"]
    options = ["--cleanenv", "--no-eval", *home, *binds, f"--pwd={entry.cwd}", *settings.options]
    # the one variable that it lets nobody set
    own_home = ["env", f"HOME={environ['HOME']}"] if "HOME" in exact and "HOME" in environ else []
    passed = {f"{prefix}{name}": value for name, value in environ.items() if name != "HOME"}
    own = {name: value for name, value in host.items() if not name.startswith(tuple(_PREFIXES.values()))}
    return [*settings.command, "-s", "exec", *options, settings.image, *own_home, *argv], {**own, **passed}
