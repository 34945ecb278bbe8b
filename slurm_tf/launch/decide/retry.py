"""Decides whether a run goes on after an attempt failed. No I/O.

| exit code                         | the run goes on                                                              |
|-----------------------------------|--------------------------------------------------------------------------|
| `retry.permanent`                 | never                                                                    |
| `retry.retryable`, a task is lost | always                                                                   |
| any other                         | `retry.unknown` times, if the attempt has committed a new checkpoint:    |
|                                   | a program that fails before its first one fails again                    |

In each case `retry.fruitless` attempts in a row without a new checkpoint end the run.
"""

from dataclasses import dataclass, replace
from typing import Set

from slurm_tf.run.attempts import AttemptRecorder, EndCause, check
from slurm_tf.run.settings import RetrySettings

_MAX_WAIT = 3600.0


@dataclass(frozen=True)
class Retry:
    """Whether and when a run goes on. `cause`: why, NONE if it does not; `wait`: seconds until it does."""

    cause: EndCause = EndCause.NONE
    wait: float = 0.0


def decide(settings: RetrySettings, code: int, lost: bool, record: AttemptRecorder, jobs: Set[str]) -> Retry:
    """Return whether the run goes on after an attempt that ended with `code`; `lost`: a task's node or agent is lost.

    `jobs`: this job and those that it follows. Raises ProgressError.
    """
    former = [each for each in record.former if each.job in jobs]
    failures = sum(each.cause is EndCause.FAILURE for each in former)
    cause = EndCause.RETRY if lost or code in settings.retryable else EndCause.FAILURE
    if cause is EndCause.FAILURE and code in settings.permanent:
        return Retry()
    if cause is EndCause.FAILURE and not (record.has_new_checkpoint and failures < settings.unknown):
        return Retry()
    attempt = replace(record.attempt, cause=cause, ended=record.attempt.started, reason=f"exit code {code}")
    check([*record.former, attempt], jobs, settings.fruitless)
    retries = sum(each.cause in (EndCause.RETRY, EndCause.FAILURE) for each in former)
    return Retry(cause, min(settings.wait * 2**retries, _MAX_WAIT))
