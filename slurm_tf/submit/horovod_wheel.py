"""Installs Horovod for the TensorFlow of a Python, from a wheel that is built once and kept in the user's cache.

PyPI has only Horovod's sources, and a build works with one version of TensorFlow.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files, search_path
from slurm_tf.errors import UsageError

VERSION = "0.28.1"
# measured: 1.9 GiB of memory and 1 GiB of disk for TensorFlow 2.15 to 2.21
_DISK = 2 << 30
_MEMORY_A_COMPILER = 2 << 30
_OLDEST_CMAKE = (3, 13)
# what setup.py imports; the build is not isolated, as it needs the installed TensorFlow
_BUILD_NEEDS = ("setuptools<81", "wheel", "packaging", "pyyaml", "cloudpickle", "psutil", "cffi")
_BUILD_SECONDS, _INSTALL_SECONDS, _CHECK_SECONDS = 3600.0, 600.0, 180.0

_PROBE = """
import importlib.metadata, json, os, platform, sys, sysconfig
try:
    import tensorflow
except ImportError as error:
    sys.exit(f"no TensorFlow ({error})")
try:
    installed = json.loads(importlib.metadata.distribution("horovod").read_text("direct_url.json") or "{}").get("url")
except importlib.metadata.PackageNotFoundError:
    installed = None
print(json.dumps({
    "tensorflow": tensorflow.__version__, "tag": sys.implementation.cache_tag, "machine": platform.machine(),
    "headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
    "installed": installed,
}))
"""

_CHECK = """
import os, subprocess, sys
if "HOROVOD_RANK" in os.environ:
    import horovod.tensorflow as hvd, tensorflow as tf
    hvd.init()
    total = hvd.allreduce(tf.constant([1.0 + hvd.rank()]), op=hvd.Sum).numpy()
    sys.exit(0 if hvd.size() == 2 and total == [3.0] else f"the sum of 1 and 2 is {total}")
from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
from horovod.runner.http.http_server import RendezvousServer
server = RendezvousServer(0)
port = server.start()
server.init(get_host_assignments(parse_hosts("localhost:2"), 2))
place = {"HOROVOD_SIZE": "2", "HOROVOD_LOCAL_SIZE": "2", "HOROVOD_CROSS_RANK": "0", "HOROVOD_CROSS_SIZE": "1",
         "HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo", "HOROVOD_HOSTNAME": "localhost",
         "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port)}
ranks = [subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1]],
                          env={**os.environ, **place, "HOROVOD_RANK": rank, "HOROVOD_LOCAL_RANK": rank})
         for rank in "01"]
