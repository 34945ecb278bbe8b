"""The run that a person means: by name, by name and point, by path, or by job id."""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError, SlurmError, UsageError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.slurm.client import Client

_JOB_ID = re.compile(r"(?P<job>\d+)(_(?P<task>\d+)|\+\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """A run, or one point of it."""

    run: RunFolder
    point: int | None = None

    @property
    def name(self) -> str:
        """As a person types it."""
        return self.run.name if self.point is None else f"{self.run.name}/{self.point}"

    @property
    def folder(self) -> RunFolder:
        """The folder in which the job itself writes."""
        return self.run if self.point is None else self.run.point(self.point)

    @property
    def ids(self) -> dict[int | None, str]:
        """The job id of each point that is meant, in its newest submission."""
        newest = job_chain.newest(self.run)
        return newest if self.point is None else {point: job for point, job in newest.items() if point == self.point}

    def each(self) -> list["Target"]:
        """Return one target a point; itself where the run has no points."""
        return [Target(self.run, point) for point in self.ids] or [self]


def all_runs(root: str) -> list[Target]:
    """Return every run below `root` that was submitted or run, oldest first."""
    folder = Path(os.path.expandvars(root)).expanduser().absolute()
    paths = [path.parent for path in folder.glob("*/manifest.json") if _is_ours(path.parent)]
    return [Target(RunFolder(str(path))) for path in sorted(paths, key=lambda path: path.stat().st_ctime)]


def find(text: str, root: str, slurm: Client) -> Target:
    """Return what `text` names: a run below `root`, RUN/POINT, a run's path, or a job id. Raises UsageError."""
    match = _JOB_ID.fullmatch(text)
    known = all_runs(root)
    by_name = {target.run.name: target for target in known}
    if match and text not in by_name:
        return _by_job(match, known, slurm)
    name, _, point = text.rstrip("/").rpartition("/")
    if name and point.isdigit():
        group = by_name.get(name) or _by_path(name)
        if group and int(point) in job_chain.newest(group.run):
            return Target(group.run, int(point))
    found = by_name.get(text) or _by_path(text)
    if found is None:
        near = difflib.get_close_matches(text, by_name, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "slurm-tf list shows all runs"
        raise UsageError(f"no run {text!r} in {root}", "a run's name, its path or a job id", hint)
    return found


def _by_path(text: str) -> Target | None:
    path = Path(text).absolute()
    return Target(RunFolder(str(path))) if (path / "manifest.json").is_file() and _is_ours(path) else None


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have written what is there: it is printed, and its job ids are cancelled."""
    try:
        files.check_own(str(path))
    except RunError:
        return False
    return True


def _by_job(match: "re.Match[str]", known: list[Target], slurm: Client) -> Target:
    """Return the run that job belongs to: as written down, else as Slurm knows the script."""
    job, task = match["job"], match["task"]
    for target in known:
        for each in job_chain.read(target.run):
            if each.job == job:
                point = int(task) if task else each.points[0] if each.points and not each.array else None
                return Target(target.run, point)
    try:
        scripts = {record.script for record in slurm.jobs([match[0]]) if record.script}
    except SlurmError:
        scripts = set()
    for script in scripts:
        found = _by_path(SubmissionFolder(os.path.dirname(script)).run.path)
        if found:
            return Target(found.run, int(task) if task else None)
    needed = "a job that slurm-tf submitted"
    raise UsageError(f"no run of job {match[0]}", needed, f"squeue --jobs={match[0]} shows jobs of others")
