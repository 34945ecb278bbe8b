"""Resolves runs in --dependency to job ids: `afterok:a-1` waits for run a-1, `afterok:a-1/3` for its sweep point 3.

`after:a-1+5` waits until five minutes after its start.

A run stands for the newest job of its chain. So does the id of an earlier job of the chain: its successor would not be
waited for otherwise.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import ConfigError, RunError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder

# A job, an array's task or all of them, and the minutes after its start (sbatch(1), --dependency).
_JOB = re.compile(r"\d+(_(\d+|\*))?(\+\d+)?", re.ASCII)


def resolve(text: str, runs: str, where: str = "") -> str:
    """Return sbatch's --dependency `text`, in which runs below the folder `runs` are replaced by their newest jobs.

    Raises ConfigError, with `where`, for a name that is neither a job's id nor a run's.
    """
    known = _known(Path(runs)) if ":" in text else {}
    parts = []
    for part in re.split(r"([,?])", text):
        kind, *names = part.split(":")
        parts.append(":".join([kind, *(each for name in names for each in _ids(name, known, runs, where))]))
    return "".join(parts)


def _ids(name: str, known: Mapping[str, tuple[str, ...]], runs: str, where: str) -> tuple[str, ...]:
    if name in known:
        return known[name]
    base, plus, minutes = name.rpartition("+")
    if minutes.isdigit() and base in known:
        return tuple(f"{each}{plus}{minutes}" for each in known[base])
    if name and not _JOB.fullmatch(name):
        alike = difflib.get_close_matches(base or name, [each for each in known if not each[0].isdigit()], n=1)
        raise ConfigError(
            f"found {name!r}: no such run in {runs}",
            "a run that was submitted, or the id of a job",
            f"did you mean {alike[0]!r}?" if alike else "",
            where,
        )
    return (name,)


def _known(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the newest job ids of each run by its name, by its points' names, and by the ids of its earlier jobs."""
    names: dict[str, tuple[str, ...]] = {}
    superseded: dict[str, tuple[str, ...]] = {}
    for path in sorted(folder.glob("*/jobs.json")):
        run = RunFolder(str(path.parent))
        try:
            files.check_own(run.path)
            lines = job_chain.chains(run)
        except RunError:
            continue
        newest = tuple(line[-1] for line in lines.values())
        arrays = {job.partition("_")[0] for job in newest}
        if len(newest) > 1 and len(arrays) == 1:
            newest = tuple(arrays)  # an array's own id stands for all its tasks
        names[run.name] = newest
        for point, line in lines.items():
            superseded.update(dict.fromkeys(line[:-1], line[-1:]))
            if point is not None:
                names[f"{run.name}/{point}"] = line[-1:]
                if len(line) > 1:
                    superseded[line[0].partition("_")[0]] = newest
    # a name that is a number means a job id
    return {**{name: ids for name, ids in names.items() if not name.isdigit()}, **superseded}
