"""Imports modules, then forks a process for each program that is asked for: `python server.py FOLDER tensorflow`.

`tensorflow`: for the programs of client.py; it starts its threads with the first operation, so a process that only
imported it can be forked. `slurm_tf`: for the commands of tests/forkserver/command_line.py. The server ends, and
removes FOLDER, when the last of its owners has closed its connection.
"""

import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import struct
import sys
import time
import types
from pathlib import Path
from typing import Any

from tests.sandbox import libc

# Read by TensorFlow and Python while they are imported or started.
IMPORT_TIME = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "TF_USE_LEGACY_KERAS", "KERAS_BACKEND")
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
# of slurm_tf: what its commands import
COMMANDS = ("cli", "jobspec", "submit", "slurm", "run", "watch", "account", "plots")
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
    read_by_tensorflow = IMPORT_TIME if "tensorflow" in sys.modules else ()
    if added is None or any(environ.get(name) != os.environ.get(name) for name in read_by_tensorflow):
        names = ("PYTHONPATH", *IMPORT_TIME)
        print({name: environ.get(name) for name in names}, request["argv"], file=sys.stderr, flush=True)
        connection.sendall(b"n")
        os._exit(0)
    host = request.get("host")
    namespaces = 0
    if host:
        namespaces = os.pidfd_open(host["pid"])
        libc.call("setns", namespaces, libc.NEWPID)  # of the processes that this one starts
    pid = os.fork()
    if pid == 0:
        if host:
            enter(namespaces, host["uid"], host["gid"])
        libc.die_with_parent()  # after the change of user, which resets it
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


def enter(namespaces: int, uid: int, gid: int) -> None:
    """Move this process to a host of a sandbox, as a user of it."""
    libc.call("setns", namespaces, libc.NEWNS | libc.NEWCGROUP | libc.NEWUTS | libc.NEWIPC | libc.NEWNET)
    os.close(namespaces)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # else its files in /proc are root's, which those of a process that was started by exec are not
    libc.call("prctl", PR_SET_DUMPABLE, 1)


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
    time.tzset()  # TZ may be another
    os.chdir(request["cwd"])
    if "numpy.random" in sys.modules:  # numpy imports it when it is first used
        sys.modules["numpy.random"].seed()
    if sys.argv[2] == "tensorflow":
        sys.executable = str(Path(sys.argv[1]) / "python")  # of programs that it starts in its turn
    if "PYTHONUNBUFFERED" in os.environ:
        sys.stdout = io.TextIOWrapper(open(1, "wb", 0, closefd=False), write_through=True)  # noqa: SIM115
    path, *arguments = request["argv"]
    if path == "-m":
        sys.argv[1:], sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
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


def import_tensorflow() -> None:
    """Import what the programs of tests import."""
    import sklearn.datasets  # noqa: F401
    import tensorflow as tf

    tf.keras.Model  # noqa: B018 - imported with its first use


def import_slurm_tf() -> None:
    """Import what slurm-tf's commands import when they are needed."""
    for room in COMMANDS:
        package = importlib.import_module(f"slurm_tf.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name != "slurm_tf.slurm.pyslurm_client":
                importlib.import_module(module.name)
    for name in ("importlib.metadata", "jinja2", "rich.console", "rich.table"):
        importlib.import_module(name)


IMPORTS = {"tensorflow": import_tensorflow, "slurm_tf": import_slurm_tf}


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that answer clients are not waited for
    IMPORTS[sys.argv[2]]()
    gc.collect()
    gc.freeze()
    run(next_request(Path(sys.argv[1])))


main()
