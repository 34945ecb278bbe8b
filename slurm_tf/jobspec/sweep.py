"""Arrays of runs of one job: the points of a sweep, or the indexes of a plain job array."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_tf.errors import ConfigError, UnitError
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import SweepValue
from slurm_tf.slurm import array_indexes

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Array:
    """The points of an array by index, each with its values; `limit`: how many may run at once, None for all."""

    points: Mapping[int, Mapping[str, str]]
    limit: int | None

    @property
    def indexes(self) -> str:
        """The indexes and the limit in the form of sbatch --array."""
        return array_indexes.render(tuple(self.points), self.limit)


def array(job: Job) -> Array | None:
    """Return the array of `job`, None for a single run. Raises ConfigError."""
    text, grid = str(job.spec.array), _grid(job)
    if not text and not job.spec.sweep:
        return None
    where = job.where("array")
    listed, percent, limit_text = text.partition("%")
    try:
        if listed:
            indexes, limit = array_indexes.parse(text)
        else:
            indexes, limit = tuple(range(len(grid))), array_indexes.parse(f"0%{limit_text}")[1] if percent else None
    except UnitError as error:
        raise ConfigError(error.found, error.needed, where=where) from error
    if not job.spec.sweep:
        if not listed:
            raise ConfigError(f"found {text!r}", "indexes, as there is no [sweep]", where=where)
        return Array({index: {} for index in indexes}, limit)
    outside = [index for index in indexes if index >= len(grid)]
    if outside:
        needed = f"indexes from 0 to {len(grid) - 1}: [sweep] has {len(grid)} points"
        raise ConfigError(f"found index {outside[0]}", needed, where=where)
    return Array({index: grid[index] for index in indexes}, limit)


def _grid(job: Job) -> list[dict[str, str]]:
    """Return the values of each point; the last key varies fastest."""
    sweep = job.spec.sweep
    arguments = [word for role in job.spec.roles.with_tasks.values() for word in job.spec.command_of(role)]
    for key, values in sweep.items():
        where = job.where(f"sweep.{key}")
        if not _KEY.fullmatch(key):
            raise ConfigError(f"found the key {key!r}", "letters, digits, _ and -, no digit first", where=where)
        if not values:
            raise ConfigError("found an empty list", "at least one value", where=where)
        if not any(f"{{{key}}}" in argument for argument in arguments):
            needed = f'an argument of `command` that holds {{{key}}}, such as "--{key}={{{key}}}"'
            raise ConfigError("no argument uses it", needed, where=where)
    columns = [[(key, _text(value)) for value in values] for key, values in sweep.items()]
    return [dict(point) for point in itertools.product(*columns)]


def _text(value: SweepValue) -> str:
    """Return a value as an argument of the program: text as it is, all else as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
