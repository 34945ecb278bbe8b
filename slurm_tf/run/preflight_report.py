"""What the newest preflight of a run measured: preflight.json in its folder. Standard library, Python 3.9."""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder


@dataclass(frozen=True)
class Figures:
    """From one node to another: round trip in seconds, one stream in bytes per second; `error` is "" for a good one."""

    source: str
    target: str
    latency: Optional[float] = None
    bandwidth: Optional[float] = None
    error: str = ""

    def better(self, other: "Figures") -> "Figures":
        """Return the better of each figure of two measurements; an error only if both have one."""
        latencies = [each.latency for each in (self, other) if each.latency is not None]
        bandwidths = [each.bandwidth for each in (self, other) if each.bandwidth is not None]
        error = self.error and other.error
        return Figures(self.source, self.target, min(latencies, default=None), max(bandwidths, default=None), error)


@dataclass(frozen=True)
class Node:
    """What one node said of itself. `unseen`: nodes whose file it does not see; `error`: what it could not do."""

    name: str
    gpus: int = 0
    gpus_wanted: int = 0
    unseen: Tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class PreflightReport:
    """One preflight. `job`: the id of its job, "" without Slurm; `at`: when it ended, seconds since the epoch.

    `factor`: by what factor a node may be slower than others. `pairs`, `mpi`: the figures of pairs of nodes, by plain
    connections and by MPI. `reasons`: why, of each node that is not fit; `table`: the lines that were printed.
    """

    job: str
    at: float
    factor: float
    nodes: Tuple[Node, ...]
    pairs: Tuple[Figures, ...]
    mpi: Tuple[Figures, ...]
    reasons: Mapping[str, str]
    table: Tuple[str, ...]


def read(folder: RunFolder) -> Optional[PreflightReport]:
    """Return the report of a run's newest preflight, None if there was none. Raises RunError or OSError."""
    try:
        return json_file.read(folder.preflight, PreflightReport)
    except FileNotFoundError:
        return None


def write(folder: RunFolder, report: PreflightReport) -> None:
    """Replace the report of a run. Raises OSError."""
    json_file.write(folder.preflight, report)
