"""The SQL that makes local times, as sacct prints them, seconds since the epoch.

Times without a zone are of this process's zone. A macro has the changes of the zone's clocks between the first and the
last time of what is read, mostly none: each change costs time in each query.
"""

import time
from datetime import UTC, datetime
from typing import NamedTuple

_DAY = 86400
_STEP = 14 * _DAY
# A local time is never as far from UTC.
_MARGIN = 2 * _DAY
_NOW = "create or replace macro"


class Clock(NamedTuple):
    """How to read the times of a part: the name of the macro, and whether clocks were set back meanwhile.

    Then `later_moment` gives the second of the two times which a local time of the repeated hour may mean.
    """

    moment: str
    has_repeats: bool


# All times are seconds since the epoch.
INSTANTS = Clock("instant", False)


_TIMES = [f"case when length({name}) = 19 then {name} end" for name in ("Submit", "Eligible", "Start", '"End"')]
# The first and the last local time in rows of sacct, as text; NULL: there is none.
RANGE = ", ".join(
    f"{word}({', '.join(f'{of}({each})' for each in _TIMES)})" for word, of in (("least", "min"), ("greatest", "max"))
)


def macros(first: str | None, last: str | None) -> tuple[Clock, str]:
    """Return how to read times from the first to the last one, and the statements that create the macros for it."""
    if first is None or last is None:
        return INSTANTS, ""
    low, high = _instant(first, 0), _instant(last, int(time.time()) + 366 * _DAY)
    changes = _changes((low - _MARGIN) // _STEP, (high + _MARGIN) // _STEP + 1)
    has_repeats = any(after < before for _, before, after in changes)
    text = ""
    for name, is_second in (("moment", False), ("later_moment", True))[: 1 + has_repeats]:
        cases = [
            f"when n >= {instant + (min if is_second and after < before else max)(before, after)} then {after}"
            for instant, before, after in changes
        ]
        base = changes[0][1] if changes else _offset(low)
        offset = f"case {' '.join(cases[::-1])} else {base} end" if cases else str(base)
        text += f"{_NOW} local_{name}(n) as n - {offset};\n"
        text += f"{_NOW} {name}(x) as in_range(coalesce(local_{name}(naive(x)), try_cast(x as bigint)));\n"
    return Clock("moment", has_repeats), text


def _instant(text: str, otherwise: int) -> int:
    """Return a local time as if it were UTC; `otherwise` if it is none."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        return otherwise


def _changes(first: int, last: int) -> tuple[tuple[int, int, int], ...]:
    """Return each change of this zone's clocks in a range of fortnights since the epoch: when, and the offsets before
    and after it.
    """
    found = []
    for start in range(max(0, first) * _STEP, min(last * _STEP, int(time.time()) + 366 * _DAY), _STEP):
        low, high = start, start + _STEP
        before, after = _offset(low), _offset(high)
        if before == after:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(middle) == before else (low, middle)
        found.append((high, before, after))
    return tuple(found)


def _offset(instant: int) -> int:
    """Return how many seconds local time is ahead of UTC."""
    return time.localtime(max(0, instant)).tm_gmtoff
