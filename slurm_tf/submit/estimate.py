"""Estimates the most that a job may cost: its time limit times the resources that it asks for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from slurm_tf.jobspec import gpu_types
from slurm_tf.jobspec.components import Component
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.sites import Prices, Site
from slurm_tf.slurm.billing import Amounts, Weights


@dataclass(frozen=True, slots=True)
class Hours:
    """CPU-hours and GPU-hours over all sweep points of the job; None where the job file does not determine them.

    `gpu_types`: the part of `gpu` that asks for a type, by type.
    """

    cpu: float | None
    gpu: float | None
    gpu_types: Mapping[str, float] = field(default_factory=dict, compare=False)

    def price(self, prices: Prices) -> float | None:
        """Return the price of the hours, None if a price or an amount is unknown."""
        typed = [(hours, prices.gpu_types.get(name, prices.gpu_hour)) for name, hours in self.gpu_types.items()]
        others = None if self.gpu is None else self.gpu - sum(self.gpu_types.values())
        priced = [(self.cpu, prices.cpu_hour), (others, prices.gpu_hour), *typed]
        total = 0.0
        for amount, price in priced:
            if amount is None or (price is None and amount):
                return None
            total += amount * (price or 0.0)
        return total


def at_most(fitted: Plan) -> Hours:
    """Return the hours of a job that runs until its time limit."""
    hours = _hours(fitted)
    if hours is None:
        return Hours(None, None)
    amounts = [component.amounts for component in fitted.components]
    types: Counter[str] = Counter()
    for each in amounts:
        types.update(each.gpu_types)
    cpus, gpus = _total([each.cpus for each in amounts], hours), _total([each.gpus for each in amounts], hours)
    return Hours(cpus, gpus, {name: hours * number for name, number in types.items()})


def billing_at_most(fitted: Plan, weights: Mapping[str, Weights]) -> float | None:
    """Return Slurm's billing times hours over all points; None where an amount or a partition's weights are unknown.

    Each component of a heterogeneous job is billed by itself.
    """
    hours = _hours(fitted)
    if hours is None or fitted.job.spec.sbatch.get("clusters"):
        return None
    return _total([_billing(fitted.job.site, component, weights) for component in fitted.components], hours)


def _billing(site: Site, component: Component, weights: Mapping[str, Weights]) -> int | None:
    of_partition = weights.get(component.resources.partition if component.resources else "")
    amounts = component.amounts if component.is_exact else Amounts(None, None, None, None)
    types = {gpu_types.as_known(site, name): number for name, number in amounts.gpu_types.items()}
    amounts = replace(amounts, gpu_types=types)
    return of_partition.billing(amounts) if of_partition else None


def _hours(fitted: Plan) -> float | None:
    """Return the time limits of all points together, in hours; None without a limit."""
    points = len(fitted.array.points) if fitted.array else 1
    length = fitted.time_limit.length if fitted.time_limit else None
    return None if length is None else points * length.total_seconds() / 3600


def _total(amounts: list[int | None], hours: float) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return hours * sum(known) if len(known) == len(amounts) else None
