"""Logs: what is there, its last lines, and what comes."""

import itertools
import threading
import time
from pathlib import Path

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.run.settings import LaunchSettings, RoleSettings, write_settings
from slurm_tf.watch import logs
from slurm_tf.watch.find_run import SelectedRun
from tests.launch.conftest import DEFAULTS
from tests.watch.conftest import MakeRun


@pytest.fixture
def selected(make_run: MakeRun) -> SelectedRun:
    found = make_run("a-1", ("7", (), False))
    roles = (RoleSettings("chief", 1), RoleSettings("worker", 2))
    settings = LaunchSettings(**{**DEFAULTS.__dict__, "roles": roles})
    write_settings(found.run.submission(1), settings)
    return found


def text(chunks: "list[logs.LogChunk]") -> str:
    return b"".join(chunk.data for chunk in chunks).decode()


@pytest.mark.parametrize("size", [0, 3, 70_000])
@pytest.mark.parametrize("lines", [0, 1, 3, 1000])
def test_the_last_lines(size: int, lines: int, selected: SelectedRun) -> None:
    rows = [f"line {number} {'x' * size}\n" for number in range(9)] + ["no newline"]
    path = Path(selected.run.logs, "slurm-7.out")
    path.write_text("".join(rows))
    assert text(list(logs.read(logs.log_files(selected, "", None), lines))) == "".join(rows[-lines:] if lines else [])
    assert text(list(logs.read(logs.log_files(selected, "", None), None))) == "".join(rows)


def test_each_task_has_a_file(selected: SelectedRun) -> None:
    Path(selected.run.log("worker", 1)).write_text("one\n")
    paths = logs.log_files(selected, "worker", None)
    assert [each.heading for each in paths] == ["a-1 worker:0", "a-1 worker:1"]
    assert [(chunk.file.heading, chunk.data) for chunk in logs.read(paths, None)] == [("a-1 worker:1", b"one\n")]
    for role, index in (("ps", None), ("worker", 2), ("worker", -1)):
        with pytest.raises(UsageError, match=r"has no task.*needed one of chief:0, worker:0-1"):
            logs.log_files(selected, role, index)


@pytest.mark.slow
def test_following_begins_before_the_file_and_ends_with_the_run(selected: SelectedRun) -> None:
    path = Path(selected.run.logs, "slurm-7.out")
    over = threading.Event()
    seen: list[logs.LogChunk] = []

    def follow() -> None:
        seen.extend(logs.follow(logs.log_files(selected, "", None), None, over.is_set))

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    time.sleep(0.2)
    with path.open("a") as file:
        for word in ("one ", "two\n"):
            file.write(word)
            file.flush()
            time.sleep(0.7)
        over.set()
        file.write("last\n")
    follower.join(30)
    assert not follower.is_alive()
    assert text(seen) == "one two\nlast\n"


def test_a_file_that_was_emptied_is_read_from_its_beginning(selected: SelectedRun) -> None:
    path = Path(selected.run.logs, "slurm-7.out")
    path.write_text("a long first life\n")
    chunks = logs.follow(logs.log_files(selected, "", None), None, lambda: True)
    first = next(chunks)
    path.write_text("new\n")
    assert text([first, *itertools.islice(chunks, 1)]) == "a long first life\nnew\n"


def test_points_have_an_output_each(make_run: MakeRun) -> None:
    found = make_run("s-1", ("9", (0, 1), True), ("12", (1,), True))
    assert logs.log_files(found, "", None) == [
        logs.LogFile(f"{found.run.logs}/slurm-9_0.out", "s-1/0", "", "s-1/0"),
        logs.LogFile(f"{found.run.logs}/slurm-12_1.out", "s-1/1", "", "s-1/1"),
    ]


def test_the_lines_of_a_job_name_the_task_that_printed_them() -> None:
    job = logs.LogFile("slurm-7.out", "a-1", "", "a-1")
    task = logs.LogFile("worker-1.log", "a-1", "worker:1", "a-1 worker:1")
    pieces = [
        (job, b"[worker:0] one\nslurm-tf: [chief:0] two\n[wor"),
        (task, b"[ps:0] \xff"),
        (job, b"ker:1] \n[x:0] 3"),
    ]
    chunks = (logs.LogChunk(file, data, 0) for file, data in pieces)
    assert [(each.task, each.line) for each in logs.lines_of(chunks)] == [
        ("worker:0", "one"),
        (None, "slurm-tf: [chief:0] two"),
        ("worker:1", ""),
        (None, "[x:0] 3"),
        ("worker:1", "[ps:0] \N{REPLACEMENT CHARACTER}"),
    ]


def test_a_run_without_a_job_has_no_output(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="it was not submitted"):
        logs.log_files(make_run("b-1"), "", None)
