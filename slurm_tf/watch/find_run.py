"""Finds the run that a user names: by its name, by name and sweep point, by path, or by job id."""

import difflib
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError, SlurmError, UsageError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import FOLDER_OF_RUNS, RunFolder, SubmissionFolder
from slurm_tf.slurm.client import Client

_JOB_ID = re.compile(r"(?P<job>\d+)(_(?P<task>\d+)|\+\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SelectedRun:
    """A run that a user has named, or one sweep point of it. `point`: the index of the sweep point."""

    run: RunFolder
    point: int | None = None

    @property
    def name(self) -> str:
        """NAME, or NAME/POINT."""
        return self.run.name if self.point is None else f"{self.run.name}/{self.point}"

    @property
    def folder(self) -> RunFolder:
        """The folder that the job writes to: that of the run, or of the sweep point."""
        return self.run if self.point is None else self.run.point(self.point)

    @property
    def job_ids(self) -> dict[int | None, str]:
        """The id of the newest job of each selected sweep point; of None for a run without points."""
        newest = job_chain.newest(self.run)
        return newest if self.point is None else {point: job for point, job in newest.items() if point == self.point}

    def points(self) -> list["SelectedRun"]:
        """Return one SelectedRun for each selected sweep point; itself if the run has no points."""
        return [SelectedRun(self.run, point) for point in self.job_ids] or [self]


def all_runs(root: str) -> list[SelectedRun]:
    """Return every run in the runs folder `root`, oldest first; of those in it only ours. Raises StorageError."""
    with files.explained("list the runs", root, FOLDER_OF_RUNS):
        names = _names(root)
        if names and not os.access(root, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)
        folders = [Path(root, name) for name in names if os.path.isfile(os.path.join(root, name, "manifest.json"))]
        paths = [path for path in folders if _is_private(path)]
    return [SelectedRun(RunFolder(str(path))) for path in sorted(paths, key=lambda path: path.stat().st_ctime)]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def find(text: str, root: str, slurm: Client) -> SelectedRun:
    """Return the run that `text` names: NAME or NAME/POINT in the runs folder `root`, a path, or a job id.

    Raises UsageError.
    """
    match = _JOB_ID.fullmatch(text)
    known = all_runs(root)
    by_name = {selected.run.name: selected for selected in known}
    if match and text not in by_name:
        return _find_by_job(match, known, slurm)
    name, _, point = text.rstrip("/").rpartition("/")
    if name and point.isdigit():
        group = by_name.get(name) or _find_by_path(name)
        if group and int(point) in job_chain.newest(group.run):
            return SelectedRun(group.run, int(point))
    found = by_name.get(text) or _find_by_path(text)
    if found is None:
        near = difflib.get_close_matches(text, by_name, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "slurm-tf list shows all runs"
        raise UsageError(f"no run {text!r} in {root}", "a run's name, its path or a job id", hint)
    return found


def _find_by_path(text: str) -> SelectedRun | None:
    path = Path(files.absolute(text))
    return SelectedRun(RunFolder(str(path))) if (path / "manifest.json").is_file() and _is_private(path) else None


def _is_private(path: Path) -> bool:
    """Return whether only the user can write to a folder: its text is printed, and its job job_ids are cancelled."""
    try:
        files.check_own(str(path))
    except RunError:
        return False
    return True


def _find_by_job(match: "re.Match[str]", known: list[SelectedRun], slurm: Client) -> SelectedRun:
    """Return the run of a job: the run that recorded the job, otherwise the folder of the job's script in Slurm."""
    job, task = match["job"], match["task"]
    for selected in known:
        for each in job_chain.read(selected.run):
            if each.job == job:
                point = int(task) if task else each.points[0] if each.points and not each.array else None
                return SelectedRun(selected.run, point)
    try:
        scripts = {record.script for record in slurm.jobs([match[0]]) if record.script}
    except SlurmError:
        scripts = set()
    for script in scripts:
        found = _find_by_path(SubmissionFolder(os.path.dirname(script)).run.path)
        if found:
            return SelectedRun(found.run, int(task) if task else None)
    needed = "a job that slurm-tf submitted"
    raise UsageError(f"no run of job {match[0]}", needed, f"squeue --jobs={match[0]} shows jobs of others")
