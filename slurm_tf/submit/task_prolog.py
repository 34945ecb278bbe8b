"""Makes files that Slurm itself runs: a TaskProlog is one file, a shell script followed by the launcher."""

import hashlib
import shlex
from pathlib import Path

from slurm_tf import __version__, files, search_path
from slurm_tf.submit import packed_modules

# A shell reads no further than exec, and Python runs a zip file that other data precedes (zipfile(3)).
_HEAD = """#!/bin/sh
# slurm-tf @VERSION@: a TaskProlog (slurm.conf, or srun --task-prolog) that tells each task of a step its place in a
# TensorFlow cluster. It does nothing unless the user has set SLURM_TF_ROLES, such as SLURM_TF_ROLES=ps=1,worker=3.
[ -n "${SLURM_TF_ROLES:-}" ] || exit 0
# a coordinator of slurm-tf has this step
[ -z "${SLURM_TF_COORDINATOR:-}" ] || exit 0
# a batch step has no step id here; those of interactive, batch and extern steps begin at 4294967290
case ${SLURM_STEP_ID:-} in '' | 429496729?) exit 0 ;; esac
python=${SLURM_TF_PYTHON:-@PYTHON@}
if ! command -v "$python" >/dev/null; then
    echo "print slurm-tf: found no $python on $(hostname); needed Python 3.9 or later (SLURM_TF_PYTHON=...)"
    exit 69
fi
exec "$python" -IS "$0" task-prolog
# What follows is a zip file of Python modules.
"""


def task_prolog(python: str = "python3") -> bytes:
    """Return the TaskProlog, which runs the node's `python`: the same bytes for the same sources and Python."""
    head = _HEAD.replace("@VERSION@", __version__).replace("@PYTHON@", shlex.quote(python))
    return head.encode() + packed_modules.launcher()


def keep(data: bytes, name: str) -> Path:
    """Write `data` into the user's cache folder, under a name with its digest; return the path.

    A file that a pending job names thus never changes. Raises RunError and OSError.
    """
    path = Path(files.own_folder(str(search_path.user_cache()))) / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    if not path.exists() or path.read_bytes() != data:
        files.write_whole(str(path), data, 0o700)
    return path
