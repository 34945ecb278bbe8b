"""Has server.py, which has imported TensorFlow, run `python PROGRAM ...` or `python -c TEXT ...` for this process.

The program has this process' variables, folder and open files; it gets its signals, and its end becomes this process'
own. All else (`python -m ...`, variables that the server's TensorFlow was not imported with) is run by the real Python.
"""

import json
import os
import select
import signal
import socket
import struct
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run_real_python() -> None:
    """Become the real Python."""
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606


def open_descriptors() -> "list[int]":
    """Return the files that this process was started with."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # that of listdir itself
            continue
        found.append(int(name))
    return found


def request(server: socket.socket, descriptors: "list[int]") -> bool:
    """Ask for the program; return whether the server runs it."""
    text = json.dumps(
        {"argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd(), "descriptors": descriptors}
    ).encode()
    socket.send_fds(server, [b"r" + struct.pack("!I", len(text))], descriptors)
    server.sendall(text)
    return server.recv(1) == b"y"


def wait(server: socket.socket, wakeup: socket.socket) -> int:
    """Pass signals on until the program ends; return its exit code, a negative number for a signal."""
    while True:
        ready, _, _ = select.select([server, wakeup], [], [])
        if wakeup in ready:
            server.sendall(wakeup.recv(64))
        if server in ready:
            answer = server.recv(4)
            return struct.unpack("!i", answer)[0] if len(answer) == 4 else -signal.SIGKILL


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "-c"):
        run_real_python()
    descriptors = open_descriptors()
    # before the program can have said that it waits for a signal
    wakeup, sink = socket.socketpair()
    sink.setblocking(False)
    signal.set_wakeup_fd(sink.fileno())
    for number in FORWARDED:
        signal.signal(number, lambda *_: None)
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.path.join(os.path.dirname(os.path.realpath(__file__)), "socket"))
    if not request(server, descriptors):
        run_real_python()
    server.sendall(b"\0")  # signals are passed on from now on
    code = wait(server, wakeup)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code in FORWARDED else None
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
