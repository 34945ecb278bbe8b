"""Reads and writes the record of a run's attempts: attempts.json in its folder, written by the coordinator of each.

An attempt is one incarnation of a job. One that was killed, or whose node died, has no end here; it has a cause if
that was decided before.
"""

import time
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Callable, List, Mapping, Optional, Sequence, Set, Tuple

from slurm_tf.errors import ProgressError
from slurm_tf.run import json_file, lease
from slurm_tf.run.folder import RunFolder

# Reason of an attempt whose end was not recorded.
KILLED = "was killed, or its node died"
# How many attempts are kept.
_KEPT = 1000


class EndCause(str, Enum):
    """Why an attempt ended.

    NONE: by itself, or it has not ended. CANCEL, PREEMPTION, TIMEOUT and UNKNOWN (Slurm did not say): by a signal, see
    launch/decide/termination.py. RETRY, FAILURE: badly, and another attempt follows; it was no fault of the program, or
    it was (launch/decide/retry.py).
    """

    NONE = ""
    CANCEL = "cancel"
    PREEMPTION = "preemption"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"
    RETRY = "retry"
    FAILURE = "failure"

    @property
    def is_interruption(self) -> bool:
        """Whether Slurm ends a job that has more to do, and that is to go on in another attempt."""
        return self in (EndCause.PREEMPTION, EndCause.TIMEOUT)

    @property
    def goes_on(self) -> bool:
        """Whether another attempt may follow."""
        return self not in (EndCause.NONE, EndCause.CANCEL)


