"""What a user may still use, as a text table and as JSON."""

from typing import Any

from slurm_tf import units
from slurm_tf.cli import text_table
from slurm_tf.cli.terminal import Screen, printable
from slurm_tf.slurm import usage_limits
from slurm_tf.slurm.usage_limits import Limit, Limits

_ROWS = 8
_NOUNS = {"gres/gpu": "GPU", "cpu": "CPU", "node": "node", "billing": "SU"}
_JOBS = {"Submit": "jobs that wait or run", "": "jobs at a time"}
_RESETS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "QUARTERLY": "quarter", "YEARLY": "year"}
_LEAVE_OUT = ("IN SLURM", "OF")


def text(found: Limits, screen: Screen) -> list[str]:
    """Return the lines of the table, and what Slurm forgets of what was used."""
    if found.unknown:
        return _folded([f"What {found.user} may still use is unknown: {found.unknown}"], screen)
    if not found.limits:
        return [f"Slurm has no limits for {found.user}."]
    first = sorted(found.limits, key=_order)[:_ROWS]
    rows = [[_amount(each, each.left), _amount(each, each.most), _what(each), each.owner, each.name] for each in first]
    heads = ["LEFT", "OF", "WHAT", "WHOSE", "IN SLURM"]
    lines = text_table.table(
        heads, rows, _LEAVE_OUT, "--json has all", names=("WHAT", "WHOSE"), right=("LEFT", "OF"), screen=screen
    ).splitlines()
    said = [f"{len(found.limits) - _ROWS} more limits are in --json."] if len(found.limits) > _ROWS else []
    if any(each.promised for each in found.limits):
        said.append("What running jobs may use until their time limits is taken off.")
    return [*lines, *_folded([*said, *_forgetting(found)], screen)]


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
        "limits": [_limit(each) for each in sorted(found.limits, key=_order)],
    }


def _limit(each: Limit) -> dict[str, Any]:
    size = 60 if each.is_time else 1
    return {
        "whose": each.owner,
        "name": each.name,
        "tres": each.tres or None,
        "unit": _what(each),
        "limit": each.most / size,
        "used": None if each.used is None else each.used / size,
        "promised": each.promised / size,
        "left": each.left / size,
    }


def _order(each: Limit) -> tuple[int, bool, float]:
    """Limits of all that was used come first, then those of GPUs, then those of which the least is left."""
    kind = (each.name not in usage_limits.IN_ALL) + (each.name in usage_limits.OF_A_JOB)
    return kind, not each.tres.startswith("gres/gpu"), each.left / each.most if each.most else 0.0


def _what(each: Limit) -> str:
    """Return what is limited: "GPU-hours in one job"."""
    unit = _unit(each)
    if each.name in usage_limits.OF_A_JOB:
        return f"{unit} in one job"
    if each.name == "GrpTRESRunMins":
        return f"{unit} of running jobs until their time limits"
    return unit if each.is_time or "Jobs" in each.name else f"{unit} at a time"


def _unit(each: Limit) -> str:
    if "Jobs" in each.name:
        return _JOBS["Submit" if "Submit" in each.name else ""]
    if not each.tres:
        return "hours"
    kind, _, of_type = each.tres.partition(":")
    noun = _NOUNS.get(kind, kind)
    noun = f"{of_type} {noun}" if of_type else noun
    if each.tres == "mem":
        return "GiB-hours of memory" if each.is_time else "of memory"
    return f"{noun}-hours" if each.is_time else f"{noun}s"


def _amount(each: Limit, amount: int) -> str:
    if each.tres == "mem" and not each.is_time:
        return units.format_memory(amount)
    value = amount / 60 if each.is_time else amount
    if each.tres == "mem":
        value /= 1024
    return f"{value:.1f}" if each.is_time and value < 10_000 else f"{value:.0f}"


def _forgetting(found: Limits) -> list[str]:
    """Return how Slurm forgets what was used, where a limit counts that."""
    counted = [each.owner for each in found.limits if each.name in usage_limits.IN_ALL]
    kept = [name for name in found.kept if f"QOS {name}" in counted]
    forgotten = [owner for owner in counted if owner not in {f"QOS {name}" for name in kept}]
    lines = []
    if forgotten and found.half_life:
        lines.append(f"Slurm forgets half of what was used in {_length(found)} (PriorityDecayHalfLife).")
    if forgotten and found.reset:
        period = f"each {_RESETS[found.reset]}" if found.reset in _RESETS else found.reset
        lines.append(f"What was used counts from 0 again {period} (PriorityUsageResetPeriod).")
    if forgotten and not lines:
        lines.append("Slurm does not forget what was used: it counts from the beginning.")
    if kept and lines:
        lines.append(f"It forgets nothing that was used with QOS {', '.join(kept)} (NoDecay).")
    return lines


def _length(found: Limits) -> str:
    hours = found.half_life.total_seconds() / 3600 if found.half_life else 0
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"
