"""Parses times as sacct's --starttime and --endtime do, in local time; and "-7d", "d=2,h=1" for so long ago.

Sources: sacct(1) of Slurm 22.05, option --starttime; the option --since of reportseff 2.10.3.
"""

import re
from datetime import datetime, timedelta

from slurm_tf.errors import UnitError

_FORMS = '"2026-01-31", "2026-01-31T12:30", "01/31", "12:30", "today", "now-7days", "-7d"'
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_AGO = re.compile(r"-(?P<count>\d{1,9})(?P<unit>[wdhm])", re.ASCII)
_LETTERS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_PART_AGO = re.compile(r"(?P<unit>[a-z]+)=(?P<count>\d{1,9})", re.ASCII)
_NOW = re.compile(r"now(?P<sign>[+-])(?P<count>\d{1,9})(?P<unit>[a-z]*)", re.ASCII)
_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%m/%d/%y", "%m%d%y")
_DATES_OF_THIS_YEAR = ("%m/%d", "%m%d")
_CLOCKS = ("%H:%M", "%H:%M:%S")
_HOURS = {"today": 0, "midnight": 0, "noon": 12, "fika": 15, "teatime": 16}


def parse(text: str, now: int) -> int:
    """Return the seconds since the epoch that `text` means at the time `now`. Raises UnitError."""
    here = datetime.fromtimestamp(now)
    word = text.strip()
    if word.lower() in ("now", *_HOURS, "yesterday", "tomorrow"):
        return now if word.lower() == "now" else int(_day(word.lower(), here).timestamp())
    if match := _AGO.fullmatch(word):
        return now - int(match["count"]) * _unit(_LETTERS[match["unit"]], text)
    if "=" in word:
        return now - _ago(word.lower(), text)
    if match := _NOW.fullmatch(word.lower()):
        seconds = int(match["count"]) * _unit(match["unit"], text)
        return now + (seconds if match["sign"] == "+" else -seconds)
    for form in (*_DATES, *_DATES_OF_THIS_YEAR, *_CLOCKS):
        try:
            # parsed together with the year, as 29 February is valid only in a leap year
            with_year = form in _DATES_OF_THIS_YEAR
            found = datetime.strptime(f"{here.year} {word}" if with_year else word, f"%Y {form}" if with_year else form)
        except ValueError:
            continue
        if form in _CLOCKS:
            found = here.replace(hour=found.hour, minute=found.minute, second=found.second, microsecond=0)
        return int(found.timestamp())
    raise UnitError(f"found {text!r}", f"a time as sacct reads it, such as {_FORMS}")


def _day(word: str, here: datetime) -> datetime:
    day = here.replace(hour=_HOURS.get(word, 0), minute=0, second=0, microsecond=0)
    return day + timedelta(days={"yesterday": -1, "tomorrow": 1}.get(word, 0))


def _ago(word: str, text: str) -> int:
    """Return the seconds of "d=2,h=1", two days and an hour."""
    parts = [_PART_AGO.fullmatch(part.strip()) for part in word.split(",")]
    if not all(parts):
        raise UnitError(f"found {text!r}", "parts such as d=2,h=1: two days and an hour ago")
    return sum(int(part["count"]) * _unit(_LETTERS.get(part["unit"], part["unit"]), text) for part in parts if part)


def _unit(word: str, text: str) -> int:
    """Return the seconds of one unit, such as "hours"; without a unit, the number is of seconds."""
    for name, seconds in _UNITS.items():
        if word in ("", name, f"{name}s"):
            return seconds if word else 1
    raise UnitError(f"found {text!r}", f"one of {', '.join(f'{name}s' for name in _UNITS)} after the number")
