"""Whose a run is: taken by attempt, broken by what Slurm says of the job that had it."""

import dataclasses
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from slurm_tf.errors import LeaseError, RunError
from slurm_tf.launch.job_context import process_identity
from slurm_tf.launch.requeue import lease_holder
from slurm_tf.run import lease
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import VERSION

# Says what its folder's file `says` holds, line N at the N-th call, the last one for ever; notes what it was asked.
SQUEUE = """#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >> asked
line=$(sed -n "$(grep -c . asked)p" says)
line=${line:-$(tail -n 1 says)}
case $line in
unknown) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
down) echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1;;
*) echo "$line N/A N/A N/A N/A 0 0";;
esac
"""

Squeue = Callable[..., dict[str, str]]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = tmp_path / "r"
    folder.mkdir()
    return RunFolder(str(folder))


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    """Put a squeue into PATH that gives these answers one after the other; return the environment of job 12."""
    monkeypatch.setattr(lease_holder, "_PAUSE_SECONDS", 0.01)

    def says(*answers: str, job: str = "12", restarts: int = 0) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "says").write_text("".join(f"{answer}\n" for answer in answers))
        (folder / "asked").unlink(missing_ok=True)
        (folder / "squeue").write_text(SQUEUE)
        (folder / "squeue").chmod(0o755)
        path = f"{folder}:{os.environ['PATH']}"
        return {"PATH": path, "SLURM_JOB_ID": job, "SLURM_RESTART_COUNT": str(restarts)}

    return says


def asked(tmp_path: Path) -> list[str]:
    path = tmp_path / "bin" / "asked"
    return path.read_text().splitlines() if path.exists() else []


def quiet(_: str) -> None:
    pass


