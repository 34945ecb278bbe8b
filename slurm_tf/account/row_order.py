"""The order of a report's groups, by a column of its table, and how many of them are shown."""

from collections.abc import Callable, Sequence

from slurm_tf.account.amounts import Amounts
from slurm_tf.account.usage import Row
from slurm_tf.errors import UsageError

# The words of --sort, by which the largest number comes first; what is unknown comes last.
NUMBERS: dict[str, Callable[[Amounts], float | None]] = {
    "gpu-hours": lambda each: each.gpu_seconds,
    "cpu-hours": lambda each: each.cpu_seconds,
    "node-hours": lambda each: each.node_seconds,
    "su": lambda each: each.billing_seconds,
    "cost": lambda each: each.cost,
    "jobs": lambda each: each.jobs,
    "incarnations": lambda each: each.incarnations,
    "wait": lambda each: each.waited(50),
    "cpu": lambda each: each.cpu_use,
    "memory": lambda each: each.memory_use,
    "gpu": lambda each: each.gpu_use,
    "lost": lambda each: each.lost_gpu_seconds or each.lost_cpu_seconds,
}


def check(word: str, by: Sequence[str]) -> None:
    """Raise UsageError if a report that is grouped by these words cannot be sorted by `word`."""
    if word and word not in by and word not in NUMBERS:
        raise UsageError(f"found --sort {word}", f"one of {', '.join([*by, *NUMBERS])}")


def ordered(rows: Sequence[Row], by: Sequence[str], word: str) -> list[Row]:
    """Return the rows sorted by a word of --by, from a to z, or by a number; in their order without a word."""
    if word in by:
        at = by.index(word)
        return sorted(rows, key=lambda row: row.key[at])
    if not word:
        return list(rows)
    value = NUMBERS[word]
    return sorted(rows, key=lambda row: _largest_first(value(row.amounts)))


def _largest_first(value: float | None) -> tuple[bool, float]:
    return value is None, -(value or 0)
