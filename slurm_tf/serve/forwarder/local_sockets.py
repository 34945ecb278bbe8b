"""The sockets on which the forwarder listens: in a private folder of this user, or on a port of 127.0.0.1."""

import contextlib
import os
import socket
import tempfile

from slurm_tf import files
from slurm_tf.errors import UsageError

LOOPBACK = "127.0.0.1"
_BACKLOG = 1024
# sun_path of unix(7), with its last zero.
_LONGEST = 107


def folder() -> str:
    """Return the private folder of this user's sockets on this machine; it is made. Raises RunError or OSError."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return files.own_folder(os.path.join(runtime, "slurm-tf"))
    return files.own_folder(os.path.join(tempfile.gettempdir(), f"slurm-tf-{os.getuid()}"))


def free_path(path: str) -> str:
    """Return the path of a socket, which is free then: what an ended forwarder left is removed. Raises UsageError."""
    if len(os.fsencode(path)) > _LONGEST:
        raise UsageError(f"found the path of a socket {path}", f"at most {_LONGEST} bytes", "--socket PATH")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as asked:
        try:
            asked.connect(path)
        except FileNotFoundError:
            return path
        except ConnectionRefusedError:
            os.unlink(path)
            return path
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", "a socket, or no file", "--socket PATH") from error
    raise UsageError(f"a program answers on {path} already", "one forwarder for each service", "--socket PATH")


def listen_unix(path: str) -> socket.socket:
    """Return a socket at `path` that listens, with mode 0600. Raises UsageError or OSError."""
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        made.bind(free_path(path))
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def listen_tcp(port: int) -> socket.socket:
    """Return a socket on a port of 127.0.0.1 that listens. Raises UsageError where another program has it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((LOOPBACK, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise UsageError(f"port {port} of {LOOPBACK}: {error.strerror}", "a free port", "--port 0") from error
    return made
