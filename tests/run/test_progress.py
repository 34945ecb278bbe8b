"""progress.jsonl: what a program reported, over all attempts, in a file that stays small."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import FencedError
from slurm_tf.run import progress
from slurm_tf.run.progress import ProgressWriter, StepReport

Open = Callable[..., ProgressWriter]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.jsonl"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a writer that writes each report at once."""
    monkeypatch.setattr(progress, "_SECONDS", 0.0)

    def make(attempt: str = "1.0", fence: Callable[[], None] = lambda: None) -> ProgressWriter:
        return ProgressWriter(str(path), attempt, fence, said.append)

    return make


def steps(path: Path) -> list[int]:
    return [each.step for each in progress.read(str(path))]


def test_reports_of_a_program(path: Path, opened: Open) -> None:
    writer = opened()
    assert progress.read(str(path)) == []
    writer.add(10, {"loss": 0.5})
    writer.add(10, {"accuracy": 0.25})
    writer.add(20, {"loss": math.nan, "x" * 99: math.inf, **{str(number): 0.0 for number in range(99)}})
    first, second = progress.read(str(path))
    assert (first.step, first.attempt, first.values) == (10, "1.0", {"loss": 0.5, "accuracy": 0.25})
    assert list(second.values.items())[:3] == [("loss", None), ("x" * 64, None), ("0", 0.0)]
    assert len(second.values) == 32
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("resumed_at", "first", "kept"),
    [(15, 20, [10]), (20, 25, [10, 20]), (0, 10, []), (None, 25, [10, 20]), (None, 20, [10]), (99, 100, [10, 20, 30])],
)
def test_steps_that_are_done_again_are_there_once(
    resumed_at: int | None, first: int, kept: list[int], path: Path, opened: Open
) -> None:
    before = opened()
    for step in (10, 20, 30):
        before.add(step, {"loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 40, "at"')  # it was killed
    after = opened("1.1")
    after.add(first, {"loss": 2.0}, resumed_at)
    after.add(first + 10, {"loss": 3.0}, resumed_at)
    assert steps(path) == [*kept, first, first + 10]
    assert len(path.read_text().splitlines()) == len(kept) + 2


def test_an_attempt_that_was_cut_off_writes_no_more(path: Path, opened: Open) -> None:
    gone = False

    def fence() -> None:
        if gone:
            raise FencedError("another attempt has taken over", "")

    old, new = opened("1.0", fence), opened("1.1")
    old.add(1, {"loss": 1.0})
    new.add(2, {"loss": 2.0})
    stray = json.dumps({"step": 3, "at": 0.0, "attempt": "1.0", "values": {"loss": 9.0}})
    with path.open("a") as file:
        file.write(stray + "\n")  # between its look at the lease and its write it was stopped
    gone = True
    old.add(4, {"loss": 9.0})
    new.add(3, {"loss": 3.0})
    assert [(each.step, each.values["loss"]) for each in progress.read(str(path))] == [(1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize(
    "line",
    [
        "", "x", "[]", "{}", "\x00" * 9, "[" * 5000, '{"step": "a", "at": 0, "attempt": "", "values": {}}',
        '{"step": 1, "at": 0, "attempt": "", "values": {"loss": "x"}}',
        '{"step": 1, "at": 0, "attempt": "", "values": 3}',
    ],
)  # fmt: skip
def test_lines_that_are_no_reports_are_left_out(line: str, path: Path, opened: Open) -> None:
    path.write_text(line + "\n")
    assert progress.read(str(path)) == []
    opened().add(5, {"loss": 1.0})
    assert steps(path) == [5]


def test_the_file_stays_small_and_keeps_the_extremes_and_the_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_MOST_BYTES", 10_000)
    writer = ProgressWriter(str(path), "1.0", lambda: None, print)
    for step in range(1, 3001):
        writer.add(step, {"loss": 0.5 if step != 777 else 0.125, "lr": 0.1 if step != 1234 else 9.0})
        if step % 20 == 0:
            writer.flush()
    found = progress.read(str(path))
    assert path.stat().st_size <= 10_000
    assert found[-1].step == 3000
    assert min(each.values["loss"] or 0 for each in found) == 0.125
    assert max(each.values["lr"] or 0 for each in found) == 9.0
    gaps = [after.step - before.step for before, after in zip(found, found[1:], strict=False)]
    assert max(gaps) <= 4 * 3000 / len(found)


def test_an_error_is_told_once_and_what_waited_is_written_later(tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "gone"
    writer = ProgressWriter(str(folder / "progress.jsonl"), "1.0", lambda: None, said.append)
    for step in (1, 2):
        writer.add(step, {"loss": 1.0})
        writer.flush()
    assert said == [f"cannot write {folder}/progress.jsonl: No such file or directory"]
    folder.mkdir()
    writer.flush()
    assert steps(folder / "progress.jsonl") == [1, 2]


def test_reports_in_quick_succession_are_written_together(path: Path) -> None:
    writer = ProgressWriter(str(path), "1.0", lambda: None, print)
    for step in range(1, 2001):
        writer.add(step, {})
    writer.flush()
    assert steps(path)[-1] == 2000
    assert StepReport(1, progress.read(str(path))[0].at, "1.0", {}) == progress.read(str(path))[0]
