"""Limits as options and files say them (gpus, cpus, mem, gpu-hours, max-time), and as Slurm has them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from slurm_tf import units
from slurm_tf.errors import UnitError
from slurm_tf.org.organizations import DENY_ON_LIMIT, GPU, NO_DECAY
from slurm_tf.slurm.associations import AssociationLimits, QosRecord

UNLIMITED = "UNLIMITED"
# What an organization and a user may have, and what an organization alone may, as its own QOS has it.
OF_BOTH = ("gpus", "cpus", "mem", "gpu-hours", "max-time", "gpus-per-job")
OF_ORGANIZATION = ("gpus-per-user", "no-decay", "deny-on-limit")
_HOURS = re.compile(r"\d{1,9}(\.\d{1,4})?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an organization, or a user in one, is to have: its own limits, and those that only its own QOS can have.

    `limits` has the GPU minutes in any case; with `no_decay` the QOS has them in Slurm.
    """

    limits: AssociationLimits = field(default_factory=AssociationLimits)
    gpus_per_user: Mapping[str, int] | None = None
    no_decay: bool = False
    deny_on_limit: bool = False

    @property
    def of_association(self) -> AssociationLimits:
        """The limits that the association has in Slurm."""
        return replace(self.limits, grp_tres_mins=self._other_minutes) if self.no_decay else self.limits

    def qos(self, name: str) -> QosRecord | None:
        """Return the organization's own QOS, None where it needs none."""
        flags = [flag for flag, is_set in ((DENY_ON_LIMIT, self.deny_on_limit), (NO_DECAY, self.no_decay)) if is_set]
        if not flags and not self.gpus_per_user:
            return None
        minutes = {name: most for name, most in self.limits.grp_tres_mins.items() if name.startswith(GPU)}
        return QosRecord(name, tuple(flags), minutes if self.no_decay else {}, self.gpus_per_user or {})

    @property
    def _other_minutes(self) -> dict[str, int]:
        return {name: most for name, most in self.limits.grp_tres_mins.items() if not name.startswith(GPU)}


def wish_of(limits: AssociationLimits, qos: QosRecord | None) -> Wish:
    """Return what an organization has in Slurm, with its own QOS."""
    if qos is None:
        return Wish(limits)
    minutes = {**limits.grp_tres_mins, **qos.grp_tres_mins}
    return Wish(
        replace(limits, grp_tres_mins=minutes), qos.max_tres_per_user or None, NO_DECAY in qos.flags,
        DENY_ON_LIMIT in qos.flags,
    )  # fmt: skip


def with_options(wish: Wish, options: Mapping[str, str | bool]) -> Wish:
    """Return `wish` with what options say; UNLIMITED takes a limit away. Raises UnitError, which names the option."""
    for name, value in options.items():
        if isinstance(value, bool):
            wish = replace(wish, no_decay=value) if name == "no-decay" else replace(wish, deny_on_limit=value)
            continue
        try:
            if name == "gpus-per-user":
                wish = replace(wish, gpus_per_user=_with_gpus({}, value) or None)
            else:
                wish = replace(wish, limits=_OPTIONS[name](wish.limits, value))
        except UnitError as error:
            raise UnitError(f"{name}: {error.found}", f"{error.needed}, or {UNLIMITED}") from error
    return wish


def gpu_types(wish: Wish) -> set[str]:
    """Return the TRES of GPUs that a wish limits: those must be in AccountingStorageTRES."""
    all_of_them = (wish.limits.grp_tres, wish.limits.grp_tres_mins, wish.limits.max_tres, wish.gpus_per_user or {})
    return {name for each in all_of_them for name in each if name.startswith(GPU)}


def words(limits: AssociationLimits) -> str:
    """Return limits in Slurm's words: "GrpTRES cpu=64,gres/gpu=8,mem=512G, MaxWall 2-00:00:00"; "no limits"."""
    parts = [
        f"{name} {tres_words(tres)}"
        for name, tres in (
            ("GrpTRES", limits.grp_tres), ("GrpTRESMins", limits.grp_tres_mins), ("MaxTRES", limits.max_tres)
        )
        if tres
    ]  # fmt: skip
    parts += [f"MaxWall {units.format_time(limits.max_wall)}"] if limits.max_wall is not None else []
    return ", ".join(parts) or "no limits"


def tres_words(tres: Mapping[str, int]) -> str:
    """Return amounts as sacctmgr prints them; -1 is no limit."""
    return ",".join(
        f"{name}={units.format_memory(most) if name == 'mem' and most > 0 else most}"
        for name, most in sorted(tres.items())
    )


def _with(tres: Mapping[str, int], name: str, most: int | None) -> dict[str, int]:
    others = {each: number for each, number in tres.items() if each != name}
    return others if most is None else {**others, name: most}


def _with_gpus(tres: Mapping[str, int], text: str) -> dict[str, int]:
    """Return amounts with these GPUs: with the limit of each type one of all, as gpu:2 passes one of a type alone."""
    others = {name: number for name, number in tres.items() if name != GPU and not name.startswith(f"{GPU}:")}
    if _is_unlimited(text):
        return others
    found = units.parse_gpus(text)
    named = [each.type for each in found]
    if len(set(named)) < len(named):
        raise UnitError(f"found {text!r}", "each type of GPU once")
    typed = {f"{GPU}:{each.type}": each.number for each in found if each.type}
    total = next((each.number for each in found if not each.type), sum(typed.values()))
    return {**others, **typed, GPU: total}


def _memory(text: str) -> int | None:
    return None if _is_unlimited(text) else units.parse_memory(text)


def _count(text: str) -> int | None:
    if _is_unlimited(text):
        return None
    if not _COUNT.fullmatch(text):
        raise UnitError(f"found {text!r}", "a whole number")
    return int(text)


def _minutes(text: str) -> int | None:
    if _is_unlimited(text):
        return None
    if not _HOURS.fullmatch(text):
        raise UnitError(f"found {text!r}", "hours, such as 1000 or 0.5")
    return round(float(text) * 60)


def _max_wall(text: str) -> timedelta | None:
    length = units.parse_time(text)
    if length is not None and (length.total_seconds() < 60 or length.total_seconds() % 60):
        raise UnitError(f"found {text!r}", "whole minutes, as Slurm's MaxWall counts them")
    return length


def _is_unlimited(text: str) -> bool:
    return text.upper() == UNLIMITED


# What each option does to limits.
_OPTIONS: Mapping[str, Callable[[AssociationLimits, str], AssociationLimits]] = {
    "gpus": lambda limits, text: replace(limits, grp_tres=_with_gpus(limits.grp_tres, text)),
    "cpus": lambda limits, text: replace(limits, grp_tres=_with(limits.grp_tres, "cpu", _count(text))),
    "mem": lambda limits, text: replace(limits, grp_tres=_with(limits.grp_tres, "mem", _memory(text))),
    "gpu-hours": lambda limits, text: replace(limits, grp_tres_mins=_with(limits.grp_tres_mins, GPU, _minutes(text))),
    "max-time": lambda limits, text: replace(limits, max_wall=_max_wall(text)),
    "gpus-per-job": lambda limits, text: replace(limits, max_tres=_with_gpus(limits.max_tres, text)),
}
