"""Reads what Princeton's jobstats writes into AdminComment: "JS1:" and a compressed summary of the job by node.

Sources: github.com/PrincetonUniversity/jobstats, and troycomi/reportseff, which reads it.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_LARGEST = 1 << 20
_GZIP = 31
_TAG = "JS1:"


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One node of a job: CPU seconds and bytes that were used, the percents of its GPUs, and their memory in bytes.

    None and no GPUs: the summary does not say.
    """

    cpu: float | None = None
    memory: int | None = None
    memory_of: int | None = None  # how much memory the job has there
    cpus: int | None = None
    gpu_count: int = 0
    gpus: tuple[float, ...] = ()
    gpu_memory: int | None = None
    gpu_memory_of: int | None = None  # how much memory those GPUs have


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
        return sum(node.gpu_count for node in self.nodes.values()) or None

    @property
    def gpu_use(self) -> float | None:
        """The mean use in percent of the GPUs whose use was measured."""
        shares = [share for node in self.nodes.values() for share in node.gpus]
        return sum(shares) / len(shares) if shares else None

    @property
    def gpu_memory_share(self) -> float | None:
        """The share of the GPUs' memory that was used."""
        used = _total(node.gpu_memory for node in self.nodes.values())
        whole = _total(node.gpu_memory_of for node in self.nodes.values())
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
        gpu_count=max(len(values.get("gpu_total_memory", {})), len(values.get("gpu_utilization", {}))),
        gpus=tuple(float(share) for share in values.get("gpu_utilization", {}).values()),
        gpu_memory=_bytes(values.get("gpu_used_memory", {})),
        gpu_memory_of=_bytes(values.get("gpu_total_memory", {})),
    )


def _bytes(each: dict[str, Any]) -> int | None:
    return sum(int(amount) for amount in each.values()) if each else None


def _total(amounts: Iterable[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None
