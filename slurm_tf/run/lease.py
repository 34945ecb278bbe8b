"""The lease of a run: which attempt may write to it. Standard library, Python 3.9."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Optional

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import VERSION, check_version


@dataclass(frozen=True)
class Lease:
    """The attempt that may write to a run: one incarnation of one job.

    `attempt`: the job's id, a dot, how often Slurm restarted it. `job`: its id as Slurm's commands take it, "" without
    Slurm. `process`: of the coordinator on `host`, its id, a dash, its start (field 22 of /proc/PID/stat). `at`: when,
    seconds since the epoch. `step`: how many steps the attempt has had; what is left of a former one may not write.
    """

    attempt: str
    job: str
    host: str
    process: str
    at: float
    step: int = 0

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps({"contract": VERSION, **asdict(self)}, indent=1) + "\n"


def read(folder: RunFolder) -> Optional[Lease]:
    """Return whose the run is, None if nobody has taken it. Raises RunError or OSError."""
    try:
        with open(folder.lease, encoding="utf-8") as file:
            values = json.load(file)
        check_version(values.pop("contract", "none"), folder.lease)
        return Lease(**values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        needed, do = "the file that an attempt wrote", "remove it if no attempt lives"
        raise RunError(f"{folder.lease} is no lease ({error})", needed, do) from error


def check(folder: RunFolder, mine: str) -> Lease:
    """Return the lease of the run, which is still that of the attempt `mine`. Raises RunError."""
    held = read(folder)
    if held is None or held.attempt != mine:
        raise refusal(folder, f"attempt {held.attempt} on {held.host}" if held else "nobody")
    return held


def next_step(folder: RunFolder, mine: str) -> None:
    """Take in that the attempt `mine` has a new step: programs of the former one may write no more. Raises RunError."""
    held = check(folder, mine)
    files.write_whole(folder.lease, replace(held, step=held.step + 1).to_json().encode())


def is_ours(folder: RunFolder, mine: str) -> bool:
    """Whether no other attempt than `mine` has taken the run, as far as can be read."""
    try:
        held = read(folder)
    except (RunError, OSError):
        return True
    return held is None or held.attempt == mine


def refusal(folder: RunFolder, who: str, do: str = "wait, or use another --name") -> RunError:
    """Return the error for a run that `who` runs."""
    return RunError(f"run {folder.name} is being run by {who}", "a run of which no other attempt lives", do)
