"""Tests the shared folder from one node: whether it is the one of the login node, and how fast it is."""

import contextlib
import os
import time

from slurm_tf import files
from slurm_tf.launch.nodes import probe
from slurm_tf.run import examination
from slurm_tf.run.examination import SharedFolderFacts

_BYTES = 8 << 20
_FILES = 100
# No measurement takes longer.
_SECONDS = 5.0
# What the login node wrote before it submitted the job is to be seen within this time.
_LOOK_SECONDS = 5.0


def describe(folder: str, node: str, token: str) -> SharedFolderFacts:
    """Return what the folder of the examination is on this node. Leaves the node's own file there, for others."""
    own, login = examination.own_file(folder, node), examination.own_file(folder, examination.LOGIN)
    try:
        files.write_whole(own, token.encode())
        status = os.stat(own)
        sees_login = not probe.unseen({examination.LOGIN: (login, token)}, _LOOK_SECONDS)
        path = os.path.join(folder, f"speed-{node}")
        return SharedFolderFacts("", sees_login, status.st_uid, os.stat(folder).st_ino, _write(path), _metadata(path))
    except OSError as error:
        return SharedFolderFacts(f"{error.filename or folder}: {error.strerror or error}")


def _write(path: str) -> float:
    """Return the bytes per second that are written to a new file, with fsync."""
    chunk, written = os.urandom(1 << 20), 0  # a file system may compress, or leave out zeros
    start = time.perf_counter()
    try:
        with open(path, "wb") as file:
            while written < _BYTES and time.perf_counter() - start < _SECONDS:
                written += file.write(chunk)
                file.flush()
            os.fsync(file.fileno())
        return written / max(time.perf_counter() - start, 1e-6)
    finally:
        _remove(path)


def _metadata(path: str) -> float:
    """Return how many empty files are made, looked up and removed in a second."""
    count, start = 0, time.perf_counter()
    while count < _FILES and time.perf_counter() - start < _SECONDS:
        name = f"{path}-{count}"
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            os.stat(name)
        finally:
            _remove(name)
        count += 1
    return count / max(time.perf_counter() - start, 1e-6)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
