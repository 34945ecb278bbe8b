"""The billing of a job in each partition, from its TRESBillingWeights.

Source: slurm.conf(5); seen on Slurm 22.05.8: typed GPUs count beside GPUs of any type, and the sum is cut to a whole
number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_tf.slurm import client

_WEIGHT = re.compile(r"(?P<name>[^=,]+)=(?P<number>[-+]?(\d+\.?\d*|\.\d+))(?P<unit>[KMGTP]?)", re.ASCII | re.IGNORECASE)
_UNITS = " KMGTP"
_GPU = "gres/gpu"


@dataclass(frozen=True, slots=True)
class Amounts:
    """The resources that one job holds; memory in MiB. None is unknown; `gpu_types`: the part of `gpus` by type."""

    cpus: int | None
    memory: int | None
    nodes: int | None
    gpus: int | None
    gpu_types: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one partition by the name of the TRES in lower case; that of memory is for a MiB."""

    by_tres: Mapping[str, float] = field(default_factory=dict)

    def billing(self, amounts: Amounts) -> int | None:
        """Return the most that a job with `amounts` is billed; None where an amount that has a weight is unknown."""
        counts = {"cpu": amounts.cpus, "mem": amounts.memory, "node": amounts.nodes, _GPU: amounts.gpus}
        terms = [(weight, counts.get(name)) for name, weight in self.by_tres.items() if not name.startswith(f"{_GPU}:")]
        terms += [(self._of_type(name), number) for name, number in amounts.gpu_types.items()]
        others = None if amounts.gpus is None else amounts.gpus - sum(amounts.gpu_types.values())
        terms.append((self._of_type(""), others))
        if any(weight and count is None for weight, count in terms):
            return None
        total = sum(weight * count for weight, count in terms if weight and count is not None)
        return int(total) if total >= 0 else None

    def _of_type(self, gpu_type: str) -> float:
        """Return the weight that a GPU's type adds; for GPUs of any type, the largest one."""
        types = {name.partition(":")[2]: weight for name, weight in self.by_tres.items() if name.startswith(f"{_GPU}:")}
        return types.get(gpu_type.lower(), 0.0) if gpu_type else max([0.0, *types.values()])


def weights() -> Mapping[str, Weights]:
    """Ask Slurm for the weights of the partitions that have some; "" is the default partition.

    Raises SlurmError.
    """
    partitions = client.run(["scontrol", "--all", "--oneliner", "show", "partition"]).stdout
    return parse(partitions, client.run(["scontrol", "show", "config"]).stdout)


def parse(partitions: str, config: str) -> Mapping[str, Weights]:
    """Return the weights in the output of scontrol; none where PriorityFlags makes billing no sum."""
    flags = re.search(r"^PriorityFlags\s*=(.*)", config, re.MULTILINE)
    if flags is None or "MAX_TRES" in flags[1]:
        return {}
    found = {}
    for line in partitions.splitlines():
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
        each = _weights(fields.get("TRESBillingWeights", ""))
        if each is None:
            continue
        found[fields["PartitionName"]] = each
        if fields.get("Default") == "YES":
            found[""] = each
    return found


def _weights(text: str) -> Weights | None:
    """Return the weights in `text`, None if there are none or one cannot be read."""
    matches = [_WEIGHT.fullmatch(each) for each in text.split(",")]
    known = [match for match in matches if match]
    if len(known) < len(matches):
        return None
    return Weights({match["name"].lower(): float(match["number"]) / _scale(match) for match in known})


def _scale(match: "re.Match[str]") -> int:
    """Return the divisor of a weight's suffix: memory and burst buffers are counted in MiB, all else in ones."""
    base = "M" if match["name"].lower().startswith(("mem", "bb/")) else " "
    return int(1024 ** max(0, _UNITS.index(match["unit"].upper() or " ") - _UNITS.index(base)))
