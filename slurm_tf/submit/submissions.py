"""What was submitted for a run: jobs.json in its folder, a list that only grows."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm_tf import contract, files


@dataclass(frozen=True, slots=True)
class Submitted:
    """One call of sbatch. `points`: the indexes it was for; `array`: they are the tasks of one job array."""

    job: str
    cluster: str
    at: str
    points: tuple[int, ...] = ()
    array: bool = False

    def ids(self) -> dict[int | None, str]:
        """Return the job id of each point; of None where the run has no points."""
        if not self.points:
            return {None: self.job}
        return {point: f"{self.job}_{point}" if self.array else self.job for point in self.points}


def add(run: contract.RunFolder, job: str, cluster: str, points: Sequence[int], array: bool) -> None:
    """Write down a job that sbatch has taken."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rows = [asdict(each) for each in (*read(run), Submitted(job, cluster, now, tuple(points), array))]
    text = json.dumps({"contract": contract.VERSION, "jobs": rows}, indent=1)
    files.write_whole(run.jobs, text.encode())


def read(run: contract.RunFolder) -> tuple[Submitted, ...]:
    """Return all submissions of a run, oldest first. Raises RunError for a file of another version."""
    path = Path(run.jobs)
    if not path.exists():
        return ()
    values = json.loads(path.read_bytes())
    contract.check_version(values.get("contract"), run.jobs)
    return tuple(Submitted(**{**row, "points": tuple(row["points"])}) for row in values["jobs"])


def newest(run: contract.RunFolder) -> dict[int | None, str]:
    """Return the job id of each point's newest submission."""
    ids: dict[int | None, str] = {}
    for each in read(run):
        ids.update(each.ids())
    return ids
