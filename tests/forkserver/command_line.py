"""Types `slurm-tf WORDS` in a process that is forked off one which has imported slurm-tf: that takes most of its time.

Tests that look at the process, send it signals or change what it imports start the real one.
"""

import json
import socket
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from tests import forkserver
from tests.conftest import PYTHONPATH


@dataclass(frozen=True)
class Login:
    """A user on a host of a sandbox. `pid`: of the host's pid 1, on this machine."""

    pid: int
    uid: int
    gid: int


def slurm_tf(
    words: Sequence[str], environ: Mapping[str, str], cwd: Path, timeout: float = 120.0, login: Login | None = None,
    text: str = "",
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    """Run slurm-tf, as this user here or as another on a host of a sandbox. Raises TimeoutExpired.

    `environ`: all variables, with PYTHONPATH of tests/conftest.py; `text`: for its standard input.
    """
    folder = forkserver.server("slurm_tf", "slurm_tf", {"PYTHONPATH": PYTHONPATH, "LANG": "C.UTF-8"})
    argv = ["-m", "slurm_tf", *words]
    request: dict[str, object] = {"argv": argv, "environ": dict(environ), "cwd": str(cwd), "descriptors": [0, 1, 2]}
    if login:
        request["host"] = asdict(login)
    with (
        socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as given,
    ):  # fmt: skip
        given.write(text.encode())
        given.seek(0)
        server.settimeout(timeout)
        server.connect(str(folder / "socket"))
        message = json.dumps(request).encode()
        socket.send_fds(server, [b"r" + struct.pack("!I", len(message))], [given.fileno(), out.fileno(), err.fileno()])
        server.sendall(message)
        assert server.recv(1) == b"y", (folder / "server.log").read_text()
        try:
            answer = server.recv(4)
        except TimeoutError:
            raise subprocess.TimeoutExpired(argv, timeout, _text(out), _text(err)) from None
        assert len(answer) == 4, (folder / "server.log").read_text()
        return subprocess.CompletedProcess(argv, struct.unpack("!i", answer)[0], _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
