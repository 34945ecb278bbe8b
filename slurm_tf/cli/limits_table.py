"""What a user may still use, as a text table and as JSON."""

from typing import Any

from slurm_tf.cli import text_table
from slurm_tf.cli.terminal import Screen, printable
from slurm_tf.org import limit_words
from slurm_tf.slurm import usage_limits
from slurm_tf.slurm.usage_limits import Limit, Limits

_ROWS = 8
_HEADS = ("LEFT", "OF", "WHAT", "WHOSE", "IN SLURM")
_LEAVE_OUT = ("IN SLURM", "OF")


def text(found: Limits, screen: Screen, rows: int | None = _ROWS) -> list[str]:
    """Return the lines of the table of `rows` limits (None: all), and what Slurm forgets of what was used."""
    if none := none_words(found):
        return _folded([none], screen)
    rows_of_all = cells(found)
    first = rows_of_all[:rows]
    lines = text_table.table(
        _HEADS, first, _LEAVE_OUT, "--json has all", names=("WHAT", "WHOSE"), right=("LEFT", "OF"), screen=screen
    ).splitlines()
    more = len(rows_of_all) - len(first)
    said = [f"{more} more limits are in --json."] if more else []
    return [*lines, *_folded([*said, *sentences(found)], screen)]


def cells(found: Limits) -> list[list[str]]:
    """Return a row for each limit: what is left, of how much, what it is, whose, and its name in Slurm."""
    return [
        [
            "unknown" if each.is_unknown else limit_words.amount(each, each.left),
            limit_words.amount(each, each.most),
            limit_words.what(each),
            each.owner,
            each.name,
        ]
        for each in ordered(found)
    ]


def sentences(found: Limits) -> list[str]:
    """Return what the cells leave open, in words."""
    promised = ["What running jobs may use until their time limits is taken off."]
    return [*(promised if any(each.promised for each in found.limits) else []), *_forgetting(found)]


def none_words(found: Limits) -> str:
    """Return a sentence in place of the table: why there is none; "" where there is one."""
    if found.unknown:
        return f"What {found.user} may still use is unknown: {found.unknown}"
    return "" if found.limits else f"Slurm has no limits for {found.user}."


def ordered(found: Limits) -> list[Limit]:
    """Return the limits in the order of the table."""
    return sorted(found.limits, key=_order)


def _folded(lines: list[str], screen: Screen) -> list[str]:
    plain = [printable(line) for line in lines]
    return [part for line in plain for part in text_table.folded(line, screen.width)] if screen.width else plain


def as_dict(found: Limits) -> dict[str, Any]:
    """Return all limits for JSON; hours instead of minutes, null: unknown."""
    return {
        "user": found.user,
        "unknown": found.unknown or None,
        "half_life_hours": found.half_life.total_seconds() / 3600 if found.half_life else None,
        "reset": found.reset or None,
        "never_forgotten": [f"QOS {name}" for name in found.kept],
        "usage_factors": dict(found.factors),
        "limits": [_limit(each) for each in ordered(found)],
    }


def _limit(each: Limit) -> dict[str, Any]:
    size = 60 if each.is_time else 1
    return {
        "whose": each.owner,
        "name": each.name,
        "tres": each.tres or None,
        "unit": limit_words.what(each),
        "limit": each.most / size,
        "used": None if each.used is None else each.used / size,
        "promised": each.promised / size,
        "left": None if each.is_unknown else each.left / size,
    }


def _order(each: Limit) -> tuple[int, bool, float]:
    """Limits of all that was used come first, then those of GPUs, then those of which the least is left."""
    kind = (each.name not in usage_limits.IN_ALL) + (each.name in usage_limits.OF_A_JOB)
    return kind, not each.tres.startswith("gres/gpu"), each.left / each.most if each.most else 0.0


def _forgetting(found: Limits) -> list[str]:
    """Return how Slurm forgets what was used, where a limit counts that."""
    counted = [each.owner for each in found.limits if each.name in usage_limits.IN_ALL]
    kept = [name for name in found.kept if f"QOS {name}" in counted]
    forgotten = [owner for owner in counted if owner not in {f"QOS {name}" for name in kept}]
    lines = limit_words.forgetting_lines(found.half_life, found.reset) if forgotten else []
    if kept and forgotten and (found.half_life or found.reset):
        lines.append(f"It forgets nothing that was used with QOS {', '.join(kept)} (NoDecay).")
    return lines
