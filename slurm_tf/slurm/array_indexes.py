"""The task indexes of a job array, as sbatch's --array and squeue write them."""

import re

from slurm_tf.errors import UnitError

_PART = re.compile(r"(?P<low>\d{1,9})(-(?P<high>\d{1,9})(:(?P<step>\d{1,9}))?)?", re.ASCII)
# slurm.conf(5) of 22.05: MaxArraySize is at most 4000001.
_LARGEST = 4_000_000
_FORM = 'indexes as sbatch --array writes them, such as "0-7", "1,3,5-9:2" or "0-199%16"'


def parse(text: str) -> tuple[tuple[int, ...], int | None]:
    """Return the indexes, ascending, and how many may run at once (None: all). Raises UnitError."""
    listed, percent, limit = text.partition("%")
    if percent and not re.fullmatch(r"[1-9]\d{0,8}", limit, re.ASCII):
        raise UnitError(f"found {text!r}", f"{_FORM}; a number after %")
    indexes: set[int] = set()
    for part in listed.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UnitError(f"found {text!r}", _FORM)
        low, step = int(match["low"]), int(match["step"] or 1)
        high = int(match["high"] or low)
        if high < low or not step or high > _LARGEST:
            raise UnitError(f"found {part!r} in {text!r}", f"{_FORM}; indexes to {_LARGEST}")
        indexes.update(range(low, high + 1, step))
    return tuple(sorted(indexes)), int(limit) if percent else None


def render(indexes: tuple[int, ...], limit: int | None = None) -> str:
    """Return the shortest text for ascending `indexes` of which `limit` may run at once."""
    parts: list[list[int]] = []
    for index in indexes:
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
    return f"{text}%{limit}" if limit else text


def expand(job_id: str) -> tuple[str, ...]:
    """Return the ids of the array tasks in an id such as "42_[3-5%2]"; any other id alone."""
    match = re.fullmatch(r"(\d+)_\[(.+)\]", job_id, re.ASCII)
    if match is None:
        return (job_id,)
    return tuple(f"{match[1]}_{index}" for index in parse(match[2])[0])
