"""Reads what Princeton's jobstats writes into AdminComment: "JS1:" and a compressed summary of the job by node.

Sources: github.com/PrincetonUniversity/jobstats, and troycomi/reportseff, which reads it.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_LARGEST = 1 << 20
_GZIP = 31
_TAG = "JS1:"
_OF_GPUS = ("gpu_utilization", "gpu_used_memory", "gpu_total_memory")


@dataclass(frozen=True, slots=True)
class GpuSummary:
    """One GPU of a node, by its number there: its use in percent, its memory in bytes; None: the summary does not say.

    `memory_of`: how much memory the GPU has.
    """

    name: str
    use: float | None = None
    memory: int | None = None
    memory_of: int | None = None


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One node of a job: CPU seconds and bytes that were used, and its GPUs; None: the summary does not say."""

    cpu: float | None = None
    memory: int | None = None
    memory_of: int | None = None  # how much memory the job has there
    cpus: int | None = None
    gpus: tuple[GpuSummary, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """A job by node, and for how many seconds it was measured; all sums are None where no node has a number."""

    nodes: dict[str, NodeSummary]
    seconds: float | None = None

    @property
    def busy_cpus(self) -> float | None:
        """The average number of busy CPUs."""
        used = _total(node.cpu for node in self.nodes.values())
        return used / self.seconds if used is not None and self.seconds else None

    @property
    def cpu_share(self) -> float | None:
        """The share of its CPUs' time that the job used."""
        cpus = _total(node.cpus for node in self.nodes.values())
        return self.busy_cpus / cpus if self.busy_cpus is not None and cpus else None

    @property
    def memory(self) -> int | None:
        """Bytes that were used, each node at its most."""
        found = _total(node.memory for node in self.nodes.values())
        return None if found is None else int(found)

    @property
    def memory_of(self) -> int | None:
        """Bytes that the job had."""
        found = _total(node.memory_of for node in self.nodes.values())
        return None if found is None else int(found)

    @property
    def node_memory(self) -> int | None:
        """Bytes that the node used which used the most."""
        return max((node.memory for node in self.nodes.values() if node.memory is not None), default=None)

    @property
    def gpus(self) -> int | None:
        """How many GPUs it had; None for none."""
        return len(self._gpus) or None

    @property
    def gpu_use(self) -> float | None:
        """The mean use in percent of the GPUs whose use was measured."""
        return mean_use(self._gpus)

    @property
    def gpu_memory_share(self) -> float | None:
        """The share of the GPUs' memory that was used."""
        return memory_share(self._gpus)

    @property
    def _gpus(self) -> list[GpuSummary]:
        return [gpu for node in self.nodes.values() for gpu in node.gpus]


def mean_use(gpus: Sequence[GpuSummary]) -> float | None:
    """Return the mean use in percent of those GPUs whose use was measured; None for none."""
    shares = [gpu.use for gpu in gpus if gpu.use is not None]
    return sum(shares) / len(shares) if shares else None


def memory_share(gpus: Sequence[GpuSummary]) -> float | None:
    """Return the share of the GPUs' memory that was used; None if unknown."""
    used, whole = _total(gpu.memory for gpu in gpus), _total(gpu.memory_of for gpu in gpus)
    return used / whole if used is not None and whole else None


def read(text: str) -> Summary | None:
    """Return the summary in an AdminComment; None if there is none: other text, "JS1:None" and "JS1:Short"."""
    if not text.startswith(_TAG):
        return None
    try:
        packed = base64.b64decode(text.removeprefix(_TAG), validate=True)
        plain = zlib.decompressobj(_GZIP).decompress(packed, _LARGEST)
        found = json.loads(plain)
        nodes = {name: _node(values) for name, values in found["nodes"].items()}
        return Summary(nodes, None if found.get("total_time") is None else float(found["total_time"]))
    except (binascii.Error, zlib.error, ValueError, KeyError, AttributeError, TypeError):
        return None


def gpu_use(text: str) -> float | None:
    """Return the mean use of a job's GPUs in percent; None if the summary has none."""
    found = read(text)
    return found.gpu_use if found else None


def _node(values: dict[str, Any]) -> NodeSummary:
    return NodeSummary(
        cpu=None if values.get("total_time") is None else float(values["total_time"]),
        memory=None if values.get("used_memory") is None else int(values["used_memory"]),
        memory_of=None if values.get("total_memory") is None else int(values["total_memory"]),
        cpus=None if values.get("cpus") is None else int(values["cpus"]),
        gpus=tuple(_gpus(*(values.get(name, {}) for name in _OF_GPUS))),
    )


def _gpus(use: dict[str, Any], memory: dict[str, Any], memory_of: dict[str, Any]) -> Iterator[GpuSummary]:
    for name in dict.fromkeys([*memory_of, *use, *memory]):
        yield GpuSummary(
            str(name),
            float(use[name]) if name in use else None,
            int(memory[name]) if name in memory else None,
            int(memory_of[name]) if name in memory_of else None,
        )


def _total(amounts: Iterable[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None
