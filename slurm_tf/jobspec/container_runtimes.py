"""The container runtimes that a site can name: which there are, and which of their options slurm-tf refuses."""

import re
from collections.abc import Mapping, Sequence

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import layers
from slurm_tf.run.container_settings import Runtime

# What cannot be a runtime, and why; seen with podman 4.3.1, bubblewrap 0.8.0, enroot 3.4 (2026-11).
_REFUSED_RUNTIMES: Mapping[str, str] = {
    "podman": "its program is a child of conmon, not of the task: it goes on after Slurm has cancelled the job",
    "docker": "its program is a child of a daemon of root's, not of the task: Slurm neither limits nor ends it",
    "bwrap": "a signal for the program ends bwrap, and the program goes on without it",
    "bubblewrap": "a signal for the program ends bwrap, and the program goes on without it",
    "enroot": "it closes the socket between the program and its agent; pyxis runs enroot's images by srun",
    "shifter": "it was not tried: how it passes on variables and signals is not known",
}
# The program of each, () for what is a part of Slurm.
PROGRAMS: Mapping[Runtime, tuple[str, ...]] = {
    Runtime.APPTAINER: ("apptainer",),
    Runtime.SINGULARITY: ("singularity",),
    Runtime.CHARLIECLOUD: ("ch-run",),
    Runtime.PYXIS: (),
    Runtime.OCI: (),
}
_OF_APPTAINER = {
    "-C": "it drops variables, /dev/nvidia* and all of /dev/shm but 64 MiB",
    "--containall": "it drops variables, /dev/nvidia* and all of /dev/shm but 64 MiB",
    "-c": "it makes /dev/shm and /tmp small",
    "--contain": "it makes /dev/shm and /tmp small",
    "-p": "a signal comes twice, and an exit code by signal is another",
    "--pid": "a signal comes twice, and an exit code by signal is another",
    "-n": "tasks could not reach each other",
    "--net": "tasks could not reach each other",
    "-i": "tasks of a node could not share memory",
    "--ipc": "tasks of a node could not share memory",
    "--eval": "a shell would change values of variables",
    "--env": "a shell would change values; [env] of the job file passes them on as they are",
    "--env-file": "a shell would change values; [env] of the job file passes them on as they are",
    "-B": "the key mounts is for that",
    "--bind": "the key mounts is for that",
    "--mount": "the key mounts is for that",
    "-H": "the key home is for that",
    "--home": "the key home is for that",
    "--no-home": "the key home is for that",
    "--pwd": "the job's chdir is where programs run",
    "--cwd": "the job's chdir is where programs run",
}
# Options that would break what slurm-tf promises, and what each would do.
_REFUSED_OPTIONS: Mapping[Runtime, Mapping[str, str]] = {
    Runtime.APPTAINER: _OF_APPTAINER,
    Runtime.SINGULARITY: _OF_APPTAINER,
    Runtime.CHARLIECLOUD: {
        "--unset-env": "it takes away variables that slurm-tf sets",
        "--set-env": "[env] of the job file passes values on as they are",
        "--env-no-expand": "[env] of the job file passes values on as they are",
        "-b": "the key mounts is for that",
        "--bind": "the key mounts is for that",
        "-c": "the job's chdir is where programs run",
        "--cd": "the job's chdir is where programs run",
        "--home": "the key home is for that",
        "--no-home": "the key home is for that",
        "--no-passwd": "programs would have no user name",
        "-u": "files of the run would belong to another user",
        "--uid": "files of the run would belong to another user",
        "-g": "files of the run would belong to another group",
        "--gid": "files of the run would belong to another group",
        "-j": "a task's program would end with that of another",
        "--join": "a task's program would end with that of another",
        "--join-ct": "a task's program would end with that of another",
        "--join-pid": "a task's program would end with that of another",
        "--join-tag": "a task's program would end with that of another",
    },
    Runtime.PYXIS: {
        "--container-image": "the key image is for that",
        "--container-mounts": "the key mounts is for that",
        "--container-mount-home": "the key home is for that",
        "--no-container-mount-home": "the key home is for that",
        "--container-env": "the key env-from-host is for that",
        "--container-workdir": "the job's chdir is where programs run",
        "--container-entrypoint": "the image's entrypoint would run in the launcher's place",
        "--container-remap-root": "files of the run would belong to another user",
    },
    Runtime.OCI: {
        "--container": "the key image is for that",
    },
}  # fmt: skip
# Where a short option may stand together with others, as in -ec.
_SHORT = re.compile(r"-[A-Za-z]+", re.ASCII)


def check_runtime(name: str, where: str) -> None:
    """Raise ConfigError for what cannot be a runtime; "" is none. `where`: the key of the profile."""
    names = [each.value for each in Runtime]
    if not name or name in names:
        return
    reason = _REFUSED_RUNTIMES.get(name, "")
    found = f"found {name!r}: {reason}" if reason else f"found {name!r}"
    raise ConfigError(found, f"one of {', '.join(names)}", layers.nearest(name, names), where)


def check_options(runtime: Runtime, words: Sequence[str], where: str) -> None:
    """Raise ConfigError for a word that would break what slurm-tf promises of programs in containers."""
    for word in words:
        if word == "--":
            raise ConfigError("found '--'", "options alone: the image and the program follow them", where=where)
        for option in _options_in(word):
            reason = _REFUSED_OPTIONS[runtime].get(option)
            if reason:
                raise ConfigError(f"found {word!r}: {reason}", f"other options of {runtime.value}", where=where)


def _options_in(word: str) -> list[str]:
    """Return the options that a word may be: itself without a value, or each letter of several."""
    if _SHORT.fullmatch(word):
        return [f"-{letter}" for letter in word[1:]]
    return [word.partition("=")[0]]
