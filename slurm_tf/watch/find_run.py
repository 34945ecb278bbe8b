"""Finds the run that a user names: by its name, by name and sweep point, by path, or by job id."""

import contextlib
import difflib
import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError, SlurmError, UsageError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import FOLDER_OF_RUNS, RunFolder, SubmissionFolder
from slurm_tf.slurm.client import Client
from slurm_tf.slurm.records import whole_job
from slurm_tf.submit import run_index
from slurm_tf.watch import run_discovery

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


def runs_in(root: str) -> list[SelectedRun]:
    """Return every run in the runs folder `root`, oldest first; of those in it only ours. Raises StorageError."""
    with files.explained("list the runs", root, FOLDER_OF_RUNS):
        names = _names(root)
        if names and not os.access(root, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)
        folders = [Path(root, name) for name in names if os.path.isfile(os.path.join(root, name, "manifest.json"))]
        paths = [path for path in folders if _is_private(path)]
        return [SelectedRun(RunFolder(str(path))) for path in sorted(paths, key=_submitted)]


def _submitted(run: Path) -> int:
    """Return when a run was submitted last: its folder changes with each file that a job writes there."""
    return (run / "manifest.json").stat().st_mtime_ns


def all_runs(root: str) -> list[SelectedRun]:
    """Return the user's runs wherever they are: first those in the runs folder `root`, then those in other folders.

    Those in other folders are from the user's index: watch/run_discovery.py makes it where it is missing.
    """
    found = runs_in(root)
    here = {files.identity(selected.run.path) for selected in found}
    others = [folder for folder in run_index.read() or () if _is_private(Path(folder))]
    return [*found, *(SelectedRun(RunFolder(each)) for each in others if files.identity(each) not in here)]


def names_by_job(root: str) -> dict[str, str]:
    """Return the name of each run by the ids of its jobs, of all runs that the user has. Raises StorageError."""
    found = {}
    for each in all_runs(root):
        with contextlib.suppress(RunError):  # of a run whose record cannot be read nothing is known
            found.update({whole_job(job): each.run.name for job in each.job_ids.values()})
    return found


def labels(selected_runs: Sequence[SelectedRun]) -> list[str]:
    """Return for each selected run or sweep point the name that tells it from the others: its own, or its path."""
    folders: dict[str, set[str]] = {}
    for selected in selected_runs:
        folders.setdefault(selected.run.name, set()).add(selected.run.path)
    return [each.name if len(folders[each.run.name]) == 1 else each.folder.path for each in selected_runs]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def find(text: str, root: str, slurm: Client) -> SelectedRun:
    """Return the run that `text` names: NAME or NAME/POINT, a path, or a job id.

    A run in the runs folder `root` comes before those in other folders, which are looked at if there is none. Raises
    UsageError.
    """
    here = runs_in(root)
    if text not in {selected.run.name for selected in here}:
        run_discovery.make_index(root)
    match = _JOB_ID.fullmatch(text)
    if match and text not in {selected.run.name for selected in here}:
        return _find_by_job(match, here, root, slurm)
    found = _find_by_name(text, here) or _find_by_path(text) or _find_by_name(text, all_runs(root))
    if found is None:
        near = difflib.get_close_matches(text, [selected.run.name for selected in all_runs(root)], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "slurm-tf list --all shows all runs"
        raise UsageError(f"no run {text!r} in {root} or elsewhere", "a run's name, its path or a job id", hint)
    return found


def _find_by_name(text: str, known: Sequence[SelectedRun]) -> SelectedRun | None:
    """Return the run NAME or the sweep point NAME/POINT. Raises UsageError where several have the name."""
    by_name: dict[str, list[SelectedRun]] = {}
    for selected in known:
        by_name.setdefault(selected.run.name, []).append(selected)
    name, _, point = text.rstrip("/").rpartition("/")
    named = by_name.get(text, [])
    if name and point.isdigit():
        groups = [selected.run for selected in by_name.get(name, [])]
        named = [SelectedRun(run, int(point)) for run in groups if int(point) in job_chain.newest(run)]
    if len(named) > 1:
        paths = ", ".join(selected.folder.path for selected in named)
        raise UsageError(f"{len(named)} runs are named {text}: {paths}", "the path of one of them")
    return named[0] if named else None


def _find_by_path(text: str) -> SelectedRun | None:
    """Return the run, or the sweep point of one, whose folder is at a path."""
    path = Path(files.absolute(text))
    if (path / "manifest.json").is_file():
        return SelectedRun(RunFolder(str(path))) if _is_private(path) else None
    group = path.parent
    if path.name.isdigit() and (group / "manifest.json").is_file() and _is_private(group):
        run, point = RunFolder(str(group)), int(path.name)
        return SelectedRun(run, point) if point in job_chain.newest(run) else None
    return None


def _is_private(path: Path) -> bool:
    """Return whether only the user can write to a folder: its text is printed, and its job job_ids are cancelled."""
    try:
        files.check_own(str(path))
    except RunError:
        return False
    return True


def _find_by_job(match: "re.Match[str]", here: list[SelectedRun], root: str, slurm: Client) -> SelectedRun:
    """Return the run of a job.

    It is the run in `root` that recorded the job, the folder of the job's script in Slurm, or a run elsewhere that
    recorded it.
    """
    try:
        found = _recorded(match, here) or _find_by_script(match, slurm) or _recorded(match, all_runs(root)[::-1])
    except SlurmError:
        found = _recorded(match, all_runs(root)[::-1])
    if found is None:
        needed = "a job that slurm-tf submitted"
        raise UsageError(f"no run of job {match[0]}", needed, f"squeue --jobs={match[0]} shows jobs of others")
    return found


def _recorded(match: "re.Match[str]", known: Sequence[SelectedRun]) -> SelectedRun | None:
    """Return the run that recorded a job."""
    job, task = match["job"], match["task"]
    for selected in known:
        for each in job_chain.read(selected.run):
            if each.job == job:
                if task:
                    return SelectedRun(selected.run, int(task))
                return SelectedRun(selected.run, each.points[0] if each.points and not each.array else None)
    return None


def _find_by_script(match: "re.Match[str]", slurm: Client) -> SelectedRun | None:
    """Return the run of a job's script. Raises SlurmError."""
    for script in {record.script for record in slurm.jobs([match[0]]) if record.script}:
        found = _find_by_path(SubmissionFolder(os.path.dirname(script)).run.path)
        if found:
            return SelectedRun(found.run, int(match["task"]) if match["task"] else None)
    return None
