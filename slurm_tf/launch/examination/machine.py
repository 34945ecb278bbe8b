"""Describes the machine that this process runs on: limits, proxies, folders, quota, memory."""

import contextlib
import os
import re
import resource
import socket
import sys
from typing import Dict, Mapping, Optional, Tuple

from slurm_tf.launch.agent import program_python
from slurm_tf.launch.agent.memory_cgroup import MemoryCgroup
from slurm_tf.launch.examination import quota
from slurm_tf.run.machine_facts import FolderFacts, MachineFacts, ResourceLimit

_LIMITS = ("NOFILE", "NPROC", "MEMLOCK", "STACK", "AS")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy")
# user:password@ of a URL
_USER = re.compile(r"(?<=//)[^/@]*@")


def describe(folders: Mapping[str, str], environ: Mapping[str, str], proc: str = "/proc") -> MachineFacts:
    """Return what this machine is. `folders`: paths, by what they are for; that of "home" is asked for its quota."""
    home = folders.get("home", "")
    found, problem = quota.of_home(home, environ) if home else (None, "there is no home folder")
    return MachineFacts(
        host=socket.gethostname(),
        user=os.geteuid(),
        python=(sys.version_info[0], sys.version_info[1], sys.version_info[2]),
        limits={name: _limit(name) for name in _LIMITS},
        proxies=proxies(environ),
        folders={name: folder(path, proc) for name, path in folders.items()},
        quota=found,
        quota_problem=problem,
        memory_limit=MemoryCgroup(f"{proc}/self").memory.limit,
        has_avx=_has_avx(_read(f"{proc}/cpuinfo")),
        fabrics=_names("/sys/class/infiniband"),
        local_ports=_local_ports(_read(f"{proc}/sys/net/ipv4/ip_local_port_range")),
    )


def proxies(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the variables that name proxies, in lower case, without the user and the password of an address."""
    found: Dict[str, str] = {}
    for name in _PROXIES:
        value = environ.get(name) or environ.get(name.upper())
        if value:
            found[name] = _USER.sub("", value)
    return found


def python_version(python: str, environ: Mapping[str, str]) -> Optional[Tuple[int, int, int]]:
    """Return the version of a Python of this machine, None where it does not say."""
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    text = program_python.ask([os.path.expanduser(python)], environ, code)
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def folder(path: str, proc: str = "/proc") -> FolderFacts:
    """Return what is known of a folder, or of why nothing is."""
    try:
        status = os.statvfs(path)
        if not os.path.isdir(path):
            return FolderFacts(path, "it is no folder")
        where = os.path.realpath(path)
    except OSError as error:
        return FolderFacts(path, error.strerror or str(error))
    return FolderFacts(
        path,
        writable=os.access(path, os.W_OK | os.X_OK) and not status.f_flag & os.ST_RDONLY,
        size=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        files_free=status.f_favail if status.f_files else None,  # btrfs and others have no such number
        kind=kind(where, _read(f"{proc}/self/mounts")),
    )


def kind(path: str, mounts: str) -> str:
    """Return the type of the file system that holds `path`, by the text of /proc/self/mounts; "" if none does."""
    best, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]) if len(fields) > 2 else ""
        inside = place == "/" or path == place or path.startswith(f"{place}/")
        if place and inside and len(place) >= best:  # a later mount hides an earlier one at the same place
            best, found = len(place), fields[2]
    return found


def _limit(name: str) -> ResourceLimit:
    soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    return ResourceLimit(*(None if each == resource.RLIM_INFINITY else each for each in (soft, hard)))


def _has_avx(cpuinfo: str) -> Optional[bool]:
    """Return whether the processor has AVX, which TensorFlow's wheels for x86 need; None for other processors."""
    match = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return "avx" in match[1].split() if match else None


def _local_ports(text: str) -> Optional[Tuple[int, int]]:
    numbers = text.split()
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(map(str.isdigit, numbers)) else None


def _names(path: str) -> Tuple[str, ...]:
    with contextlib.suppress(OSError):
        return tuple(sorted(os.listdir(path)))
    return ()


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
