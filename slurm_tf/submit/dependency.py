"""--dependency by run: `afterok:a-1` waits for run a-1, `afterok:a-1/3` for its point 3, whatever job goes on with it.

The id of a job that another one has followed since means that one, which would else never be waited for.
"""

import re
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder


def resolve(text: str, runs: str) -> str:
    """Return sbatch's --dependency with the runs below the folder `runs` in it as the ids of their newest jobs."""
    known = _known(Path(runs)) if ":" in text else {}
    parts = []
    for part in re.split(r"([,?])", text):
        kind, *names = part.split(":")
        parts.append(":".join([kind, *(each for name in names for each in known.get(name, (name,)))]))
    return "".join(parts)


def _known(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the newest ids of each run, by its name, its points' names, and the ids of jobs that were followed."""
    names: dict[str, tuple[str, ...]] = {}
    followed: dict[str, tuple[str, ...]] = {}
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
            newest = tuple(arrays)  # all tasks of one array, by its own id
        names[run.name] = newest
        for point, line in lines.items():
            followed.update(dict.fromkeys(line[:-1], line[-1:]))
            if point is not None:
                names[f"{run.name}/{point}"] = line[-1:]
                if len(line) > 1:
                    followed[line[0].partition("_")[0]] = newest
    # a number is a job's
    return {**{name: ids for name, ids in names.items() if not name.isdigit()}, **followed}
