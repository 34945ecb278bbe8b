"""Looks at what a node has for containers: the runtime, what the kernel allows a user, the job's images and mounts."""

import contextlib
import os
import re
import shutil
import stat
import subprocess
from typing import Dict, Mapping, Optional, Tuple

from slurm_tf.run import image_kind
from slurm_tf.run.container_settings import ContainerSettings, Runtime
from slurm_tf.run.examination import ContainerFacts, ExaminationSettings, ImageFacts, RuntimeSettings

_VERSION_SECONDS = 10.0
# How each says its version; pyxis starts enroot on the node. What Slurm itself starts is named in its oci.conf.
_ASK: Mapping[Runtime, Tuple[str, ...]] = {
    Runtime.APPTAINER: ("--version",),
    Runtime.SINGULARITY: ("--version",),
    Runtime.CHARLIECLOUD: ("--version",),
    Runtime.PYXIS: ("version",),
}
_NUMBER = re.compile(r"\d+(?:\.\d+)+\S*")
_NAMESPACES = "user/max_user_namespaces"
# Settings that take user namespaces from users, and the value with which they do: Debian's, and Ubuntu's from 23.10 on.
_RESTRICTIONS = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}


def describe(
    settings: ExaminationSettings, environ: Mapping[str, str], sys: str = "/proc/sys", fuse: str = "/dev/fuse"
) -> Optional[ContainerFacts]:
    """Return what this node has for containers; None at a site that has no runtime for them."""
    if settings.runtime is None:
        return None
    program, version, problem = _runtime(settings.runtime, environ)
    number = _read(f"{sys}/{_NAMESPACES}")
    restrictions = {name.replace("/", "."): _read(f"{sys}/{name}") for name in _RESTRICTIONS}
    return ContainerFacts(
        program=program,
        version=version,
        problem=problem,
        namespaces=int(number) if number.isdigit() else None,
        restrictions={
            name: value for name, value in restrictions.items() if value == _RESTRICTIONS[name.replace(".", "/")]
        },
        fuse=_mode(fuse),
        opens_fuse=os.access(fuse, os.R_OK | os.W_OK),
        images=tuple(_image(each.container) for each in settings.containers),
    )


def _runtime(settings: RuntimeSettings, environ: Mapping[str, str]) -> Tuple[str, str, str]:
    """Return the path of the runtime's program, its version, and why it does not say it."""
    asked = _ASK.get(settings.runtime)
    if asked is None:
        return "", "", ""
    name = "enroot" if settings.runtime is Runtime.PYXIS else settings.command[0]
    searched = environ.get("PATH", os.defpath)
    program = shutil.which(os.path.expanduser(name), path=searched)
    if program is None:
        return "", "", f"there is no program {name}" + ("" if "/" in name else f" in PATH={searched}")
    try:
        done = subprocess.run(
            [program, *asked], env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_VERSION_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return program, "", f"{program} {' '.join(asked)} does not answer in {_VERSION_SECONDS:.0f} s"
    except OSError as error:
        return program, "", f"{program}: {error.strerror}"
    text = done.stdout.decode("utf-8", "replace")
    match = _NUMBER.search(text)
    if done.returncode == 0 and match:
        return program, match[0], ""
    last = (text.strip().splitlines() or ["nothing"])[-1][:200]
    return program, "", f"{program} {' '.join(asked)} says {last} (exit code {done.returncode})"


def _image(container: ContainerSettings) -> ImageFacts:
    kind, problem = "", ""
    try:
        found = image_kind.of(container.image)
        kind = found.value if found else ""
        if found is None:
            problem = "it is no image: neither a squashfs or SIF, nor a folder with the files of a system"
    except OSError as error:
        problem = error.strerror or str(error)
    return ImageFacts(container.image, kind, problem, unseen=_unseen(container))


def _unseen(container: ContainerSettings) -> Dict[str, str]:
    """Return why the sources of mounts cannot be had here, by their paths."""
    found = {}
    for mount in container.mounts:
        try:
            os.stat(mount.source)
        except OSError as error:
            found[mount.source] = error.strerror or str(error)
            continue
        needed = os.R_OK | (os.X_OK if os.path.isdir(mount.source) else 0)
        if not os.access(mount.source, needed):
            found[mount.source] = "it cannot be read"
    return found


def _mode(path: str) -> Optional[int]:
    with contextlib.suppress(OSError):
        return stat.S_IMODE(os.stat(path).st_mode)
    return None


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()
    return ""
