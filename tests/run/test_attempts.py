"""Attempts of a run: what is written of them, when they were in vain, when another one is worth it."""

import json
from pathlib import Path

import pytest

from slurm_tf import files
from slurm_tf.errors import ProgressError, RunError
from slurm_tf.launch.decide import retry
from slurm_tf.run import attempts, lease
from slurm_tf.run.attempts import Attempt, AttemptRecorder, EndCause, count_fruitless
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.run.settings import RetrySettings

JOBS = {"7"}


def row(
    cause: EndCause = EndCause.PREEMPTION,
    last: int | None = None,
    speaks: bool = True,
    ended: bool = True,
    job: str = "7",
    only_staged: bool = False,
) -> Attempt:
    end = 1.0 if ended else None
    return Attempt("7.0", job, 0.0, end, cause, 75, "why", last, last, speaks, only_staged=only_staged)


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([], 0),
        ([row(last=10)], 0),
        ([row()], 1),
        ([row(last=10), row(), row(EndCause.TIMEOUT), row(last=10)], 3),
        ([row(), row(), row(last=5)], 0),
        # the same steps once more are nothing new
        ([row(last=10), row(last=9), row(last=10)], 2),
        # killed, or its node died: nobody wrote its end
        ([row(), row(EndCause.NONE, ended=False)], 2),
        # an end for good: whoever submits once more begins anew
        ([row(), row(EndCause.NONE), row()], 1),
        ([row(), row(EndCause.CANCEL), row()], 1),
        # its cause was known, and it was killed before its end was
        ([row(), row(ended=False)], 2),
        ([row(), row(EndCause.CANCEL, ended=False), row()], 1),
        # another job, which this one does not follow
        ([row(job="3"), row(job="3"), row()], 1),
        # a program that never tells may have written checkpoints
        ([row(speaks=False), row(speaks=False)], 0),
        ([row(EndCause.RETRY, speaks=False), row(EndCause.FAILURE, speaks=False)], 2),
        # it never began, so it wrote none
        ([row(EndCause.TIMEOUT, speaks=False, only_staged=True)] * 2, 2),
        ([row(speaks=False, only_staged=True)] * 2, 0),
        # it told once, so silence means none
        ([row(last=3), row(speaks=False), row(speaks=False)], 2),
    ],
)
def test_attempts_in_vain(rows: list[Attempt], count: int) -> None:
    assert count_fruitless(rows, JOBS) == count


def test_three_in_a_row_end_the_run_with_a_diagnosis() -> None:
    attempts.check([row(), row()], JOBS, 3)
    with pytest.raises(ProgressError, match="3 attempts in a row committed no new checkpoint; the last one: why"):
        attempts.check([row(), row(), row()], JOBS, 3)
    with pytest.raises(ProgressError, match="was killed, or its node died"):
        attempts.check([row(), row(), Attempt("7.2", "7", 0.0, speaks=True)], JOBS, 3)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path))


def record(folder: RunFolder, *rows: Attempt, own: int | None = None) -> AttemptRecorder:
    made = AttemptRecorder(folder, "7.9", "7", lambda _: None)
    made.former = list(rows)
    if own is not None:
        made.committed(own)
    return made


def test_what_is_written(folder: RunFolder) -> None:
    first = AttemptRecorder(folder, "7.0", "7", pytest.fail)
    first.tells_of_checkpoints()
    first.committed(10)
    first.committed(20)
    first.ended(EndCause.PREEMPTION, 75, "preempted")
    second = AttemptRecorder(folder, "7.1", "7", pytest.fail)
    second.trains()
    began = second.attempt.began
    second.trains()
    (former, own) = attempts.read(folder)
    assert former == first.attempt
    assert (former.first, former.last, former.cause, former.code, former.speaks) == (
        10,
        20,
        EndCause.PREEMPTION,
        75,
        True,
    )
    assert (own.ended, own.cause, own.last, second.speaks) == (None, EndCause.NONE, None, True)
    assert former.began is None
    assert former.saved is not None
    assert former.started <= former.saved <= (former.ended or 0)
    assert own.started <= (own.began or 0) == began
    assert Path(folder.attempts).stat().st_mode & 0o777 == 0o600


def test_a_cause_is_written_when_it_is_decided(folder: RunFolder) -> None:
    made = AttemptRecorder(folder, "7.0", "7", pytest.fail)
    made.decided(EndCause.TIMEOUT, "timeout: the coordinator got SIGUSR1")
    (own,) = attempts.read(folder)
    assert (own.cause, own.reason) == (EndCause.TIMEOUT, "timeout: the coordinator got SIGUSR1")
    assert (own.ended, own.code) == (None, None)
    # what becomes of the run at the end says the last word
    made.ended(EndCause.CANCEL, 143, "cancel")
    (own,) = attempts.read(folder)
    assert (own.cause, own.code, own.reason) == (EndCause.CANCEL, 143, "cancel")
    assert own.ended is not None


