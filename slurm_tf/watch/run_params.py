"""The params of runs and sweep points, as the manifests of their newest submissions have them."""

import functools
import os
from collections.abc import Mapping
from typing import Any

from slurm_tf.errors import RunError
from slurm_tf.run import job_chain, manifest, placeholders
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.run.manifest import Manifest
from slurm_tf.watch.find_run import SelectedRun


def origin(selected: SelectedRun) -> Manifest:
    """Return the manifest of the newest submission of a run or sweep point. Raises RunError or OSError."""
    submission = _submissions(selected.run, _version(selected.run.jobs)).get(selected.point)
    path = submission.manifest if submission else selected.run.manifest
    return _manifest(path, _version(path))


@functools.lru_cache(maxsize=64)
def _submissions(run: RunFolder, _: object) -> Mapping[int | None, SubmissionFolder]:
    """Return the files that each point's newest job uses: read once for all points of a run."""
    return job_chain.submissions(run)


@functools.lru_cache(maxsize=64)
def _manifest(path: str, _: object) -> Manifest:
    return manifest.read(path)


def _version(path: str) -> tuple[int, int] | None:
    """Return what changes when another file takes the place of this one; None where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def of_run(selected: SelectedRun) -> Mapping[str, Any]:
    """Return the values of all params, those in which sweep points differ first; none if they cannot be read."""
    try:
        return origin(selected).params_of(selected.point)
    except (RunError, OSError):
        return {}


def of_point(selected: SelectedRun) -> Mapping[str, Any]:
    """Return the values in which a sweep point differs from the others; none of a whole run, or if it is unreadable."""
    try:
        array = origin(selected).array
    except (RunError, OSError):
        return {}
    return array.points.get(str(selected.point), {}) if array else {}


def words(values: Mapping[str, Any]) -> str:
    """Return values of params in a line: "rate=0.1 units=64"."""
    return " ".join(f"{name}={placeholders.value_text(value)}" for name, value in values.items())


def named(selected: SelectedRun) -> str:
    """Return the name of a run, that of a sweep point with its own values: "flowers-1/3 (rate=0.1 units=64)"."""
    own = words(of_point(selected))
    return f"{selected.name} ({own})" if own else selected.name
