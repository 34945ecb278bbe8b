"""Imports TensorFlow, then forks a process for each program that client.py asks for: `python server.py FOLDER`.

It ends, and removes FOLDER, when the last of its owners has closed its connection. TensorFlow starts its threads with
the first operation, so a process that only imported it can be forked.
"""

import ctypes
import fcntl
import gc
import io
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import types
from pathlib import Path
from typing import Any

# Read by TensorFlow and Python while they are imported or started.
IMPORT_TIME = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "TF_USE_LEGACY_KERAS", "KERAS_BACKEND")
PR_SET_PDEATHSIG = 1
# Above all numbers that programs inherit.
FIRST_OWN_DESCRIPTOR = 200

FIRST_OWNER_SECONDS = 60

Request = dict[str, Any]


def receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """Return a client's request and the descriptors that came with it."""
    head, descriptors, _, _ = socket.recv_fds(connection, 5, FIRST_OWN_DESCRIPTOR)
    (length,) = struct.unpack("!I", head[1:])
    text = b""
    while len(text) < length:
        text += connection.recv(length - len(text))
    return json.loads(text), list(descriptors)


def supervise(connection: socket.socket, pid: int) -> int:
    """Send a program its client's signals until it ends; return how. If the client ends first, kill the program."""
    ended = os.pidfd_open(pid)
    while True:
        ready, _, _ = select.select([connection.fileno(), ended], [], [])
        if ended in ready:
            # what it left behind in its process group ends with it, as with the agent
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            os.killpg(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        numbers = connection.recv(64)
        if not numbers:
            os.killpg(pid, signal.SIGKILL)
            os._exit(0)
        for number in numbers:
            if number:
                os.kill(pid, number)


def added_to_path(own: str, wanted: str) -> list[str] | None:
    """Return what the PYTHONPATH `wanted` has behind the server's own; None if it does not begin with that."""
    if wanted == own:
        return []
    return wanted[len(own) + 1 :].split(":") if wanted.startswith(f"{own}:") else None


def serve(connection: socket.socket) -> Request:
    """Answer one client, in a process of its own; returns in the program's process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, descriptors = receive(connection)
    environ = request["environ"]
    added = added_to_path(os.environ["PYTHONPATH"], environ.get("PYTHONPATH", ""))
    if added is None or any(environ.get(name) != os.environ.get(name) for name in IMPORT_TIME):
        names = ("PYTHONPATH", *IMPORT_TIME)
        print({name: environ.get(name) for name in names}, request["argv"], file=sys.stderr, flush=True)
        connection.sendall(b"n")
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        connection.close()
        inherit(descriptors, request["descriptors"])
        return request
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(b"y")
    code = supervise(connection, pid)
    connection.sendall(struct.pack("!i", code))
    os._exit(0)


def inherit(descriptors: list[int], numbers: list[int]) -> None:
    """Give each descriptor the number that it has in the client."""
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, FIRST_OWN_DESCRIPTOR) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for each, number in zip(high, numbers, strict=True):
        os.dup2(each, number)
        os.close(each)


def next_request(folder: Path) -> Request:
    """Fork for clients until there is no owner any more; returns in a program's process alone."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket-new"))
        listener.listen(64)
        os.rename(folder / "socket-new", folder / "socket")
        owners: list[socket.socket] = []
        while True:
            ready, _, _ = select.select([listener, *owners], [], [], None if owners else FIRST_OWNER_SECONDS)
            owners = [each for each in owners if each not in ready]
            if not owners and listener not in ready:
                shutil.rmtree(folder)
                Path(f"{folder}.lock").unlink()
                sys.exit()
            if listener in ready:
                connection, _ = listener.accept()
                if connection.recv(1, socket.MSG_PEEK) == b"o":
                    connection.recv(1)
                    owners.append(connection)
                    continue
                if os.fork() == 0:
                    listener.close()
                    for owner in owners:
                        owner.close()
                    return serve(connection)
                connection.close()


def run(request: Request) -> None:
    """Run the program as the main module of this process."""
    own = os.environ["PYTHONPATH"]
    behind = 1 + len(own.split(":"))
    sys.path[behind:behind] = added_to_path(own, request["environ"]["PYTHONPATH"]) or []
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["cwd"])
    sys.modules["numpy"].random.seed()
    if "PYTHONUNBUFFERED" in os.environ:
        sys.stdout = io.TextIOWrapper(open(1, "wb", 0, closefd=False), write_through=True)  # noqa: SIM115
    path, *arguments = request["argv"]
    if path == "-c":
        text, *arguments = arguments
        name, sys.path[0] = "<string>", ""
    else:
        text, name, sys.path[0] = Path(path).read_text(), path, str(Path(path).resolve().parent)
    sys.argv = [path, *arguments]
    module = types.ModuleType("__main__")
    module.__file__ = name
    sys.modules["__main__"] = module
    exec(compile(text, name, "exec"), module.__dict__)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that answer clients are not waited for
    import sklearn.datasets  # noqa: F401
    import tensorflow as tf

    tf.keras.Model  # noqa: B018 - imported with its first use
    gc.collect()
    gc.freeze()
    run(next_request(Path(sys.argv[1])))


main()
