"""Explains why a container runtime did not start a program, by what it printed; where it is known, what to do."""

import os
import re
import shlex
import unicodedata
from typing import Optional, Tuple

from slurm_tf.errors import ContainerError
from slurm_tf.run.container_settings import ContainerSettings

# How much of its own words is shown.
_LINES, _LONGEST = 4, 600
# The number of its process, as in "ch-run[4711]: error: ...".
_PROCESS = re.compile(r"(?<=^ch-run)\[\d+\](?=: )")
_FUSE = "users of this node must be able to open /dev/fuse (mode 0666); an image that is a folder needs none"
_USER_NAMESPACES = (
    "users of this node need user namespaces: sysctl user.max_user_namespaces, and on Debian "
    "kernel.unprivileged_userns_clone=1"
)
_MOUNT_POINT = "the image needs the mount point {1}: mkdir -p {path}"
# What runtimes print, and what to do; the first that fits. {1}: what the pattern found, {path}: that in the image.
# Printed by ch-run 0.31, apptainer 1.4.5 and the kernel.
_CAUSES: Tuple[Tuple[str, str], ...] = (
    (r"/dev/fuse|fuse: device not found|FUSE error", _FUSE),
    (r"not found: {image}/(?:dev|proc|sys) ", "image is to be a folder that holds a whole image"),
    (r"can't mkdir: {image}(/[^\n]*?): Read-only", _MOUNT_POINT),
    (r"(?:not found|can't bind)[^\n]*{image}(/etc/(?:passwd|group))", "the image needs {1}: touch {path}"),
    (r"destination not found: {image}(/[^\n(]*?) \(", _MOUNT_POINT),
    (r"can't (?:init|unshare|setns)[^\n]*namespace|user namespace|max_user_namespaces", _USER_NAMESPACES),
    (r"Exec format error", "an image for {machine}, which this node is"),
    (r"[Oo]ut of memory|Cannot allocate memory", "more memory for the task: the image is unpacked within it"),
    (r"unknown (?:shorthand )?flag: '?(--no-eval)", "apptainer, or SingularityCE 3.10 or later: slurm-tf needs {1}"),
    (r"(?:can't execve\(2\)|executable file not found|exec: )[^\n]*", "the image needs {program}, in its own PATH"),
)


def explain(settings: ContainerSettings, program: str, code: Optional[int], printed: str) -> ContainerError:
    """Return the error for a program that did not start.

    `code`: how the runtime ended, negative for a signal, None if it took too long; `printed`: what it printed.
    """
    found = f"{settings.runtime.value} cannot start {program} in {settings.image} ({_ended(code)})"
    words = _words(printed)
    return ContainerError(f"{found}: {words}" if words else found, do=_do(settings, program, code, printed))


def _ended(code: Optional[int]) -> str:
    if code is None:
        return "it took too long"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _words(printed: str) -> str:
    """Return the end of what was printed, in one line, which is the same on all nodes that have the same problem."""
    lines = [_PROCESS.sub("", line.strip()) for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if ": warning: " not in line] or lines
    text = "; ".join(dict.fromkeys(errors[-_LINES:]))[-_LONGEST:]
    return "".join(each if unicodedata.category(each)[0] != "C" else "?" for each in text)


def _do(settings: ContainerSettings, program: str, code: Optional[int], printed: str) -> str:
    """Return what to do, "" where that is not known."""
    values = {"image": settings.image, "program": program, "machine": os.uname().machine}
    for pattern, do in _CAUSES:
        match = re.search(pattern.replace("{image}", re.escape(settings.image)), printed)
        if match:
            path = shlex.quote(settings.image + "".join(match.groups()))
            return do.format("", *match.groups(), path=path, **values)
    if code in (-9, 137):
        return "more memory for the task, if the kernel killed it for that: the image is unpacked within it"
    return ""
