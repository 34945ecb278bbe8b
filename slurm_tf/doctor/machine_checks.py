"""Judges what a machine says of itself (run/machine_facts.py): limits, proxies, folders, quota, processor."""

from collections.abc import Iterator

from slurm_tf.doctor import findings
from slurm_tf.doctor.findings import Finding
from slurm_tf.run.machine_facts import FolderFacts, MachineFacts, Quota, ResourceLimit

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
# Below the first of each pair jobs fail, below the second they soon may.
_FREE = {
    "shared-folder": (64 * _MIB, _GIB),  # a run's own files, and its first checkpoints
    "home": (0, 64 * _MIB),
    "tmp": (16 * _MIB, 256 * _MIB),
    "scratch": (0, _GIB),
    "shm": (0, 64 * _MIB),  # NCCL and Gloo exchange what tasks of one node send through it
}
_FEW_FILES = 1000
# The part of a quota from which on it is nearly used up.
_NEARLY = 0.95
_OPEN_FILES = (256, 1024)
_PROCESSES = (256, 2048)  # threads count: TensorFlow starts several for each CPU
_STACK = _MIB
_OLDEST_PYTHON = (3, 9)
_ADDRESS_SPACE = 64 * _GIB  # CUDA maps as much as the GPUs have, and more

_HOW_LIMITS = "raise it with ulimit before you submit, as Slurm passes limits on to jobs, or ask your administrators"


def check_limits(facts: MachineFacts) -> Iterator[Finding]:
    """Yield whether the limits of a process suffice for TensorFlow."""
    yield _count("open-files", "ulimit -n", facts.limits["NOFILE"], _OPEN_FILES)
    yield _count("processes", "ulimit -u", facts.limits["NPROC"], _PROCESSES)
    yield _memory("stack", "ulimit -s", facts.limits["STACK"], _STACK)
    yield _memory("address-space", "ulimit -v", facts.limits["AS"], _ADDRESS_SPACE)
    locked = facts.limits["MEMLOCK"]
    said = f"ulimit -l is {_kib(locked.soft)}"
    if locked.soft is None or not facts.fabrics:
        yield findings.ok("locked-memory", said if facts.fabrics else f"{said}; there is no InfiniBand")
    else:
        found = f"{said}, and there is InfiniBand: {', '.join(facts.fabrics)}"
        yield findings.warning("locked-memory", found, "unlimited: NCCL and MPI lock what they send", _HOW_LIMITS)


def check_proxies(facts: MachineFacts) -> Finding:
    """Return whether programs may send what is for other nodes to a proxy."""
    named = {name: value for name, value in facts.proxies.items() if not name.startswith("no_")}
    if not named:
        return findings.ok("proxies", "no variable names a proxy")
    said = ", ".join(f"{name}={value}" for name, value in named.items())
    if "no_proxy" in facts.proxies:
        return findings.ok("proxies", f"{said}; no_proxy={facts.proxies['no_proxy']}")
    return findings.warning(
        "proxies",
        f"{said}, and no no_proxy",
        "no_proxy with the names and addresses of the nodes: TensorFlow hangs if it asks a proxy for another task",
        "jobs of slurm-tf add the addresses of their tasks themselves; for all else "
        "export no_proxy=localhost,127.0.0.1,10.0.0.0/8, with your network",
    )


def check_folder(check: str, facts: FolderFacts | None, do: str) -> Finding:
    """Return whether a folder is there, can be written, and has room. `do`: about one that is not."""
    if facts is None:
        return findings.unknown(check, "nobody has looked for it")
    if facts.error:
        return findings.error(check, f"{facts.path}: {facts.error}", "a folder that can be used", do)
    if not facts.writable:
        return findings.error(check, f"{facts.path} cannot be written", "a folder of yours", do)
    least, few = _FREE[check]
    said = f"{facts.path} ({facts.kind or 'unknown file system'}) has {size(facts.free)} free"
    files = facts.files_free
    if files is not None and files < _FEW_FILES:
        said = f"{facts.path} has room for {files} more files"
        make = findings.error if files == 0 else findings.warning
        return make(check, said, f"{_FEW_FILES} or more", f"df -i {facts.path} shows how many there are")
    if facts.free < few or facts.free < least:
        make = findings.error if facts.free < least or not facts.free else findings.warning
        needed = size(least if facts.free < least else few)
        return make(check, said, f"{needed} or more", f"remove what is not needed: df -h {facts.path}")
    return findings.ok(check, said)


def check_quota(facts: MachineFacts) -> Finding:
    """Return whether the quota of the home folder has room."""
    if facts.quota is None:
        return findings.unknown("quota", facts.quota_problem)
    said = _quota_words(facts.quota)
    rows = [(facts.quota.used, facts.quota.limit), (facts.quota.files, facts.quota.files_limit)]
    part = max(used / limit for used, limit in rows if limit)
    if part < _NEARLY:
        return findings.ok("quota", said)
    make = findings.error if part >= 1 else findings.warning
    do = "remove what is not needed; caches of pip and Keras can go elsewhere with XDG_CACHE_HOME and KERAS_HOME"
    return make("quota", said, "room in the quota of the home folder", do)


def check_python(python: str, version: tuple[int, ...]) -> Finding:
    """Return whether a Python can run the launcher."""
    said = f"{python} is Python {'.'.join(map(str, version))}"
    if version >= _OLDEST_PYTHON:
        return findings.ok("node-python", said)
    return findings.error("node-python", said, "3.9 or later for the launcher", "set node-python in the site's profile")


def check_processor(facts: MachineFacts) -> Finding:
    """Return whether the processor can run TensorFlow's wheels."""
    if facts.has_avx is None:
        return findings.ok("processor", "it is no x86, whose wheels need AVX")
    if facts.has_avx:
        return findings.ok("processor", "it has AVX")
    needed = "AVX: TensorFlow's wheels end with Illegal instruction"
    return findings.error("processor", "it has no AVX", needed, "use other nodes (constraint), or build TensorFlow")


def size(number: int) -> str:
    """Return bytes in the largest unit of which there is one."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}" if number < 1000 * unit else f"{number / unit:.0f} {name}"
    return f"{number} bytes"


def _count(check: str, command: str, limit: ResourceLimit, bounds: tuple[int, int]) -> Finding:
    """Return whether a limit is high enough: below the first bound jobs fail, below the second some may."""
    number = limit.soft
    said = f"{command} is {'unlimited' if number is None else number}"
    if number is None or number >= bounds[1]:
        return findings.ok(check, said)
    make = findings.error if number < bounds[0] else findings.warning
    return make(check, said, f"{bounds[1]} or more", _HOW_LIMITS)


def _memory(check: str, command: str, limit: ResourceLimit, least: int) -> Finding:
    said = f"{command} is {_kib(limit.soft)}"
    if limit.soft is None or limit.soft >= least:
        return findings.ok(check, said)
    return findings.warning(check, said, f"{least // _KIB} or more", _HOW_LIMITS)


def _kib(number: int | None) -> str:
    return "unlimited" if number is None else str(number // _KIB)


def _quota_words(quota: Quota) -> str:
    parts = [f"{size(quota.used)} of {size(quota.limit)}"] if quota.limit else []
    parts += [f"{quota.files} of {quota.files_limit} files"] if quota.files_limit else []
    return f"{' and '.join(parts)} used"
