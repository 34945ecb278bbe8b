"""Runs a command on one host of the sandbox: `python -c ENTER PID UID GID CWD COMMAND...`, with ENTER of cluster.py.

PID is the id of the host's pid 1 on this machine. This process forwards signals to the command, and ends as the
command does: with its exit code, or by the same signal. If this process is killed, the kernel kills the command.
"""

import os
import signal
import sys

from tests.sandbox import libc

FORWARDED = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
    signal.SIGWINCH,
}  # fmt: skip
FROM_KERNEL = 0x80  # si_code of signals from a terminal, which sends them to the command as well


def exec_command(argv: list[str], uid: int, gid: int, cwd: str) -> None:
    """Replace this process by the command, as the given user."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc.die_with_parent()  # after the change of user, which resets it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED | {signal.SIGCHLD})
    for number in (signal.SIGPIPE, signal.SIGINT):  # Python ignores SIGPIPE; a background job of a shell, SIGINT
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(cwd)
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        print(f"{argv[0]}: {error.strerror} (in {cwd})", file=sys.stderr)
        os._exit(127)


def forward_signals(child: int) -> int:
    """Forward signals to the command until it ends; return its wait status."""
    while True:
        received = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
        if received.si_signo != signal.SIGCHLD:
            if received.si_code != FROM_KERNEL:
                os.kill(child, received.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status


def main() -> None:
    pid, uid, gid = (int(number) for number in sys.argv[1:4])
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    host = os.pidfd_open(pid)
    libc.call(
        "setns", host,
        libc.NEWNS | libc.NEWCGROUP | libc.NEWUTS | libc.NEWIPC | libc.NEWPID | libc.NEWNET,
    )  # fmt: skip
    child = os.fork()
    if child == 0:
        exec_command(sys.argv[5:], uid, gid, sys.argv[4])
    status = forward_signals(child)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {os.WTERMSIG(status)})
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
