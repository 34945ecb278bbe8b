"""Exchanges messages between the tasks of a step without a coordinator: a shared folder has one file for each rank.

Rank 0 is the leader. Its file holds its nonce, and then, when every other rank has repeated that nonce, the answer:

    rank 0       {"leader_nonce": nonce}, then {"leader_nonce": nonce, "answer": {...}, "nonces": {rank: nonce}}
    other ranks  {"nonce": nonce, "leader_nonce": "", "message": {...}}, then the same with the leader's nonce

Files that an earlier step left in the same folder are thus ignored: a message is current if it repeats the leader's
nonce, an answer if it repeats the nonce of the rank that reads it. Only the leader reads the files of all ranks.

NFS caches failed lookups, listings and renames for up to a minute (nfs(5), "Data and metadata coherence"), while an
open asks the server. Files are therefore opened by name with O_CREAT, for which a cached failure is not used, and are
written in place. A digest shows whether a file is complete.
"""

import contextlib
import errno
import hashlib
import json
import os
import random
import time
from typing import Any, Callable, Dict, List, Sequence

from slurm_tf import files
from slurm_tf.errors import RegistrationError, SlurmTfError

Message = Dict[str, Any]

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
# How long rank 0 may take to decide and write after its own limit.
_GRACE = 30.0
# How long other ranks may take to read the answer of an earlier exchange of this step, through caches.
_READERS_SECONDS = 60.0
# How long a folder that an earlier exchange removed may still be listed.
_REMOVAL_SECONDS = 60.0
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
# At most this many missing ranks are named in an error.
_NAMED = 20


def exchange(
    path: str, rank: int, tasks: int, message: Message, decide: Callable[[Sequence[Message]], Message], limit: float
) -> Message:
    """Send `message` to rank 0; return its answer to all: `decide` of all messages, in rank order, which it calls.

    `path`: a folder for this step alone; it is made, or must belong to this user. `limit`: seconds that each task waits
    for others. One task raises what `decide` raises, and RegistrationError for missing ranks; to the others
    {"failed": its exit code} is returned. Raises RunError and OSError for a folder that cannot be used.
    """
    if tasks == 1:
        return decide([message])
    rank_files = _RankFiles(path)
    if rank == 0:
        return _lead(rank_files, tasks, message, decide, limit)
    return _follow(rank_files, rank, tasks, message, limit)


class _RankFiles:
    """The files of one exchange, a file for each rank."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.close(self._open(0))

    def read(self, rank: int) -> Message:
        """Return what `rank` last wrote; {} if there is no file, or its content is not complete yet."""
        try:
            handle = os.open(self._name(rank), _FLAGS, 0o600)
            with os.fdopen(handle, "rb") as file:
                digest, _, body = file.read().partition(b"\n")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return {}
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return {}
        message: Message = json.loads(body)
        return message

    def write(self, rank: int, message: Message) -> None:
        """Replace the file of `rank`."""
        body = json.dumps(message, separators=(",", ":")).encode()
        data = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        with os.fdopen(self._open(rank), "r+b") as file:
            file.write(data)
            file.truncate()

    def remove(self, ranks: Sequence[int]) -> None:
        """Remove the files of `ranks`, and if no other rank's is left, the file of rank 0 and the folder.

        A listing from a cache names files that are gone: then the folder is not removed.
        """
        for rank in ranks:
            with contextlib.suppress(OSError):
                os.unlink(self._name(rank))
        with contextlib.suppress(OSError):
            left = os.listdir(self.path)
            if set(left) <= {os.path.basename(self._name(0))}:
                for _ in left:
                    os.unlink(self._name(0))
                os.rmdir(self.path)

    def _open(self, rank: int) -> int:
        """Open the file of `rank`, in a folder that is made if need be. Raises RunError if another user owns that."""
        until = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                files.own_folder(self.path)
                return os.open(self._name(rank), _FLAGS, 0o600)
            except FileNotFoundError:  # the last rank of an earlier exchange has just removed the folder
                if time.monotonic() > until:
                    raise
                time.sleep(_FIRST_PAUSE)

    def _name(self, rank: int) -> str:
        return os.path.join(self.path, f"rank-{rank}.json")


class _Pause:
    """Waits that grow. Reading many files takes at most half of the time: a wait is as long as what came before it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin with short waits again, after a message was received."""
        self._seconds, self._since = _FIRST_PAUSE, time.monotonic()

    def wait(self) -> None:
        """Wait a little longer than last time."""
        spent = time.monotonic() - self._since
        time.sleep(max(spent, random.uniform(0.5, 1.0) * self._seconds))
        self._seconds = min(_LONGEST_PAUSE, 1.5 * self._seconds)
        self._since = time.monotonic()


def _lead(
    rank_files: _RankFiles, tasks: int, message: Message, decide: Callable[[Sequence[Message]], Message], limit: float
) -> Message:
    deadline = time.monotonic() + limit
    _wait_for_readers(rank_files)
    nonce = _nonce()
    received = _receive(rank_files, nonce, tasks, deadline)
    missing = [rank for rank in range(1, tasks) if rank not in received]
    content = {"leader_nonce": nonce, "nonces": {str(rank): each["nonce"] for rank, each in received.items()}}
    try:
        if missing:
            raise _not_all(rank_files.path, missing, tasks, limit)
        answer = decide([message, *(received[rank]["message"] for rank in range(1, tasks))])
    except SlurmTfError as error:
        rank_files.write(0, {**content, "answer": {"failed": error.exit_code}})
        rank_files.remove(missing)
        raise
    rank_files.write(0, {**content, "answer": answer})
    return answer


def _receive(rank_files: _RankFiles, nonce: str, tasks: int, deadline: float) -> Dict[int, Message]:
    """Return the content of each rank's file that repeats `nonce` by `deadline`."""
    received: Dict[int, Message] = {}
    pause = _Pause()
    while True:
        # not written yet, or removed by a rank that read the answer of an earlier exchange
        if rank_files.read(0).get("leader_nonce") != nonce:
            rank_files.write(0, {"leader_nonce": nonce})
        for rank in set(range(1, tasks)) - set(received):
            content = rank_files.read(rank)
            if content.get("leader_nonce") == nonce:
                received[rank] = content
                pause.reset()
        if len(received) == tasks - 1 or time.monotonic() > deadline:
            return received
        pause.wait()