@dataclass(frozen=True)
class Attempt:
    """One attempt. Times are seconds since the epoch; `first` and `last` are steps of checkpoints that it committed.

    `cause`: why it was ended, or why the run goes on after it; NONE if it ended by itself. `is_last`: the run does not
    go on after it, whatever the cause. `speaks`: its program told of its checkpoints. `began`: when its first step was
    done, `saved`: when its last checkpoint was committed. `tensorflow`: the version of each role, where it is known.
    `only_staged`: it ended while files were staged, before its programs started.
    """

    id: str
    job: str
    started: float
    ended: Optional[float] = None
    cause: EndCause = EndCause.NONE
    code: Optional[int] = None
    reason: str = ""
    first: Optional[int] = None
    last: Optional[int] = None
    speaks: bool = False
    began: Optional[float] = None
    saved: Optional[float] = None
    is_last: bool = False
    tensorflow: Mapping[str, str] = field(default_factory=dict)
    only_staged: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether the run may go on after it: also if its end was not recorded, unless it was being cancelled."""
        if self.is_last:
            return False
        return self.cause.goes_on or (self.ended is None and self.cause is EndCause.NONE)


@dataclass(frozen=True)
class _Attempts:
    """attempts.json, oldest attempt first."""

    attempts: Tuple[Attempt, ...]


def count_fruitless(attempts: Sequence[Attempt], jobs: Set[str]) -> int:
    """Return how many attempts, up to the last one, have in a row committed no checkpoint of a new step.

    `jobs`: the last one's job and those that it follows; another job is a new beginning, as is an end after which the
    run does not go on. An interrupted program that never tells of checkpoints may have written some, if it had started
    before the time was over.
    """
    speaks = any(each.speaks for each in attempts)
    count, newest = 0, -1
    for each in attempts:
        last = -1 if each.last is None else each.last
        if each.job not in jobs or last > newest or not each.may_go_on:
            count = 0
        elif speaks or each.cause in (EndCause.RETRY, EndCause.FAILURE) or _is_too_short(each):
            count += 1
        newest = max(newest, last)
    return count


def _is_too_short(attempt: Attempt) -> bool:
    """Whether its time was over while files were staged."""
    return attempt.only_staged and attempt.cause is EndCause.TIMEOUT


def check(attempts: Sequence[Attempt], jobs: Set[str], most: int) -> None:
    """Raise ProgressError if `most` attempts in a row committed no new checkpoint."""
    count = count_fruitless(attempts, jobs)
    if count >= most:
        ends = [each.reason or KILLED for each in attempts[-count:]]
        raise ProgressError(
            f"{count} attempts in a row committed no new checkpoint; the last one: {ends[-1]}",
            "a checkpoint in each",
            "shorten checkpoint.every, or ask for more time; retry.fruitless says how many such attempts may be",
        )


def read(folder: RunFolder) -> List[Attempt]:
    """Return all attempts, oldest first. Raises RunError or OSError."""
    try:
        return list(json_file.read(folder.attempts, _Attempts).attempts)
    except FileNotFoundError:
        return []


def write(folder: RunFolder, attempts: Sequence[Attempt]) -> None:
    """Write the attempts of a run, oldest first; of very many the last ones. Raises OSError."""
    json_file.write(folder.attempts, _Attempts(tuple(attempts[-_KEPT:])))


def tensorflow_before(former: Sequence[Attempt], role: str) -> str:
    """Return the TensorFlow that a role had last in these attempts, "" if none is known."""
    return next((each.tensorflow[role] for each in reversed(former) if role in each.tensorflow), "")


class AttemptRecorder:
    """Records the attempt that runs in attempts.json, after those before it."""

    def __init__(self, folder: RunFolder, name: str, job: str, say: Callable[[str], None]) -> None:
        """`name`: of the attempt; `say` prints that the file cannot be written. Raises RunError or OSError."""
        self._folder, self._say, self._failed = folder, say, False
        self.former = [each for each in read(folder) if each.id != name]
        self.attempt = Attempt(name, job, time.time())
        self._write()

    @property
    def all(self) -> List[Attempt]:
        """All attempts, this one last."""
        return [*self.former, self.attempt]

    @property
    def speaks(self) -> bool:
        """Whether the run's program tells of its checkpoints."""
        return any(each.speaks for each in self.all)

    @property
    def has_new_checkpoint(self) -> bool:
        """Whether this attempt committed a step that none before it had."""
        former = max((each.last for each in self.former if each.last is not None), default=-1)
        return self.attempt.last is not None and self.attempt.last > former

    def tells_of_checkpoints(self) -> None:
        """Record that the program tells of its checkpoints."""
        if not self.attempt.speaks:
            self.attempt = replace(self.attempt, speaks=True)
            self._write()

    def uses_tensorflow(self, role: str, version: str) -> None:
        """Record the TensorFlow of a role, and say so if an attempt before this one had another."""
        if self.attempt.tensorflow.get(role) == version:
            return
        self.attempt = replace(self.attempt, tensorflow={**self.attempt.tensorflow, role: version})
        self._write()
        before = tensorflow_before(self.former, role)
        if before not in ("", version):
            self._say(f"{role} goes on under TensorFlow {version}; it was {before} before")

    def trains(self) -> None:
        """Record that a step is done."""
        if self.attempt.began is None:
            self.attempt = replace(self.attempt, began=time.time())
            self._write()

    def committed(self, step: int) -> None:
        """Record that the checkpoint of `step` is on storage."""
        first = step if self.attempt.first is None else self.attempt.first
        self.attempt = replace(self.attempt, speaks=True, first=first, last=step, saved=time.time())
        self._write()

    def only_stages(self) -> None:
        """Record that the attempt is about to end while files are staged, before its programs started."""
        self.attempt = replace(self.attempt, only_staged=True)
        self._write()

    def decided(self, cause: EndCause, reason: str) -> None:
        """Record why the attempt is about to end: Slurm may kill the coordinator before its end is known."""
        if (self.attempt.cause, self.attempt.reason) != (cause, reason):
            self.attempt = replace(self.attempt, cause=cause, reason=reason)
            self._write()

    def ended(self, cause: EndCause, code: int, reason: str, is_last: bool = False) -> None:
        """Record the end of the attempt; `is_last`: the run does not go on after it."""
        self.attempt = replace(self.attempt, ended=time.time(), cause=cause, code=code, reason=reason, is_last=is_last)
        self._write()

    def _write(self) -> None:
        """Write the file, unless another attempt adds to it by now. Training goes on where that fails: a full disk."""
        if lease.is_taken_over(self._folder, self.attempt.id):
            return
        try:
            write(self._folder, self.all)
        except OSError as error:
            if not self._failed:
                self._say(f"cannot write {self._folder.attempts}: {error.strerror}")
            self._failed = True
