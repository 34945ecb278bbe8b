"""What a machine, a login node or a compute node, says of itself. Standard library, Python 3.9."""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple


@dataclass(frozen=True)
class ResourceLimit:
    """A limit of this process, as ulimit shows it, in bytes or numbers; None: unlimited."""

    soft: Optional[int]
    hard: Optional[int]


@dataclass(frozen=True)
class FolderFacts:
    """A folder and the file system that holds it; `kind`: its type, such as nfs4.

    `free`: bytes that a user may still write; `files_free`: files that may still be made, None where there is no such
    number. `error`: why nothing is known; `writable`: whether this user may make files in it.
    """

    path: str
    error: str = ""
    writable: bool = False
    size: int = 0
    free: int = 0
    files_free: Optional[int] = None
    kind: str = ""


@dataclass(frozen=True)
class Quota:
    """What a user has used of a quota, and the limit: of bytes and of files. A limit of 0 is none."""

    used: int
    limit: int
    files: int
    files_limit: int


@dataclass(frozen=True)
class MachineFacts:
    """One machine, as a process of the user with the id `user` finds it.

    `limits`: by the names of getrlimit(2) without RLIMIT_; `proxies`: the variables that name one, without passwords.
    `folders`: by what they are for; `quota`: of the home folder, None where `quota_problem` says why it is not known.
    `memory_limit`: of the control group, in bytes, None without one. `has_avx`: None where the processor does not say.
    `fabrics`: the InfiniBand devices; `local_ports`: those that the kernel chooses from (ip_local_port_range).
    """

    host: str
    user: int
    python: Tuple[int, int, int]
    limits: Mapping[str, ResourceLimit]
    proxies: Mapping[str, str]
    folders: Mapping[str, FolderFacts]
    quota: Optional[Quota]
    quota_problem: str
    memory_limit: Optional[int]
    has_avx: Optional[bool]
    fabrics: Tuple[str, ...]
    local_ports: Optional[Tuple[int, int]]
