"""One of two tasks is held up from outside: the other one waits for it, and the run says so."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.jobs.conftest import RunJob, RunningJob

pytestmark = pytest.mark.tensorflow

JOB = """name = "a"
strategy = "multi_worker"
command = ["python", "{program}", "{how}", "{pause}", "1000"]
[roles.worker]
count = 2
[watch]
straggler-factor = 2
straggler-time = "0:08"
[checkpoint]
every = "1:00:00"
"""


@contextmanager
def held_up(process: int) -> Iterator[None]:
    """Stop a process for most of the time, as a node does that is busy with something else; it may end meanwhile."""
    over = threading.Event()

    def pulse() -> None:
        with suppress(ProcessLookupError):
            while not over.is_set():
                os.kill(process, signal.SIGSTOP)
                over.wait(0.3)
                os.kill(process, signal.SIGCONT)
                over.wait(0.03)

    thread = threading.Thread(target=pulse)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def start(run_job: RunJob, folder: Path, how: str, pause: float) -> RunningJob:
    program = ROOT / "tests" / "programs" / "exact.py"
    (folder / "a.toml").write_text(JOB.format(program=program, how=how, pause=pause))
    return run_job("a.toml", "--name", "r")


@pytest.mark.parametrize("how", ["fit", "loop"])
def test_a_task_that_is_held_up_is_slow(how: str, run_job: RunJob, tmp_path: Path) -> None:
    job = start(run_job, tmp_path, how, 0.05)
    job.wait_for(r"^\[worker:1\] step 5\b")
    with held_up(job.pid("worker:1")):
        found = job.wait_for(r"worker:(\d) on \S+ is slow: it works (\S+) s by itself in each step, (\S+) times the ")
        assert found[1] == "1", job.text
        assert float(found[3]) > 2
        report = wait_for_slow(tmp_path / "runs" / "r" / "status.json")
    assert list(report["slow"]) == ["worker:1"]
    assert report["slow"]["worker:1"]["own"] == report["own"]["worker:1"]
    assert report["own"]["worker:1"] > 2 * report["own"]["worker:0"] > 0


def wait_for_slow(path: Path) -> dict[str, Any]:
    """Return the report, once somebody is in it."""
    deadline = time.monotonic() + 30
    while True:
        report: dict[str, Any] = json.loads(path.read_text())["stragglers"]
        if report["slow"]:
            return report
        assert time.monotonic() < deadline, report
        time.sleep(0.1)
