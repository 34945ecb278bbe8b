"""Run a command on one host of the sandbox: `python -c ENTER PID UID GID CWD COMMAND...`, ENTER of cluster.py.

PID is that of the host's pid 1. Signals sent to this process go on to the command, and the command's end becomes its
own. The command does not outlive it.
"""

import os
import signal
import sys

from tests.sandbox import calls

FORWARDED = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
    signal.SIGWINCH,
}  # fmt: skip
FROM_KERNEL = 0x80  # si_code of what a terminal sends, and it sends that to the command as well


def run(argv: list[str], uid: int, gid: int, cwd: str) -> None:
    """Become the command, as that user."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    calls.die_with_parent()  # after the change of user, which forgets it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED | {signal.SIGCHLD})
    for number in (signal.SIGPIPE, signal.SIGINT):  # Python ignores the first, a shell's background job the second
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(cwd)
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        print(f"{argv[0]}: {error.strerror} (in {cwd})", file=sys.stderr)
        os._exit(127)


def watch(child: int) -> int:
    """Pass signals on until the command ends; return how it ended, as waitpid says it."""
    while True:
        told = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
        if told.si_signo != signal.SIGCHLD:
            if told.si_code != FROM_KERNEL:
                os.kill(child, told.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status


def main() -> None:
    pid, uid, gid = (int(number) for number in sys.argv[1:4])
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    host = os.pidfd_open(pid)
    calls.call(
        "setns", host,
        calls.NEWNS | calls.NEWCGROUP | calls.NEWUTS | calls.NEWIPC | calls.NEWPID | calls.NEWNET,
    )  # fmt: skip
    child = os.fork()
    if child == 0:
        run(sys.argv[5:], uid, gid, sys.argv[4])
    status = watch(child)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {os.WTERMSIG(status)})
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
