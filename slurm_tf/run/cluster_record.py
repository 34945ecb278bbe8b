"""The cluster that the tasks of the newest attempt formed, for people and tools: cluster.json in the run's folder.

Standard library, Python 3.9.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder


@dataclass(frozen=True)
class ClusterTask:
    """One task. `address`: its host and port; `gpus`: the devices that it sees, None for those that Slurm gave it."""

    name: str
    role: str
    index: int
    rank: int
    node: str
    address: str
    gpus: Optional[Tuple[str, ...]]


@dataclass(frozen=True)
class ClusterRecord:
    """All tasks, in rank order."""

    tasks: Tuple[ClusterTask, ...]


def write(folder: RunFolder, record: ClusterRecord) -> None:
    """Replace the cluster of a run. Raises OSError."""
    json_file.write(folder.cluster, record)
