"""A `python` for tests whose programs start in a process that has imported TensorFlow already.

To import it takes most of the time of a program that trains a tiny model. server.py forks the programs, and client.py
is what PATH has as `python`. Tests that stop or trace programs, or look at their processes, use the real Python.
"""

import fcntl
import functools
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import PYTHONPATH
from tests.sandbox import linux

_CLIENT = Path(__file__).with_name("client.py")
_SERVER = Path(__file__).with_name("server.py")
_START_SECONDS = 120
# TensorFlow and Keras read these while they are imported, so programs must have them: the real Python runs others.
VARIABLES = {"PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}


def environ(legacy_keras: bool = False) -> dict[str, str]:
    """Return the variables of a user who has activated an environment with that `python`."""
    folder = Path(python(legacy_keras)).parent
    return {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}", "VIRTUAL_ENV": sys.prefix}


@functools.cache
def python(legacy_keras: bool = False) -> str:
    """Return the path of a `python` for programs that have VARIABLES; a `python3` is beside it.

    All workers of pytest-xdist share a server, which ends with the last of them. `legacy_keras`: for programs that have
    TF_USE_LEGACY_KERAS=1 as well.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir(), f"stf-fork-{run}-{legacy_keras}")
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            _start(folder, {**VARIABLES, **({"TF_USE_LEGACY_KERAS": "1"} if legacy_keras else {})})
        owner = socket.socket(socket.AF_UNIX)
        owner.connect(str(folder / "socket"))
        owner.sendall(b"o")
        _owners.append(owner)
    return str(folder / "python")


_owners: list[socket.socket] = []  # open until this process ends


def _start(folder: Path, variables: dict[str, str]) -> None:
    folder.mkdir(0o700)
    (folder / "python").write_text(f"#!{sys.executable} -IS\n{_CLIENT.read_text()}")
    (folder / "python").chmod(0o700)
    (folder / "python3").symlink_to("python")
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(_SERVER), str(folder)],
            env={"PATH": os.environ["PATH"], **variables},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a signal to the tests' process group leaves it the time to remove the folder
        )

    def is_ready() -> bool:
        assert server.poll() is None, (folder / "server.log").read_text()
        return (folder / "socket").exists()

    linux.wait_until(f"the server of {folder}", is_ready, _START_SECONDS)
