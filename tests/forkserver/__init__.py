"""A `python` for tests whose programs start in a process that has imported TensorFlow already.

To import it takes most of the time of a program that trains a tiny model. server.py forks the programs, and client.py
is what PATH has as `python`. Tests that stop or trace programs, or look at their processes, use the real Python.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import PYTHONPATH

_CLIENT = Path(__file__).with_name("client.py")
_SERVER = Path(__file__).with_name("server.py")
_START_SECONDS = 120


def environ(legacy_keras: bool = False) -> dict[str, str]:
    """Return the variables of somebody who has activated an environment with that `python`."""
    path = f"{python_folder(legacy_keras)}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "VIRTUAL_ENV": sys.prefix}


@functools.cache
def python_folder(legacy_keras: bool = False) -> str:
    """Return a folder with a `python` and a `python3`, whose server ends with this process.

    `legacy_keras`: for programs that have TF_USE_LEGACY_KERAS=1, which TensorFlow reads when it is imported.
    """
    folder = Path(tempfile.mkdtemp(prefix="stf-fork-"))
    (folder / "python").write_text(f"#!{sys.executable} -IS\n{_CLIENT.read_text()}")
    (folder / "python").chmod(0o700)
    (folder / "python3").symlink_to("python")
    variables = {
        "PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0",
        **({"TF_USE_LEGACY_KERAS": "1"} if legacy_keras else {}),
    }  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(_SERVER), str(folder)],
            env=variables,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a signal to the tests' process group leaves it the time to remove the folder
        )
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / "socket").exists():
        assert server.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
        time.sleep(0.05)
    _servers.append(server)
    return str(folder)


_servers: "list[subprocess.Popen[bytes]]" = []  # held: each of them ends when its stdin is closed