def test_a_lease_says_who_and_is_private(run: RunFolder, squeue: Squeue, tmp_path: Path) -> None:
    taken = lease_holder.take(run, {**squeue("RUNNING"), "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}, quiet)
    assert (taken.attempt, taken.job, taken.host) == ("9_3.0", "9_3", os.uname().nodename)
    assert lease.read(run) == taken
    assert json.loads(Path(run.lease).read_text())["contract"] == VERSION
    assert stat.S_IMODE(os.stat(run.lease).st_mode) == 0o600
    assert asked(tmp_path) == []


@pytest.mark.parametrize("state", ["PENDING", "REQUEUED", "CANCELLED", "TIMEOUT", "COMPLETED", "PREEMPTED", "unknown"])
def test_a_job_that_does_not_live_loses_its_lease(state: str, run: RunFolder, squeue: Squeue, tmp_path: Path) -> None:
    lease_holder.take(run, squeue("RUNNING", job="7"), quiet)
    assert lease_holder.take(run, squeue(state), quiet).attempt == "12.0"
    assert ["--jobs=7" in line for line in asked(tmp_path)] == [True]


@pytest.mark.parametrize("state", ["RUNNING", "SUSPENDED", "CONFIGURING", "STOPPED", "SOMETHING_NEW"])
def test_a_job_that_lives_keeps_it(state: str, run: RunFolder, squeue: Squeue) -> None:
    first = lease_holder.take(run, squeue("RUNNING", job="7"), quiet)
    with pytest.raises(RunError, match=rf"run r is being run by job 7 on \S+ \({state}\)") as caught:
        lease_holder.take(run, squeue(state), quiet)
    assert caught.value.exit_code == 73
    assert lease.read(run) == first


def test_a_job_that_leaves_its_nodes_is_waited_for(run: RunFolder, squeue: Squeue, tmp_path: Path) -> None:
    lease_holder.take(run, squeue("RUNNING", job="7"), quiet)
    said: list[str] = []
    environ = squeue("COMPLETING", "COMPLETING", "CANCELLED")
    assert lease_holder.take(run, environ, said.append).attempt == "12.0"
    assert len(asked(tmp_path)) == 3
    assert [line.partition(" on ")[0] for line in said] == ["waiting until job 7"]


def test_a_job_that_never_leaves_keeps_it(run: RunFolder, squeue: Squeue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_holder, "_LEAVING_SECONDS", 0.1)
    lease_holder.take(run, squeue("RUNNING", job="7"), quiet)
    with pytest.raises(RunError, match=r"is being run by job 7 on \S+ \(COMPLETING\)"):
        lease_holder.take(run, squeue("COMPLETING"), quiet)


def test_slurm_is_asked_again_while_it_does_not_answer(
    run: RunFolder, squeue: Squeue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lease_holder.take(run, squeue("RUNNING", job="7"), quiet)
    with monkeypatch.context() as soon:
        soon.setattr(lease_holder, "_ANSWER_SECONDS", 1.0)
        with pytest.raises(LeaseError, match=r"job 7 .*Unable to contact(.|\n)*HINT: try again; if job 7") as caught:
            lease_holder.take(run, squeue("down"), quiet)
    assert caught.value.exit_code == 75
    assert len(asked(tmp_path)) > 1
    assert lease.read(run) == first
    assert lease_holder.take(run, squeue("down", "down", "CANCELLED"), quiet).attempt == "12.0"
    assert len(asked(tmp_path)) == 3


def test_a_later_incarnation_of_a_job_takes_over_without_asking(run: RunFolder, squeue: Squeue, tmp_path: Path) -> None:
    for restarts in (0, 1, 3):
        assert lease_holder.take(run, squeue("RUNNING", restarts=restarts), quiet).attempt == f"12.{restarts}"
    assert asked(tmp_path) == []
    with pytest.raises(RunError, match=r"attempt 12\.3 on \S+, a later one of this job"):
        lease_holder.take(run, squeue("RUNNING", restarts=2), quiet)


OTHER = "import sys; print('up', flush=True); sys.stdin.read()"


def of_process(run: RunFolder, pid: int, **changes: object) -> None:
    """Write the lease as if the local attempt with coordinator `pid` had taken it."""
    taken = lease_holder.take(run, {"PATH": os.environ["PATH"]}, quiet)
    assert taken.job == ""
    process = process_identity(pid)
    held = dataclasses.replace(taken, attempt=f"local-{taken.host}-{process}.0", process=process)
    lease.write(run, dataclasses.replace(held, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("environ", [{}, {"SLURM_JOB_ID": "12"}])
def test_a_local_attempt_holds_it_while_its_process_lives(environ: Mapping[str, str], run: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        of_process(run, other.pid)
        with pytest.raises(RunError, match=f"is being run by process {other.pid} on "):
            lease_holder.take(run, environ, quiet)
        held = lease.read(run)
        other.communicate()
    assert held is not None
    assert lease_holder.take(run, environ, quiet).attempt != held.attempt


def test_another_process_with_that_number_does_not_count(run: RunFolder) -> None:
    of_process(run, os.getppid(), process=f"{os.getppid()}-1")
    lease_holder.take(run, {}, quiet)


def test_where_proc_does_not_say_when_a_process_started_its_number_counts() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert [lease_holder._lives(str(pid)) for pid in (os.getpid(), 1, ended.pid)] == [True, True, False]


def test_a_local_attempt_elsewhere_may_live(run: RunFolder) -> None:
    of_process(run, os.getpid(), host="elsewhere")
    with pytest.raises(RunError, match=r"is, or was, being run by process \d+ on elsewhere(.|\n)*remove .*/lease.json"):
        lease_holder.take(run, {}, quiet)


def test_a_script_that_is_run_twice_in_one_allocation(run: RunFolder, squeue: Squeue) -> None:
    lease_holder.take(run, squeue("RUNNING"), quiet)
    with pytest.raises(RunError, match=f"is being run by process {os.getpid()} on "):
        lease_holder.take(run, squeue("RUNNING"), quiet)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"contract": 1}', '{"contract": 9}'])
def test_a_lease_that_is_none(text: str, run: RunFolder) -> None:
    Path(run.lease).write_text(text)
    with pytest.raises(RunError, match=r"lease.json (is not JSON|was written by another release)"):
        lease_holder.take(run, {}, quiet)


def test_who_has_lost_it_is_told(run: RunFolder, squeue: Squeue) -> None:
    mine = lease_holder.take(run, squeue("RUNNING", job="7"), quiet).attempt
    lease.check(run, mine)
    lease_holder.take(run, squeue("CANCELLED"), quiet)
    with pytest.raises(RunError, match=r"being run by attempt 12\.0 on "):
        lease.check(run, mine)
    os.unlink(run.lease)
    with pytest.raises(RunError, match=r"lease\.json was removed"):
        lease.check(run, mine)
