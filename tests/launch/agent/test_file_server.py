"""A program whose files come from the process that the agent has started: signals are for the program alone."""

import selectors
import signal
import socket
import time
from pathlib import Path

from slurm_tf.launch.agent.child import Child, Output
from slurm_tf.launch.agent.program_place import Leader

# as ch-run 0.31 runs a squashfs: it waits for the program, and any signal ends it
SERVER = ["bash", "-c", '"$@" & wait $!', "server"]
PROGRAM = "trap 'echo saves' USR1; trap 'sleep 0.2; echo ends; exit 3' TERM; echo up; while true; do sleep 0.05; done"


def read_until(word: str, child: Child, selector: selectors.BaseSelector, log: Path) -> None:
    until = time.monotonic() + 30
    while word not in log.read_text().split():
        assert time.monotonic() < until, log.read_text()
        for key, _ in selector.select(1.0):
            assert isinstance(key.data, Output)
            child.pump(key.data)


def test_signals_reach_the_program_and_not_its_files(tmp_path: Path) -> None:
    log, selector = tmp_path / "log", selectors.DefaultSelector()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command, environ = [*SERVER, "bash", "-c", PROGRAM], {"PATH": "/usr/bin:/bin"}
        child = Child(command, environ, str(log), "worker:0", selector, theirs, False, Leader.FILE_SERVER)
    read_until("up", child, selector, log)
    child.signal(signal.SIGUSR1)
    read_until("saves", child, selector, log)
    child.end(60.0)
    read_until("ends", child, selector, log)
    until = time.monotonic() + 30
    while (code := child.reap()) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert code == 3
