"""Whether a run goes on after a bad end. No I/O.

| exit code                         | it goes on                                                               |
|-----------------------------------|--------------------------------------------------------------------------|
| `retry.permanent`                 | never                                                                    |
| `retry.retryable`, a task is lost | always                                                                   |
| any other                         | `retry.unknown` times, if the attempt has committed a new checkpoint:    |
|                                   | a program that fails before its first one fails again                    |

In each case `retry.fruitless` attempts in a row without a new checkpoint end the run.
"""

from dataclasses import dataclass, replace
from typing import Set

from slurm_tf.run.attempts import FAILURE, RETRY, AttemptRecorder, check
from slurm_tf.run.settings import RetrySettings

_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class Retry:
    """`meaning`: of run/attempts.py, "" if the run does not go on; `wait`: seconds until it does."""

    meaning: str = ""
    wait: float = 0.0


def decide(settings: RetrySettings, code: int, lost: bool, record: AttemptRecorder, jobs: Set[str]) -> Retry:
    """Return what is to be done after an end with `code`; `lost`: because a task's node or agent is gone.

    `jobs`: this job and those that it follows. Raises ProgressError.
    """
    former = [each for each in record.former if each.job in jobs]
    failures = sum(each.meaning == FAILURE for each in former)
    meaning = RETRY if lost or code in settings.retryable else FAILURE
    if meaning == FAILURE and code in settings.permanent:
        return Retry()
    if meaning == FAILURE and not (record.has_new_checkpoint and failures < settings.unknown):
        return Retry()
    own = replace(record.own, meaning=meaning, ended=record.own.started, reason=f"exit code {code}")
    check([*record.former, own], jobs, settings.fruitless)
    retries = sum(each.meaning in (RETRY, FAILURE) for each in former)
    return Retry(meaning, min(settings.wait * 2**retries, _LONGEST_WAIT))
