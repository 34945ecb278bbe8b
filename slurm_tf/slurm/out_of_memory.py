"""Says in one line that a job ran out of memory: what it asked for and used, and what to ask for. Python 3.9."""

import re
from typing import Dict, Mapping, Optional

from slurm_tf import units
from slurm_tf.errors import UnitError

# What a job asked for, in MiB, as sbatch(1) names it in the batch script.
_OPTIONS = {"SLURM_MEM_PER_NODE": "mem", "SLURM_MEM_PER_CPU": "mem-per-cpu", "SLURM_MEM_PER_GPU": "mem-per-gpu"}
# How much more to ask for at first.
_FACTOR = 1.5
# What slurmstepd and srun print of a step whose processes the kernel, or slurmstepd, killed (22.05.8).
_PRINTED = re.compile(
    r"^slurmstepd\S*: error: (Detected \d+ oom[-_ ]kill.*|.*[Ee]xceeded (\w+ )?memory limit.*)|"
    r"^srun: error: \S+: tasks? [\d,-]+: Out Of Memory",
    re.MULTILINE,
)
START = "out of memory"


def is_printed(text: str) -> bool:
    """Return whether Slurm's own lines in a job's output say that a step ran out of memory."""
    return _PRINTED.search(text) is not None


def asked_in(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return what the batch script's environment says of the memory that was asked for: sbatch's option and value."""
    found = {option: environ.get(name, "") for name, option in _OPTIONS.items()}
    return {option: f"{text}M" for option, text in found.items() if text.isdigit() and text != "0"}


def words(asked: Mapping[str, str], limit: Optional[int], used: Optional[int], role: str = "") -> str:
    """Return the line. `asked`: options of sbatch with their values; `limit` and `used` in bytes, None if not known.

    `role`: the role of an engine that it is about, "" for a job that trains.
    `used` is at most what Slurm or the kernel saw: a process that asks for much at once is killed before it has it.
    """
    option, value = next(iter(asked.items()), ("mem", ""))
    text = START
    if limit:
        text += f": {role or 'the job'} may use {format_size(limit)} on the node"
        text += f" (--{option}={_plain(value)})" if value else ""
        text += f" and used {format_size(used)} of it" if used else ""
    elif value:
        text += f": it asked for --{option}={_plain(value)}"
        text += f", and {format_size(used)} of it was seen in use" if used else ""
    base = _bytes(value) or (limit if option == "mem" else None)
    if role:
        more = f", mem = {format_size(round(limit * _FACTOR), up=True)} at first" if limit else ""
        return f"{text}; ask for more in [roles.{role}]{more}"
    more = f", --{option}={format_size(round(base * _FACTOR), up=True)} at first" if base else f" (--{option})"
    return f"{text}; ask for more{more}, or use a smaller batch"


def format_size(size: int, up: bool = False) -> str:
    """Return bytes as sbatch's --mem reads them, in M below 10G, else in G; rounded, or rounded `up` to be enough."""
    unit, name = (1 << 20, "M") if size < 10 << 30 else (1 << 30, "G")
    number = -(-size // unit) if up else (size + unit // 2) // unit
    if name == "M" and number >= 1024 and number % 1024 == 0:
        number, name = number // 1024, "G"
    return f"{number}{name}"


def _plain(value: str) -> str:
    size = _bytes(value)
    return format_size(size) if size else value


def _bytes(value: str) -> Optional[int]:
    try:
        return units.parse_memory(value) << 20
    except UnitError:
        return None
