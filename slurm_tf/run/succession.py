"""The jobs of a run that follow one another: written by the job that is followed, into jobs.json.

Only one attempt of a run lives. A point of an array writes into its own folder: others do at the same time.
"""

import datetime
import json
from typing import Any, Dict, List, Optional

from slurm_tf import files
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import VERSION, check_version


def add(folder: RunFolder, job: str, cluster: str, point: Optional[int], array: bool, after: str) -> None:
    """Write down that `job` follows the job `after`, for the whole run or one `point` of it.

    `array`: it is a job array of one task. The form is that of run/submissions.py. Raises RunError or OSError.
    """
    rows = _read(folder)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    points = [] if point is None else [point]
    rows.append({"job": job, "cluster": cluster, "at": now, "points": points, "array": array, "after": after})
    text = json.dumps({"contract": VERSION, "jobs": rows}, indent=1)
    files.write_whole(folder.jobs, text.encode())


def line(folder: RunFolder, job: str) -> List[str]:
    """Return `job`, as Slurm's commands take it, after all those that it follows. Raises RunError or OSError."""
    after = {_id(row): row.get("after", "") for row in _read(folder)}
    found: List[str] = []
    while job and job not in found:
        found.insert(0, job)
        job = after.get(job, "")
    return found


def _id(row: Dict[str, Any]) -> str:
    return f"{row['job']}_{row['points'][0]}" if row["array"] and len(row["points"]) == 1 else str(row["job"])


def _read(folder: RunFolder) -> List[Dict[str, Any]]:
    try:
        with open(folder.jobs, encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError:
        return []
    check_version(values.get("contract"), folder.jobs)
    rows: List[Dict[str, Any]] = values["jobs"]
    return rows
