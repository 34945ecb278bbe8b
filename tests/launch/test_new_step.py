"""Starting again where the agents are gone: in a new step of the same allocation."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH, StartJob, gone_within

pytestmark = pytest.mark.slow

TWICE = 'echo "start $SLURM_TF_RESTARTS"; [ $SLURM_TF_RESTARTS = 1 ] && exit 0; sleep 60'
LOCAL = [*LAUNCH, "local", "--ntasks", "2", "--"]


def step(folder: Path, first: str, later: str) -> list[str]:
    """Return a launcher that is a shell script: what comes `first`, and what comes in every `later` step."""
    script = f"mkdir {folder}/first 2> /dev/null && {{ {first}; }}; {later}"
    return ["bash", "-c", script, "step", *LOCAL]


def test_a_killed_agent_within_the_budget(start_job: StartJob) -> None:
    job = start_job(TWICE, max_restarts=1, preflight=True)
    for index in range(2):
        job.wait_for(rf"^\[worker:{index}\] start 0$")
    addresses = {task["address"] for task in job.cluster()}
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert job.lines("worker:0") == job.lines("worker:1") == ["start 0", "start 1"]
    assert "is lost: its agent's connection ended; a new step is started (restart 1 of 1)" in job.text
    assert job.text.count("all 2 tasks registered") == 2
    assert job.text.count("all tasks registered; preflight") == 1
    assert "start 0\nstart 1\n" in Path(job.run.log("worker", 1)).read_text()
    assert {task["address"] for task in job.cluster()} != addresses
    status = json.loads(Path(job.run.status).read_text())
    assert (status["state"], status["code"], status["restarts"]) == ("ended", 0, 1)
    assert [task["restarts"] for task in status["tasks"].values()] == [1, 1]


def test_a_killed_agent_without_a_budget(start_job: StartJob) -> None:
    job = start_job("sleep 60", max_restarts=1)
    for start in (1, 2):
        os.kill(job.agent("worker:1", start), signal.SIGKILL)
    assert job.wait(30) == 1
    assert re.search(r"the job failed: worker:1 on \S+ is lost: its agent's connection ended$", job.text, re.MULTILINE)


def test_starts_in_place_and_in_a_new_step_count_on(start_job: StartJob) -> None:
    job = start_job('echo "start $SLURM_TF_RESTARTS"; [ $SLURM_TF_RESTARTS = 2 ] && exit 0; sleep 60', max_restarts=2)
    os.kill(job.pid("worker:0"), signal.SIGKILL)
    os.kill(job.agent("worker:0", start=2), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert job.lines("worker:1")[-1] == "start 2"
    assert "all tasks are started again in place (restart 1 of 2)" in job.text
    assert "a new step is started (restart 2 of 2)" in job.text


def test_horovods_ranks_meet_anew_in_the_new_step(start_job: StartJob) -> None:
    program = f'echo "at $HOROVOD_GLOO_RENDEZVOUS_PORT"; {TWICE}'
    job = start_job(program, strategy="horovod", horovod="gloo", max_restarts=1)
    job.wait_for(r"^\[worker:0\] start 0$")
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    ports = [line for line in job.lines("worker:0") if line.startswith("at ")]
    assert len(set(ports)) == 2


def test_over_mpi_a_dead_rank_takes_a_new_step(start_job: StartJob) -> None:
    job = start_job(TWICE, strategy="horovod", horovod="mpi", max_restarts=1)
    job.wait_for(r"^\[worker:0\] start 0$")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert "was ended by signal 9 (SIGKILL); a new step is started (restart 1 of 1)" in job.text
    assert job.text.count("all 2 tasks registered") == 2


def test_a_late_agent_of_the_former_step_is_refused(start_job: StartJob, tmp_path: Path) -> None:
    keep = f"env -0 > {tmp_path}/environ"
    release = tmp_path / "release"
    program = f"[ $SLURM_TF_RESTARTS = 1 ] || sleep 60; until [ -e {release} ]; do sleep 0.1; done"
    job = start_job(program, max_restarts=1, step=step(tmp_path, keep, 'exec "$@"'))
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    job.pid("worker:0", start=2)
    pairs = [pair.split("=", 1) for pair in (tmp_path / "environ").read_text().split("\0") if "=" in pair]
    place = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_NTASKS": "2"}
    environ = {**dict(pairs), **place, "SLURMD_NODENAME": "here", "SLURM_TF_REGISTER_TIMEOUT": "1"}
    late = subprocess.run([*LAUNCH, "agent"], env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert late.returncode == 75, late.stderr
    assert "it ended the connection during the proof of the secret" in late.stderr
    assert re.search(r"refused a connection from \S+: a proof of the secret came that is wrong", job.text)
    release.touch()
    assert job.wait() == 0, job.text


def test_a_new_step_that_lacks_a_task_names_it(start_job: StartJob, tmp_path: Path) -> None:
    fewer = " ".join([*LAUNCH, "local", "--ntasks", "1", "--"])
    launcher = step(tmp_path, 'exec "$@"', f'shift {len(LOCAL)}; exec {fewer} "$@"')
    job = start_job("sleep 60", max_restarts=3, register_timeout=5.0, step=launcher)
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    assert job.wait(40) == 75
    cause = r"a new step was started as worker:1 on \S+ is lost: its agent's connection ended"
    assert re.search(f"the job failed: 1/2 tasks registered in 5 s; missing: worker:1; {cause}; ", job.text), job.text


def test_a_new_step_that_cannot_start_at_all(start_job: StartJob, tmp_path: Path) -> None:
    launcher = step(tmp_path, 'exec "$@"', "echo no such node >&2; exit 1")
    job = start_job("sleep 60", max_restarts=3, step=launcher)
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    assert job.wait(40) == 75
    assert "0/2 tasks registered when bash ended with exit code 1; missing: worker:0, worker:1" in job.text


def test_a_signal_while_a_new_step_registers(start_job: StartJob, tmp_path: Path) -> None:
    job = start_job("sleep 60", max_restarts=3, step=step(tmp_path, 'exec "$@"', "echo second; exec sleep 60"))
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    job.wait_for("^second$")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(20) == 143
    assert "the coordinator got SIGTERM" in job.text


def test_an_agent_that_does_nothing_any_more_ends_with_its_step(start_job: StartJob) -> None:
    job = start_job(TWICE, max_restarts=1, kill_wait=0.5)
    stopped, program = job.agent("worker:0"), job.pid("worker:0")
    os.kill(stopped, signal.SIGSTOP)
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    # it has 15.5 s to end its program, the launcher 10 s to leave and 10 s after SIGTERM
    job.wait_for(r"was told to end and did not(?s:.)*is lost(?s:.)*all 2 tasks registered", timeout=80)
    assert gone_within(1, [stopped, program])
    assert job.wait() == 0, job.text