def _wait_for_readers(rank_files: _RankFiles) -> None:
    """Wait, a minute at most, until all ranks have read the answer of an earlier exchange, which is replaced then."""
    readers = dict(rank_files.read(0).get("nonces", {}))
    until = time.monotonic() + _READERS_SECONDS
    pause = _Pause()
    while readers and time.monotonic() < until:
        readers = {rank: nonce for rank, nonce in readers.items() if rank_files.read(int(rank)).get("nonce") == nonce}
        pause.wait()


def _follow(rank_files: _RankFiles, rank: int, tasks: int, message: Message, limit: float) -> Message:
    deadline = time.monotonic() + limit
    content = {"nonce": _nonce(), "leader_nonce": "", "message": message}
    rank_files.write(rank, content)
    pause = _Pause()
    while True:
        leader = rank_files.read(0)
        if leader.get("nonces", {}).get(str(rank)) == content["nonce"]:
            rank_files.remove([rank])
            answer: Message = leader["answer"]
            return answer
        if leader and "answer" not in leader and leader["leader_nonce"] != content["leader_nonce"]:
            content["leader_nonce"] = leader["leader_nonce"]
            rank_files.write(rank, content)
            # rank 0 may have started late, and now waits for the others for `limit` itself
            deadline = time.monotonic() + limit + _GRACE
            pause.reset()
        if time.monotonic() > deadline:
            return _give_up(rank_files, rank, content, tasks, limit)
        pause.wait()


def _give_up(rank_files: _RankFiles, rank: int, content: Message, tasks: int, limit: float) -> Message:
    """Give up after no answer of rank 0: the lowest rank present raises, the last one to give up removes the folder."""
    rank_files.write(rank, {**content, "gone": True})
    read = {other: rank_files.read(other) for other in range(tasks)}
    present = {other: each for other, each in read.items() if each}
    if all(each.get("gone") for each in present.values()):
        rank_files.remove(list(read))
    error = _not_all(rank_files.path, sorted(set(read) - set(present)) or [0], tasks, limit)
    if rank != min(present):
        return {"failed": error.exit_code}
    raise error


def _not_all(path: str, missing: List[int], tasks: int, limit: float) -> RegistrationError:
    ranks = ", ".join(map(str, missing[:_NAMED])) + (" ..." if len(missing) > _NAMED else "")
    return RegistrationError(
        f"{tasks - len(missing)}/{tasks} tasks met in {path} in {limit:.0f} s; missing: rank {ranks}",
        "every task of the step there",
        "see what they printed; the folder must be one that all nodes share (--exchange, SLURM_TF_EXCHANGE)",
        [str(rank) for rank in missing],
    )


def _nonce() -> str:
    return os.urandom(16).hex()
