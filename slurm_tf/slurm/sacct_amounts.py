"""Reads the times, sizes and TRES that sacct prints, of any release from 17.11 to 26.05."""

import re
from functools import lru_cache
from typing import NamedTuple

from slurm_tf.errors import UnitError

_PLAIN = len("HH:MM:SS")
_SIZE = re.compile(r"(?P<number>\d{1,20}(\.\d{1,9})?)(?P<unit>[KMGTPE]?)", re.ASCII)
_UNITS = " KMGTPE"
# sacct -P of 16.05 and 17.02 prints the bit that says "a CPU" as a part of the number of MB
_A_CPU = 2**31
# NO_VAL64 and INFINITE64 mean that there is no number
_NO_NUMBER = 2**63


class Tres(NamedTuple):
    """The resources of an allocation; memory in MiB. `gpu_type`: "" for no type, "a100+v100" for several."""

    cpus: int = 0
    nodes: int = 0
    gpus: int = 0
    gpu_type: str = ""
    memory: int = 0
    billing: int = 0


def seconds(text: str) -> float:
    """Return the seconds in "[D-][HH:]MM:SS[.mmm]". Raises UnitError.

    Source: _elapsed_time() in sacct's print.c; hours may be more than 24, days any number.
    """
    if len(text) == _PLAIN and text[2] == ":" == text[5]:  # the usual form, of which there are millions
        digits = text[:2] + text[3:5] + text[6:]
        if digits.isdigit():
            return int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(text[6:])
    days, dash, clock = text.rpartition("-")
    *larger, last = clock.split(":")
    if (
        len(larger) in (1, 2)
        and bool(days) == bool(dash)
        and last.replace(".", "", 1).isdigit()
        and "".join((days, *larger)).isdigit()
    ):
        hours = (int(days) * 24 if days else 0) + (int(larger[0]) if len(larger) > 1 else 0)
        return round((hours * 60 + int(larger[-1])) * 60 + float(last), 3)
    raise UnitError(f"found {text!r}", 'a time as sacct prints it, such as "1-02:03:04" or "00:01.234"')


def size(text: str, unit: str = " ") -> int:
    """Return the bytes in "4224K", "1.20G" or "0"; `unit` is that of a bare number, such as "K". Raises UnitError.

    Units are powers of 1024.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UnitError(f"found {text!r}", 'a size as sacct prints it, such as "4224K"')
    factor: int = 1024 ** _UNITS.index(match["unit"] or unit)
    return int(match["number"]) * factor if match["number"].isdigit() else round(float(match["number"]) * factor)


def count(text: str) -> int:
    """Return the whole number in "8", "2.50K" or "1K" (of 1024). Raises UnitError."""
    return size(text)


@lru_cache(maxsize=8192)
def tres(text: str) -> Tres:
    """Return the resources in AllocTRES; none for "", which is that of a job that never ran. Raises UnitError.

    GPUs are "gres/gpu=4", or the sum of "gres/gpu:a100=4" where that is not there. Other names begin
    alike (gres/gpumem). A bare number of mem is MB (17.11).
    """
    pairs = dict(part.partition("=")[::2] for part in text.split(",") if part)
    types = {
        name.partition(":")[2]: count(number)
        for name, number in pairs.items()
        if name.startswith("gres/gpu:") and number != "0"
    }
    return Tres(
        cpus=count(pairs.get("cpu") or "0"),
        nodes=count(pairs.get("node") or "0"),
        gpus=count(pairs["gres/gpu"]) if pairs.get("gres/gpu") else sum(types.values()),
        gpu_type="+".join(sorted(types)),
        memory=size(pairs.get("mem") or "0", "M") // 1024**2,
        billing=count(pairs.get("billing") or "0"),
    )


def used(text: str) -> dict[str, str]:
    """Return the values of TRESUsageInTot and similar fields by TRES."""
    return dict(part.partition("=")[::2] for part in text.split(",") if part)


def requested_memory(text: str, cpus: int, nodes: int) -> int:
    """Return the MiB that ReqMem asks for in all: "4000Mc" is for each CPU, "16000Mn" for each node. Raises UnitError.

    Without a suffix it is the total: since 21.08.
    """
    each, factor = text, 1
    if text[-1:] in ("c", "n"):
        each, factor = text[:-1], cpus if text[-1] == "c" else nodes
    found = size(each, "M") // 1024**2
    if found >= _A_CPU:
        found, factor = found - _A_CPU, cpus
    return found * factor


def number(text: str) -> int | None:
    """Return a whole number, None for "" and for Slurm's numbers that stand for no value."""
    found = int(text) if text.isdigit() else None
    return None if found is None or found >= _NO_NUMBER else found
