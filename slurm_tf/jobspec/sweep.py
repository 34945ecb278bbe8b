"""Arrays of runs of one job: the points of a sweep, or the indexes of a plain job array."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_tf.errors import ConfigError, UnitError
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import ParamValue
from slurm_tf.slurm import array_indexes


@dataclass(frozen=True, slots=True)
class Array:
    """The points of an array by index, each with its values; `limit`: how many may run at once, None for all."""

    points: Mapping[int, Mapping[str, ParamValue]]
    limit: int | None

    @property
    def indexes(self) -> str:
        """The indexes and the limit in the form of sbatch --array."""
        return array_indexes.render(tuple(self.points), self.limit)


def array(job: Job, swept: Mapping[str, tuple[ParamValue, ...]]) -> Array | None:
    """Return the array of `job`, None for a single run. `swept`: the values of each param that has several.

    The last param varies fastest. Raises ConfigError.
    """
    text = str(job.spec.array)
    where = job.where("array")
    listed, percent, limit_text = text.partition("%")
    if not swept and (not text or (job.spec.sweep and not listed)):
        return None  # also a sweep whose params all have one value now
    columns = [[(name, value) for value in values] for name, values in swept.items()]
    grid = [dict(point) for point in itertools.product(*columns)]
    try:
        if listed:
            indexes, limit = array_indexes.parse(text)
        else:
            indexes, limit = tuple(range(len(grid))), array_indexes.parse(f"0%{limit_text}")[1] if percent else None
    except UnitError as error:
        raise ConfigError(error.found, error.needed, where=where) from error
    if not swept:
        if not listed:
            raise ConfigError(f"found {text!r}", "indexes, as there is no [sweep]", where=where)
        return Array({index: {} for index in indexes}, limit)
    outside = [index for index in indexes if index >= len(grid)]
    if outside:
        needed = f"indexes from 0 to {len(grid) - 1}: the sweep has {len(grid)} points"
        raise ConfigError(f"found index {outside[0]}", needed, where=where)
    return Array({index: grid[index] for index in indexes}, limit)
