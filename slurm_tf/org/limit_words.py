"""Words for limits and amounts: "4 GPUs", "512G of memory", "2.5 GPU-hours"."""

from datetime import timedelta

from slurm_tf import units
from slurm_tf.slurm import usage_limits
from slurm_tf.slurm.usage_limits import Limit

_NOUNS = {"gres/gpu": "GPU", "cpu": "CPU", "node": "node", "billing": "SU"}
_RESETS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "QUARTERLY": "quarter", "YEARLY": "year"}
_JOBS = {"Submit": "jobs that wait or run", "": "jobs at a time"}


def what(each: Limit) -> str:
    """Return what is limited: "GPU-hours in one job"."""
    unit = _unit(each).removeprefix("of ")
    if each.name in usage_limits.OF_A_JOB:
        return f"{unit} in one job"
    if each.name == "GrpTRESRunMins":
        return f"{unit} of running jobs until their time limits"
    return unit if each.is_time or "Jobs" in each.name else f"{unit} at a time"


def amount(each: Limit, number: int) -> str:
    """Return an amount of what is limited, without its unit, but for memory, which has the limit's: "2.5", "512G"."""
    if each.tres == "mem" and not each.is_time:
        return units.format_memory_beside(number, each.most)
    value = number / 60 if each.is_time else number
    if each.tres == "mem":
        value /= 1024
    return f"{value:.1f}" if each.is_time and value < 10_000 else f"{value:.0f}"


def counted(each: Limit, number: int) -> str:
    """Return an amount with its unit: "1 GPU", "4 a100 GPUs", "512G of memory", "2.5 GPU-hours"."""
    unit = "jobs" if "Jobs" in each.name else _unit(each)
    if number == 1 and not each.is_time:
        unit = unit.removesuffix("s")
    return f"{amount(each, number)} {unit}"


def in_slurm(each: Limit) -> str:
    """Return a limit as sacctmgr writes it: "GrpTRES gres/gpu=4", "GrpTRES mem=8G"."""
    most = units.format_memory(each.most) if each.tres == "mem" and not each.is_time else str(each.most)
    return f"{each.name} {each.tres}={most}" if each.tres else f"{each.name}={most}"


def forgetting_lines(half_life: timedelta | None, reset: str) -> list[str]:
    """Return sentences that say how Slurm forgets what was used over time."""
    lines = []
    if half_life:
        lines.append(f"Slurm forgets half of what was used in {days_or_hours(half_life)} (PriorityDecayHalfLife).")
    if reset:
        period = f"each {_RESETS[reset]}" if reset in _RESETS else reset
        lines.append(f"What was used counts from 0 again {period} (PriorityUsageResetPeriod).")
    return lines or ["Slurm does not forget what was used: it counts from the beginning."]


def days_or_hours(length: timedelta) -> str:
    """Return days or hours: "7 days"."""
    hours = length.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


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
