"""One of two tasks is slowed down from outside: the other one waits for it, and the run reports a straggler."""

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
def slowed_down(process: int) -> Iterator[None]:
    """Stop a process for most of the time, as on a node that is busy otherwise; the process may end meanwhile."""
    done = threading.Event()

    def stop_and_continue() -> None:
        with suppress(ProcessLookupError):
            while not done.is_set():
                os.kill(process, signal.SIGSTOP)
                done.wait(0.3)
                os.kill(process, signal.SIGCONT)
                done.wait(0.03)

    thread = threading.Thread(target=stop_and_continue)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def start(run_job: RunJob, folder: Path, how: str, pause: float) -> RunningJob:
    program = ROOT / "tests" / "programs" / "exact.py"
    (folder / "a.toml").write_text(JOB.format(program=program, how=how, pause=pause))
    return run_job("a.toml", "--name", "r")


@pytest.mark.long  # in `make test`: train/collectives/test_step_clock.py, launch/decide/test_stragglers.py
@pytest.mark.parametrize("how", ["fit", "loop"])
def test_a_task_that_is_slowed_down_is_a_straggler(how: str, run_job: RunJob, tmp_path: Path) -> None:
    job = start(run_job, tmp_path, how, 0.05)
    job.wait_for(r"^\[worker:1\] step 5\b")
    with slowed_down(job.pid("worker:1")):
        found = job.wait_for(r"worker:(\d) on \S+ is slow: it works (\S+) s by itself in each step, (\S+) times the ")
        assert found[1] == "1", job.text
        assert float(found[3]) > 2
        report = wait_for_slow(tmp_path / "runs" / "r" / "status.json")
    assert list(report["slow"]) == ["worker:1"]
    assert report["slow"]["worker:1"]["own"] == report["own"]["worker:1"]
    assert report["own"]["worker:1"] > 2 * report["own"]["worker:0"] > 0


def wait_for_slow(path: Path) -> dict[str, Any]:
    """Return the report of stragglers as soon as it names one."""
    deadline = time.monotonic() + 30
    while True:
        report: dict[str, Any] = json.loads(path.read_text())["stragglers"]
        if report["slow"]:
            return report
        assert time.monotonic() < deadline, report
        time.sleep(0.1)
