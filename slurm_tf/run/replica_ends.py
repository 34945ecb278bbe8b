"""How replica processes of a job of a service ended that were started again: a file a replica. Python 3.9."""

import os
from dataclasses import dataclass
from typing import Tuple

from slurm_tf import files
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder

_SUFFIX = ".json"


@dataclass(frozen=True)
class ReplicaEnd:
    """The last end of a replica, which has ended `times` times; `at`: in seconds since 1970; `why`: in words."""

    replica: str
    times: int
    at: float
    why: str


def write(folder: RunFolder, end: ReplicaEnd) -> None:
    """Write the last end of a replica. Raises RunError or OSError."""
    files.own_folder(folder.replica_ends)
    json_file.write(os.path.join(folder.replica_ends, end.replica + _SUFFIX), end)


def read(folder: RunFolder) -> Tuple[ReplicaEnd, ...]:
    """Return the last end of each replica that has ended, by name. Raises RunError or OSError."""
    try:
        names = sorted(os.listdir(folder.replica_ends))
    except FileNotFoundError:
        return ()
    paths = [os.path.join(folder.replica_ends, name) for name in names if not name.startswith(".")]
    return tuple(json_file.read(path, ReplicaEnd) for path in paths)
