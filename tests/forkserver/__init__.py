"""A `python` for tests whose programs start in a process that has imported TensorFlow already.

To import it takes most of the time of a program that trains a tiny model. server.py forks the programs, and client.py
is what PATH has as `python`. Tests that stop or trace programs, or look at their processes, use the real Python.
command_line.py does the same for `slurm-tf WORDS`.
"""

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
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


def python(legacy_keras: bool = False) -> str:
    """Return the path of a `python` for programs that have VARIABLES; a `python3` is beside it.

    `legacy_keras`: for programs that have TF_USE_LEGACY_KERAS=1 as well.
    """
    if legacy_keras:
        return str(server("legacy", "tensorflow", {**VARIABLES, "TF_USE_LEGACY_KERAS": "1"}) / "python")
    return str(server("tensorflow", "tensorflow", VARIABLES) / "python")


def server(name: str, imports: str, variables: Mapping[str, str]) -> Path:
    """Return the folder with the socket of a server, which is started where it does not run.

    All workers of pytest-xdist share it, and it ends with the last of them. `imports`: what it imports, as server.py
    knows it; `variables`: its environment, beside PATH.
    """
    if name in _owners:
        return _owners[name][0]
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir(), f"stf-fork-{run}-{name}")
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            _start(folder, imports, variables)
        owner = socket.socket(socket.AF_UNIX)
        owner.connect(str(folder / "socket"))
        owner.sendall(b"o")
    _owners[name] = (folder, owner)
    return folder


_owners: dict[str, tuple[Path, socket.socket]] = {}  # open until this process ends


def _start(folder: Path, imports: str, variables: Mapping[str, str]) -> None:
    folder.mkdir(0o700)
    (folder / "python").write_text(f"#!{sys.executable} -IS\n{_CLIENT.read_text()}")
    (folder / "python").chmod(0o700)
    (folder / "python3").symlink_to("python")
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(_SERVER), str(folder), imports],
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
