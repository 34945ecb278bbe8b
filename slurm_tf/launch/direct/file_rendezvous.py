"""Where the tasks of a step meet without a coordinator: a folder that all their nodes see, one file a rank.

Rank 0 leads. Its file holds a call, then, when every other rank has answered that call, what all are told:

    rank 0       {"call": nonce}                          then {"call": nonce, "told": {...}, "nonces": {rank: nonce}}
    other ranks  {"nonce": own, "call": "", "word": {...}}  then the same with the call that was read

So whatever an earlier step left under the same key is never taken for an answer: a report is of now if it repeats the
call, what is told is for us if it repeats our nonce. All reports are read by one task, not by each.

NFS: names that were looked up in vain, listings and renames are cached for up to a minute (nfs(5), "Data and metadata
coherence"); opening asks the server. So files are opened by name with O_CREAT, which no cached "not there" answers, and
are written in place. A digest tells a whole file from one that is half written or half seen.
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
# How long rank 0 may take to notice, decide and write after its own limit.
_GRACE = 30.0
# How long readers of what an earlier exchange of this step told may take to see it, through caches.
_READERS_SECONDS = 60.0
# How long a folder that an earlier exchange removes may seem to be there.
_REMOVAL_SECONDS = 60.0
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
_NAMED = 20


def meet(
    path: str, rank: int, tasks: int, word: Message, decide: Callable[[Sequence[Message]], Message], limit: float
) -> Message:
    """Say `word`, and return what rank 0 tells all: `decide` of all words, in rank order, called by rank 0 alone.

    `path`: a folder for this step alone, made or checked to be ours. `limit`: seconds that each waits for others. What
    `decide` raises, and RegistrationError for ranks that do not come, one task raises; the others are returned
    {"failed": its exit code}. Raises RunError and OSError for a folder that cannot be used.
    """
    if tasks == 1:
        return decide([word])
    table = _Table(path)
    return _lead(table, tasks, word, decide, limit) if rank == 0 else _follow(table, rank, tasks, word, limit)


class _Table:
    """The files of one exchange."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.close(self._open(0))

    def read(self, rank: int) -> Message:
        """Return what `rank` last wrote; {} if that is nothing, or not yet to be seen whole."""
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
        """Replace what `rank` wrote."""
        body = json.dumps(message, separators=(",", ":")).encode()
        data = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        with os.fdopen(self._open(rank), "r+b") as file:
            file.write(data)
            file.truncate()

    def leave(self, ranks: Sequence[int]) -> None:
        """Remove the files of `ranks`; the last one to leave removes what rank 0 told and the folder.

        A listing that is not of now names files that are gone, and then nothing is removed.
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
        """Open a file in a folder that is there and ours."""
        until = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                files.own_folder(self.path)
                return os.open(self._name(rank), _FLAGS, 0o600)
            except FileNotFoundError:  # the last of an earlier exchange has just removed the folder
                if time.monotonic() > until:
                    raise
                time.sleep(_FIRST_PAUSE)

    def _name(self, rank: int) -> str:
        return os.path.join(self.path, f"rank-{rank}.json")


class _Pause:
    """Waits that grow; a sweep over many files takes no more than half of the time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin with short waits again: something came."""
        self._seconds, self._since = _FIRST_PAUSE, time.monotonic()

    def wait(self) -> None:
        """Wait a little longer than last time."""
        spent = time.monotonic() - self._since
        time.sleep(max(spent, random.uniform(0.5, 1.0) * self._seconds))
        self._seconds = min(_LONGEST_PAUSE, 1.5 * self._seconds)
        self._since = time.monotonic()


def _lead(
    table: _Table, tasks: int, word: Message, decide: Callable[[Sequence[Message]], Message], limit: float
) -> Message:
    deadline = time.monotonic() + limit
    _let_readers_go(table)
    call = _nonce()
    came = _gather(table, call, tasks, deadline)
    missing = [rank for rank in range(1, tasks) if rank not in came]
    board = {"call": call, "nonces": {str(rank): message["nonce"] for rank, message in came.items()}}
    try:
        if missing:
            raise _not_all(table.path, missing, tasks, limit)
        told = decide([word, *(came[rank]["word"] for rank in range(1, tasks))])
    except SlurmTfError as error:
        table.write(0, {**board, "told": {"failed": error.exit_code}})
        table.leave(missing)
        raise
    table.write(0, {**board, "told": told})
    return told


def _gather(table: _Table, call: str, tasks: int, deadline: float) -> Dict[int, Message]:
    """Return the messages that repeat `call`, of those who came by `deadline`."""
    came: Dict[int, Message] = {}
    pause = _Pause()
    while True:
        if table.read(0).get("call") != call:  # new, or removed together with what an earlier exchange told
            table.write(0, {"call": call})
        for rank in set(range(1, tasks)) - set(came):
            message = table.read(rank)
            if message.get("call") == call:
                came[rank] = message
                pause.reset()
        if len(came) == tasks - 1 or time.monotonic() > deadline:
            return came
        pause.wait()


def _let_readers_go(table: _Table) -> None:
    """Wait, not for long, until nobody needs what an earlier exchange of this step told: it will be written over."""
    readers = dict(table.read(0).get("nonces", {}))
    until = time.monotonic() + _READERS_SECONDS
    pause = _Pause()
    while readers and time.monotonic() < until:
        readers = {rank: nonce for rank, nonce in readers.items() if table.read(int(rank)).get("nonce") == nonce}
        pause.wait()


def _follow(table: _Table, rank: int, tasks: int, word: Message, limit: float) -> Message:
    deadline = time.monotonic() + limit
    mine = {"nonce": _nonce(), "call": "", "word": word}
    table.write(rank, mine)
    pause = _Pause()
    while True:
        board = table.read(0)
        if board.get("nonces", {}).get(str(rank)) == mine["nonce"]:
            table.leave([rank])
            told: Message = board["told"]
            return told
        if board and "told" not in board and board["call"] != mine["call"]:
            mine["call"] = board["call"]
            table.write(rank, mine)
            # rank 0 may have come late, and waits for the others as long as we did for it
            deadline = time.monotonic() + limit + _GRACE
            pause.reset()
        if time.monotonic() > deadline:
            return _give_up(table, rank, mine, tasks, limit)
        pause.wait()


def _give_up(table: _Table, rank: int, mine: Message, tasks: int, limit: float) -> Message:
    """Nobody led: the lowest rank that came says who is missing, the last one to give up removes the folder."""
    table.write(rank, {**mine, "gone": True})
    found = {other: table.read(other) for other in range(tasks)}
    came = {other: message for other, message in found.items() if message}
    if all(message.get("gone") for message in came.values()):
        table.leave(list(found))
    error = _not_all(table.path, sorted(set(found) - set(came)) or [0], tasks, limit)
    if rank != min(came):
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
