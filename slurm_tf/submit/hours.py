"""What a job may cost at most: its time limit times what it asks for."""

from dataclasses import dataclass

from slurm_tf import units
from slurm_tf.spec.plan import Component, Plan
from slurm_tf.spec.sites import Prices


@dataclass(frozen=True, slots=True)
class Hours:
    """CPU-hours and GPU-hours over all points of the job; None where the job does not say enough to know."""

    cpu: float | None
    gpu: float | None

    def price(self, prices: Prices) -> float | None:
        """Return what they cost, None if a price or an amount is not known."""
        total = 0.0
        for amount, price in ((self.cpu, prices.cpu_hour), (self.gpu, prices.gpu_hour)):
            if amount is None or (price is None and amount):
                return None
            total += amount * (price or 0.0)
        return total


def at_most(fitted: Plan) -> Hours:
    """Return the hours of a job that runs until its time limit."""
    points = len(fitted.array.points) if fitted.array else 1
    time = fitted.job.spec.time
    limit = units.parse_time(str(time)) if time is not None else None
    if limit is None:
        return Hours(None, None)
    hours = points * limit.total_seconds() / 3600
    cpus = [_cpus(component) for component in fitted.components]
    gpus = [_gpus(component) for component in fitted.components]
    return Hours(_total(cpus, hours), _total(gpus, hours))


def _total(amounts: list[int | None], hours: float) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return hours * sum(known) if len(known) == len(amounts) else None


def _cpus(component: Component) -> int | None:
    options = dict(component.options)
    # whole nodes, of a size that is not known here
    if "exclusive" in options:
        return None
    return component.tasks * int(options.get("cpus-per-task") or 1)


def _gpus(component: Component) -> int | None:
    options = dict(component.options)
    if "gpus" in options:
        return units.parse_gpus(str(options["gpus"])).number
    if "gpus-per-task" in options:
        return component.tasks * units.parse_gpus(str(options["gpus-per-task"])).number
    per_node = str(options.get("gpus-per-node") or options.get("gres") or "")
    if not per_node.removeprefix("gpu:")[:1].isalnum():
        return 0
    nodes = int(options["nodes"] or 0) if "nodes" in options else 1 if component.tasks == 1 else 0
    return nodes * units.parse_gpus(per_node.removeprefix("gpu:")).number if nodes else None