codes = [rank.wait() for rank in ranks]
os._exit(max(map(abs, codes)))
"""


@dataclass(frozen=True)
class Target:
    """What a wheel is built for. `tag`: the Python's, such as "cpython-311"; `mpi`: built with MPI and Gloo.

    `installed`: the origin of the Horovod that the Python has, None without one.
    """

    python: str
    tensorflow: str
    tag: str
    machine: str
    mpi: bool
    installed: str | None = None

    @property
    def name(self) -> str:
        """The name of the wheel's folder in the cache; it depends on the user's HOROVOD_ variables, too."""
        own = "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items()) if name.startswith("HOROVOD_"))
        parts = [VERSION, f"tf{self.tensorflow}", self.tag, self.machine, "mpi" if self.mpi else "gloo"]
        return "-".join(parts + ([hashlib.sha256(own.encode()).hexdigest()[:8]] if own else []))


def install(python: str, mpi: bool, say: Callable[[str], None]) -> Path:
    """Install Horovod for `python`, and return the wheel; build it if there is none for its TensorFlow.

    `say` is called with a message before something that takes long. Raises UsageError, RunError and OSError.
    """
    target = _target(python, mpi)
    root = files.own_folder(str(search_path.user_cache()))
    folder = Path(files.own_folder(f"{root}/horovod")) / target.name
    files.own_folder(str(folder))
    with _locked(folder / "lock", say):
        wheel = next(folder.glob("*.whl"), None) or _build(target, folder, say)
    if target.installed != wheel.as_uri():
        _install(python, wheel, folder / "install.log")
    return wheel


def _install(python: str, wheel: Path, log: Path) -> None:
    """Install the wheel, and test it with an allreduce of two processes; uninstall it if that fails."""
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    # a Horovod of the same version may have been built for another TensorFlow
    again = [*pip, "install", "--force-reinstall", "--no-deps", str(wheel)]
    _run(again, log, _INSTALL_SECONDS, "pip cannot install the wheel")
    _run([*pip, "install", str(wheel)], log, _INSTALL_SECONDS, "pip cannot install what Horovod needs")
    try:
        _run([python, "-c", _CHECK, _CHECK], log, _CHECK_SECONDS, "two processes cannot add numbers with Horovod")
    except UsageError:
        _run([*pip, "uninstall", "--yes", "horovod"], log, _INSTALL_SECONDS, "pip cannot uninstall Horovod again")
        raise


def _target(python: str, mpi: bool) -> Target:
    done = subprocess.run(
        [python, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            f"{python}: {why}", "a Python with TensorFlow", "activate its environment, or name it with --python"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if not found.pop("headers"):
        raise UsageError(f"{python} has no Python.h", "its headers", "apt-get install python3-dev, or its like")
    return Target(python, found["tensorflow"], found["tag"], found["machine"], mpi, found["installed"])


def _build(target: Target, folder: Path, say: Callable[[str], None]) -> Path:
    """Build the wheel in a temporary folder and move it into `folder`: a build that is killed leaves nothing there."""
    environ = _build_environ(target)
    log = folder / "build.log"
    say(f"building Horovod {VERSION} for TensorFlow {target.tensorflow}: some minutes, see {log}")
    with tempfile.TemporaryDirectory(prefix="slurm-tf-horovod-") as temp:
        free = shutil.disk_usage(temp).free
        if free < _DISK:
            raise UsageError(f"{free >> 20} MiB are free for {temp}", f"{_DISK >> 20} MiB", "set TMPDIR")
        environ |= {"PYTHONPATH": f"{temp}/needs", "TMPDIR": temp}
        pip = [target.python, "-m", "pip"]
        quiet = ["--disable-pip-version-check", "--no-cache-dir"]
        needs = [*pip, "install", *quiet, "--target", f"{temp}/needs", *_BUILD_NEEDS]
        _run(needs, log, _INSTALL_SECONDS, "pip cannot install what the build needs")
        options = ["--no-build-isolation", "--no-deps", "--no-binary", "horovod", "--wheel-dir", f"{temp}/wheel"]
        build = [*pip, "wheel", *quiet, *options, f"horovod=={VERSION}"]
        _run(build, log, _BUILD_SECONDS, "Horovod does not build", environ)
        (wheel,) = Path(temp, "wheel").glob("*.whl")
        files.write_whole(str(folder / wheel.name), wheel.read_bytes())
    return folder / wheel.name


def _build_environ(target: Target) -> dict[str, str]:
    """Return the environment of the build. Raises UsageError for a tool that is not installed."""
    beside = f"{Path(target.python).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    cmake = _tool("cmake", beside, "cmake 3.13 or later", f"{target.python} -m pip install cmake")
    _tool("g++", beside, "a C++ compiler", "apt-get install g++, or load the site's module")
    _tool("make", beside, "make", "apt-get install make")
    if target.mpi:
        _tool("mpicxx", beside, "MPI's compiler", "apt-get install libopenmpi-dev, or load the site's module")
    _check_cmake(cmake)
    environ = {
        **os.environ,
        "PATH": beside,
        "MAKEFLAGS": f"-j{_compilers()}",
        "HOROVOD_CMAKE": cmake,
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITH_MPI" if target.mpi else "HOROVOD_WITHOUT_MPI": "1",
        # Gloo requires a policy version that CMake 4 no longer has
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
    }
    major, minor = (int(number) for number in target.tensorflow.split(".")[:2])
    if (major, minor) >= (2, 19):
        # TensorFlow's packages lack headers that Horovod's XLA operations include. Those are left out when the version
        # is below 2.6 before any header of TensorFlow, and no other file of Horovod asks that early.
        version = major * 10**9 + minor * 10**6
        macro = f"'-DTENSORFLOW_VERSION=({version}*defined(TENSORFLOW_CORE_FRAMEWORK_OP_H_))'"
        environ["CXXFLAGS"] = f"{environ.get('CXXFLAGS', '')} -UTENSORFLOW_VERSION {macro}".strip()
    return environ


def _tool(name: str, path: str, needed: str, do: str) -> str:
    found = shutil.which(name, path=path)
    if not found:
        raise UsageError(f"found no {name}", f"{needed} to build Horovod", do)
    return found


def _check_cmake(cmake: str) -> None:
    text = subprocess.run([cmake, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None or (int(match[1]), int(match[2])) < _OLDEST_CMAKE:
        raise UsageError(f"{cmake} is {text.partition(chr(10))[0]!r}", "cmake 3.13 or later", "pip install cmake")


def _compilers() -> int:
    """Return how many compilers may run at once, given the CPUs and the free memory."""
    memory = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    free = int(memory[1]) << 10 if memory else 0
    return max(1, min(len(os.sched_getaffinity(0)), free // _MEMORY_A_COMPILER))


def _run(
    command: Sequence[str], log: Path, seconds: float, failure: str, environ: Mapping[str, str] | None = None
) -> None:
    """Run a command with its output in `log`; kill all its processes at the end. Raises UsageError if it fails."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=dict(os.environ if environ is None else environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{failure}: not done in {seconds:.0f} s", do=f"see {log}") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        lines = log.read_text(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if "rror" in line), "no message")
        raise UsageError(f"{failure} ({last[:200]})", "", f"see {log}")


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock under which one process at a time builds a wheel; the kernel releases it when the process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process builds this wheel: waiting for it ({path.parent})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
