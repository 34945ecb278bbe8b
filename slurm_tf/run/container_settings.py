"""The container of a role's programs, as the job file and the site's profile say. Standard library, Python 3.9."""

from dataclasses import dataclass
from enum import Enum
from typing import Tuple


class Runtime(str, Enum):
    """What runs a container, by the name that a site's profile gives it."""

    APPTAINER = "apptainer"
    SINGULARITY = "singularity"
    CHARLIECLOUD = "charliecloud"
    PYXIS = "pyxis"
    OCI = "oci"

    @property
    def wraps(self) -> bool:
        """Whether the agent stays on the node and starts the program through it; else srun starts the agent in it."""
        return self not in (Runtime.PYXIS, Runtime.OCI)


@dataclass(frozen=True)
class Mount:
    """A file or folder of the node that is seen in the container at `target`; all paths are absolute."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class ContainerSettings:
    """The container in which the programs of a role run.

    `command`: the runtime's program, () for one that is a part of Slurm. `image`: an absolute path. `mounts`: those of
    the site and of the job; those of slurm-tf itself come to them. `home`: whether the home folder is mounted.
    `env_from_host`: variables that win over the image's. `options`: more words for the runtime, those for GPUs first.
    """

    runtime: Runtime
    command: Tuple[str, ...]
    image: str
    mounts: Tuple[Mount, ...] = ()
    home: bool = False
    env_from_host: Tuple[str, ...] = ()
    options: Tuple[str, ...] = ()
