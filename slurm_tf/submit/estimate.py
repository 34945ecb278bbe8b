"""What a job may cost at most: its time limit times what it asks for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_tf import units
from slurm_tf.errors import UnitError
from slurm_tf.jobspec.plan import Component, Plan
from slurm_tf.jobspec.sites import Prices
from slurm_tf.slurm.billing import Amounts, Weights

# With these a job gets more than its tasks times what each asks for: whole nodes or cores, of a size not known here.
_UNKNOWN = frozenset({
    "core-spec", "cpus-per-gpu", "exclusive", "gpus-per-socket", "hint", "mincpus", "ntasks-per-core", "thread-spec",
    "threads-per-core", "tres-per-task",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hours:
    """CPU-hours and GPU-hours over all points of the job; None where the job does not say enough to know.

    `gpu_types`: those of `gpu` whose type is named, by it.
    """

    cpu: float | None
    gpu: float | None
    gpu_types: Mapping[str, float] = field(default_factory=dict, compare=False)

    def price(self, prices: Prices) -> float | None:
        """Return what they cost, None if a price or an amount is not known."""
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
    cpus = [_cpus(component) for component in fitted.components]
    gpus = [_gpus(component) for component in fitted.components]
    types: Counter[str] = Counter()
    for component, number in zip(fitted.components, gpus, strict=True):
        asked = _asked_gpus(component)
        if asked and asked.type and number:
            types[asked.type] += number
    return Hours(_total(cpus, hours), _total(gpus, hours), {name: hours * number for name, number in types.items()})


def billing_at_most(fitted: Plan, weights: Mapping[str, Weights]) -> float | None:
    """Return Slurm's billing times hours, over all points; None where an amount or a partition's weights are unknown.

    Each component of a heterogeneous job is billed by itself.
    """
    hours = _hours(fitted)
    options = [dict(component.options) for component in fitted.components]
    if hours is None or any("clusters" in each for each in options):
        return None
    of_partition = [weights.get(each.get("partition") or "") for each in options]
    pairs = zip(of_partition, fitted.components, strict=True)
    return _total([each.billing(_amounts(component)) if each else None for each, component in pairs], hours)


def _hours(fitted: Plan) -> float | None:
    """Return how long all points take together."""
    points = len(fitted.array.points) if fitted.array else 1
    time = fitted.job.spec.time
    limit = units.parse_time(str(time)) if time is not None else None
    return None if limit is None else points * limit.total_seconds() / 3600


def _total(amounts: list[int | None], hours: float) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return hours * sum(known) if len(known) == len(amounts) else None


def _cpus(component: Component) -> int | None:
    options = dict(component.options)
    if _UNKNOWN & set(options):
        return None
    return component.tasks * int(options.get("cpus-per-task") or 1)


def _gpus(component: Component) -> int | None:
    options = dict(component.options)
    asked = _asked_gpus(component)
    if asked is None:
        return None
    if asked.number == 0 or "gpus" in options:
        return asked.number
    number = component.tasks if "gpus-per-task" in options else _nodes(component)
    return None if number is None else number * asked.number


def _asked_gpus(component: Component) -> units.Gpus | None:
    """Return the GPUs that the component's option names: in all, of each task, or of each node.

    None for a list that names several, or a form that is not read here.
    """
    options = dict(component.options)
    for name in ("gpus", "gpus-per-task", "gpus-per-node"):
        if options.get(name):
            return units.parse_gpus(str(options[name]))
    gres = [each for each in (options.get("gres") or "").split(",") if each.partition(":")[0] == "gpu"]
    if not gres:
        return units.Gpus(0)
    try:
        return units.parse_gpus(gres[0].removeprefix("gpu:")) if len(gres) == 1 else None
    except UnitError:
        return None


def _nodes(component: Component) -> int | None:
    nodes = dict(component.options).get("nodes")
    return int(nodes) if nodes else 1 if component.tasks == 1 else None


def _memory(component: Component) -> int | None:
    """Return MiB; None where the site's default holds, or all memory of the nodes is asked for."""
    options = dict(component.options)
    numbers = {"mem": _nodes(component), "mem-per-cpu": _cpus(component), "mem-per-gpu": _gpus(component)}
    for name, number in numbers.items():
        mib = units.parse_memory(options.get(name) or "0")
        if mib and number is not None:
            return mib * number
    return None


def _amounts(component: Component) -> Amounts:
    """Return what a job holds while it runs, as far as it is what was asked for."""
    if _UNKNOWN & set(dict(component.options)):
        return Amounts(None, None, None, None)
    gpus = _asked_gpus(component)
    return Amounts(_cpus(component), _memory(component), _nodes(component), _gpus(component), gpus.type if gpus else "")
