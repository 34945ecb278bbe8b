"""What was submitted for a run: jobs.json in its folder, a list that only grows."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import VERSION, check_version


@dataclass(frozen=True, slots=True)
class Submitted:
    """One call of sbatch. `points`: the indexes it was for; `array`: they are the tasks of one job array.

    `after`: the id of the job that called it, to go on with its run.
    """

    job: str
    cluster: str
    at: str
    points: tuple[int, ...] = ()
    array: bool = False
    after: str = ""

    def ids(self) -> dict[int | None, str]:
        """Return the job id of each point; of None where the run has no points."""
        if not self.points:
            return {None: self.job}
        return {point: f"{self.job}_{point}" if self.array else self.job for point in self.points}


def add(run: RunFolder, job: str, cluster: str, points: Sequence[int], array: bool) -> None:
    """Write down a job that sbatch has taken."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rows = [asdict(each) for each in (*read(run), Submitted(job, cluster, now, tuple(points), array))]
    text = json.dumps({"contract": VERSION, "jobs": rows}, indent=1)
    files.write_whole(run.jobs, text.encode())


def read(run: RunFolder) -> tuple[Submitted, ...]:
    """Return all submissions of a run, oldest first. Raises RunError for a file of another version."""
    path = Path(run.jobs)
    if not path.exists():
        return ()
    values = json.loads(path.read_bytes())
    check_version(values.get("contract"), run.jobs)
    return tuple(Submitted(**{**row, "points": tuple(row["points"])}) for row in values["jobs"])


def lines(run: RunFolder) -> dict[int | None, tuple[str, ...]]:
    """Return the job id of each point's newest submission, and after it those of the jobs that follow it."""
    found: dict[int | None, tuple[str, ...]] = {}
    for each in read(run):
        for point, job in each.ids().items():
            found[point] = (*found[point], job) if each.after else (job,)
    # jobs that follow a point's write that down in the point's folder
    return {point: line if point is None else _follow(run.point(point), point, line) for point, line in found.items()}


def newest(run: RunFolder) -> dict[int | None, str]:
    """Return the job id of each point's newest submission, or of the last job that follows it."""
    return {point: line[-1] for point, line in lines(run).items()}


def _follow(folder: RunFolder, point: int, line: tuple[str, ...]) -> tuple[str, ...]:
    after = {each.after: each.ids()[point] for each in read(folder)}
    while line[-1] in after:
        line = (*line, after.pop(line[-1]))
    return line