def test_one_that_comes_back_leaves_what_its_successor_wrote(folder: RunFolder) -> None:
    former = AttemptRecorder(folder, "7.0", "7", pytest.fail)
    AttemptRecorder(folder, "7.1", "7", pytest.fail)
    lease.write(folder, Lease("7.1", "7", "node2", "1-1", 0.0))
    former.committed(5)
    former.ended(EndCause.NONE, 1, "another attempt has taken over")
    assert [(each.id, each.last) for each in attempts.read(folder)] == [("7.0", None), ("7.1", None)]


def test_an_attempt_whose_name_is_there_is_that_one(folder: RunFolder) -> None:
    for _ in range(2):
        AttemptRecorder(folder, "7.0", "7", pytest.fail)
    assert [each.id for each in attempts.read(folder)] == ["7.0"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"contract": 99, "attempts": []}', '{"contract": 1, "attempts": [{}]}']
)
def test_a_file_that_is_none(text: str, folder: RunFolder) -> None:
    Path(folder.attempts).write_text(text)
    with pytest.raises(RunError):
        attempts.read(folder)


def test_a_full_disk_is_told_once_and_training_goes_on(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    made = AttemptRecorder(folder, "7.0", "7", said.append)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    made.committed(1)
    made.committed(2)
    assert said == [f"cannot write {folder.attempts}: No space left on device"]
    assert made.attempt.last == 2


SETTINGS = RetrySettings(permanent=(2, 127), retryable=(75, 9), unknown=2, fruitless=3, wait=60.0)


@pytest.mark.parametrize(
    ("code", "lost", "former", "own", "cause", "wait"),
    [
        (2, False, [], 5, EndCause.NONE, 0.0),
        (75, False, [], None, EndCause.RETRY, 60.0),
        (9, False, [row(last=1)], None, EndCause.RETRY, 60.0),
        # what is lost was nobody's fault, whatever the code
        (1, True, [], None, EndCause.RETRY, 60.0),
        # a program that fails before its first checkpoint fails again
        (1, False, [], None, EndCause.NONE, 0.0),
        (1, False, [row(last=5)], 5, EndCause.NONE, 0.0),
        (1, False, [], 5, EndCause.FAILURE, 60.0),
        (137, False, [row(EndCause.FAILURE, 5)], 6, EndCause.FAILURE, 120.0),
        (1, False, [row(EndCause.FAILURE, 5), row(EndCause.FAILURE, 6)], 7, EndCause.NONE, 0.0),
        # interruptions do not count as retries
        (1, False, [row(last=5), row(last=6), row(last=7)], 8, EndCause.FAILURE, 60.0),
        # nor do those of another job
        (1, False, [row(EndCause.FAILURE, 5, job="3"), row(EndCause.FAILURE, 6, job="3")], 7, EndCause.FAILURE, 60.0),
        (75, False, [row(EndCause.RETRY, number) for number in range(9)], 9, EndCause.RETRY, 3600.0),
    ],
)
def test_what_is_worth_another_attempt(
    code: int, lost: bool, former: list[Attempt], own: int | None, cause: EndCause, wait: float, folder: RunFolder
) -> None:
    found = retry.decide(SETTINGS, code, lost, record(folder, *former, own=own), JOBS)
    assert (found.cause, found.wait) == (cause, wait)


def test_retries_in_vain_come_to_an_end(folder: RunFolder) -> None:
    former = [row(EndCause.RETRY, speaks=False), row(EndCause.RETRY, speaks=False)]
    with pytest.raises(ProgressError, match="3 attempts in a row"):
        retry.decide(SETTINGS, 75, False, record(folder, *former), JOBS)


def test_the_record_is_plain_json(folder: RunFolder) -> None:
    AttemptRecorder(folder, "7.0", "7", pytest.fail)
    assert set(json.loads(Path(folder.attempts).read_text())["attempts"][0]) == {
        "id", "job", "started", "ended", "cause", "code", "reason", "first", "last", "speaks",
        "began", "saved", "is_last", "tensorflow", "only_staged",
    }  # fmt: skip


def test_another_tensorflow_is_recorded_and_said_once(folder: RunFolder) -> None:
    said: list[str] = []
    before = {"worker": "2.18.0", "ps": "2.18.0"}
    attempts.write(folder, [Attempt("6.0", "6", 0.0, tensorflow=before), Attempt("6.1", "6", 0.0)])
    recorder = AttemptRecorder(folder, "7.1", "7", said.append)
    for role, version in (("worker", "2.21.0"), ("worker", "2.21.0"), ("ps", "2.18.0"), ("evaluator", "2.20.0")):
        recorder.uses_tensorflow(role, version)
    assert said == ["worker goes on under TensorFlow 2.21.0; it was 2.18.0 before"]
    assert recorder.attempt.tensorflow == {"worker": "2.21.0", "ps": "2.18.0", "evaluator": "2.20.0"}
