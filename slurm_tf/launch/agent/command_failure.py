"""Explains why a command cannot be executed, from the error of execve(2) and the files that it was looked for in."""

import contextlib
import errno
import os
from typing import Mapping, Optional, Sequence

# Of execve(2): these come again at the next try; no memory, no process or no file descriptor to spare may not.
_PERMANENT = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENOEXEC,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ELIBBAD,
)
_FIRST_LINE = 256  # linux/binfmts.h: BINPRM_BUF_SIZE


def exit_code(error: OSError) -> int:
    """Return a shell's exit code: 127 for a command that is not there, 126 for one that cannot be executed."""
    return 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126


def explain(command: str, environ: Mapping[str, str], error: OSError) -> Optional[str]:
    """Return why `command` cannot be started, in words; None for an error that need not come again.

    `environ`: the program's, whose PATH is searched.
    """
    if error.errno not in _PERMANENT:
        return None
    searched = [] if os.path.dirname(command) else os.get_exec_path(dict(environ))
    candidates = [os.path.join(folder, command) for folder in searched] or [command]
    found = [path for path in candidates if os.path.lexists(path)]
    reason = f"{found[0]}: {_problem(found[0], error)}" if found else f"{command}: {error.strerror}"
    return f"cannot start {command!r} ({reason}){_where(command, searched)}"


def _problem(path: str, error: OSError) -> str:
    """Return what is wrong with a file that is there, or with the interpreter that it names."""
    if not os.path.exists(path):
        return "a symbolic link to a file that does not exist"
    if os.path.isdir(path):
        return "a directory"
    if not os.access(path, os.X_OK):
        return "Permission denied"
    interpreter = _interpreter(path)
    if error.errno == errno.ENOENT:
        return f"its interpreter {interpreter or 'or loader'} does not exist"
    if error.errno == errno.EACCES and interpreter:
        return f"its interpreter {interpreter} cannot be executed: {error.strerror}"
    if error.errno == errno.ENOEXEC:
        return f"{error.strerror}: no program for {os.uname().machine} and no script with a #! line"
    return str(error.strerror)


def _interpreter(path: str) -> str:
    """Return the interpreter of a script, quoted, as a stray carriage return is part of it; "" if there is none."""
    first = b""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        first = file.read(_FIRST_LINE).partition(b"\n")[0]
    words = first[2:].split(b" ") if first.startswith(b"#!") else []
    name = next((word for word in words if word), b"")
    return repr(name.decode("utf-8", "replace")) if name else ""


def _where(command: str, searched: Sequence[str]) -> str:
    """Return where the command was looked for, unless it is an absolute path."""
    if searched:
        return f"; searched PATH={os.pathsep.join(searched)}"
    if os.path.isabs(command):
        return ""
    try:
        return f" in {os.getcwd()}"
    except OSError as error:
        return f"; the working directory cannot be used: {error.strerror}"
