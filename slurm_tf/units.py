"""Reads and writes times, memory, GPUs and port ranges as Slurm does. Runs on Python 3.9."""

import re
from datetime import timedelta
from typing import NamedTuple, Optional, Sequence, Tuple

from slurm_tf.errors import UnitError

_TIME_FORMS = '"minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours[:minutes[:seconds]]" or "UNLIMITED"'
_DAYS = re.compile(r"(?P<d>\d{1,6})-(?P<h>\d{1,6})(:(?P<m>\d{1,6})(:(?P<s>\d{1,6}))?)?", re.ASCII)
_CLOCK = re.compile(r"(((?P<h>\d{1,6}):)?(?P<m>\d{1,9}):)?(?P<s>\d{1,9})", re.ASCII)
_AGE = re.compile(r"(?P<number>\d{1,6})(?P<unit>[hdw])", re.ASCII)
_AGES = {"h": "hours", "d": "days", "w": "weeks"}
_MEMORY = re.compile(r"(?P<number>\d{1,18})(?P<unit>[KMGTP]?)B?", re.ASCII | re.IGNORECASE)
# A name of a type may begin with a digit: 2080ti, 1g.5gb+me. Of one word alone, what can be a number is one: 3090.
_GPUS = re.compile(r"((?P<type>[\w.+][\w.+-]*):)?(?P<number>\d{1,6})(?P<unit>[KMGTP]?)", re.ASCII | re.IGNORECASE)
_GPU_TYPE = re.compile(r"[\w.+][\w.+-]*", re.ASCII)
_PORTS = re.compile(r"(?P<low>\d{1,5})-(?P<high>\d{1,5})", re.ASCII)
_MIB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}


class Gpus(NamedTuple):
    """A number of GPUs, of one type or ("") of any."""

    number: int
    type: str = ""


def parse_time(text: str) -> Optional[timedelta]:
    """Return the length of a time limit as sbatch's --time reads it, None for UNLIMITED.

    Raises UnitError. Source: sbatch(1) of Slurm 22.05, option --time.
    """
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return None
    match = _DAYS.fullmatch(text)
    if match is None:
        match = _CLOCK.fullmatch(text)
        if match is None:
            raise UnitError(f"found {text!r}", f"a time as sbatch writes it: {_TIME_FORMS}")
        if match["m"] is None:  # one number alone is minutes
            return timedelta(minutes=int(match["s"]))
        return timedelta(hours=int(match["h"] or 0), minutes=int(match["m"]), seconds=int(match["s"]))
    parts = match.groupdict(default="0")
    return timedelta(days=int(parts["d"]), hours=int(parts["h"]), minutes=int(parts["m"]), seconds=int(parts["s"]))


def format_time(length: Optional[timedelta]) -> str:
    """Return `length` as [days-]hours:minutes:seconds, "UNLIMITED" for None; fractions of a second are dropped."""
    if length is None:
        return "UNLIMITED"
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hours:02}:{minutes:02}:{seconds:02}"


def parse_age(text: str) -> timedelta:
    """Return an age such as "30d", "12h" or "2w". Raises UnitError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise UnitError(f"found the age {text!r}", "hours, days or weeks: 12h, 30d or 2w")
    return timedelta(**{_AGES[match["unit"]]: int(match["number"])})


def parse_memory(text: str) -> int:
    """Return MiB for an amount as sbatch's --mem reads it: K M G T P are powers of 1024, M if none is given.

    Kibibytes round up to a whole MiB. Raises UnitError.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise UnitError(f"found {text!r}", 'an amount of memory as sbatch writes it, such as "4G" or "512M"')
    number, unit = int(match["number"]), match["unit"].upper() or "M"
    return -(-number // 1024) if unit == "K" else number * int(_MIB[unit])


def format_memory(mib: int) -> str:
    """Return the shortest exact text for `mib` MiB, such as "4G"."""
    for unit in "PTG":
        if mib and mib % int(_MIB[unit]) == 0:
            return f"{mib // int(_MIB[unit])}{unit}"
    return f"{mib}M"


def format_memory_beside(mib: int, other: int) -> str:
    """Return `mib` MiB in the unit that `other` MiB has: "63.80G" beside "64G", as `sacct --units=G`; "0" for none.

    More decimals than two where these would hide that it is some, or that it is not `other`.
    """
    if mib in (0, other):
        return format_memory(mib) if mib else "0"
    unit = format_memory(other)[-1]
    value, whole = mib / int(_MIB[unit]), other / int(_MIB[unit])
    if value.is_integer():
        return f"{value:.0f}{unit}"
    texts = (f"{value:.{decimals}f}" for decimals in range(2, 12))
    return next((f"{text}{unit}" for text in texts if float(text) not in (0, whole)), f"{mib}M")


def format_bytes(size: float) -> str:
    """Return a number of bytes for people, in the largest unit of which it is at least one: "8.0 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def parse_gpus(text: str) -> Tuple[Gpus, ...]:
    """Return each entry of "[type:]count" or "type", separated by commas; a type without a count is one GPU.

    As sbatch reads --gpus, with K, M, G, T and P as powers of 1024. Raises UnitError. Source: _get_next_gres() in
    src/common/gres.c of Slurm 22.05.8.
    """
    return tuple(map(_gpus, text.split(",")))


def _gpus(text: str) -> Gpus:
    match = _GPUS.fullmatch(text)
    if match:
        return Gpus(int(match["number"]) * 1024 ** " KMGTP".index(match["unit"].upper() or " "), match["type"] or "")
    if _GPU_TYPE.fullmatch(text):
        return Gpus(1, text)
    raise UnitError(f"found {text!r}", 'GPUs as sbatch writes them: "2", "a100:2", "a100" or "a100:4,t4:2"')


def format_gpus(gpus: Sequence[Gpus]) -> str:
    """Return "type:count" of each, or "count" for GPUs of any type."""
    return ",".join(f"{each.type}:{each.number}" if each.type else str(each.number) for each in gpus)


def parse_ports(text: str) -> Tuple[int, int]:
    """Return the first and last port of a range such as "20000-20999". Raises UnitError."""
    match = _PORTS.fullmatch(text)
    low, high = (int(match["low"]), int(match["high"])) if match else (0, 0)
    if not 1024 <= low <= high <= 65535:
        raise UnitError(f"found {text!r}", 'a range of ports from 1024 to 65535, such as "20000-20999"')
    return low, high
