"""Resolves runs in --dependency to job ids: `afterok:a-1` waits for run a-1, `afterok:a-1/3` for its sweep point 3.

A run stands for the newest job of its chain. So does the id of an earlier job of the chain: its successor would not be
waited for otherwise.
"""

import re
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder


def resolve(text: str, runs: str) -> str:
    """Return sbatch's --dependency `text`, in which runs below the folder `runs` are replaced by their newest jobs."""
    known = _known(Path(runs)) if ":" in text else {}
    parts = []
    for part in re.split(r"([,?])", text):
        kind, *names = part.split(":")
        parts.append(":".join([kind, *(each for name in names for each in known.get(name, (name,)))]))
    return "".join(parts)


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
