"""The files that each node copies to its scratch: stage.json in the run's folder. Standard library, Python 3.9.

The coordinator writes it in each step, so that all nodes copy the same, and each file is looked for once.
"""

from dataclasses import dataclass
from typing import Tuple

from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder


@dataclass(frozen=True)
class StagedFile:
    """One file: its `name` below the stage folder, its `source`, its size in `bytes`.

    `changed`: st_mtime_ns of the source, which the copy gets too. `sha256`: "" where it is not known beforehand.
    """

    name: str
    source: str
    bytes: int
    changed: int
    sha256: str = ""


@dataclass(frozen=True)
class StagePlan:
    """All files, and the folders below the stage folder that they need."""

    files: Tuple[StagedFile, ...]
    folders: Tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


def read(path: str) -> StagePlan:
    """Return the plan in the file `path`. Raises RunError or OSError."""
    return json_file.read(path, StagePlan)


def write(folder: RunFolder, plan: StagePlan) -> None:
    """Replace the plan of a run. Raises OSError."""
    json_file.write(folder.stage_plan, plan, indent=None)
