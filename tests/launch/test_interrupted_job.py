"""Signals to jobs of real processes on this machine, whose programs speak as slurm_tf.train does."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.run.settings import RoleSettings, WatchSettings
from tests.launch.conftest import LAUNCH, LocalJob, StartJob, gone_within, is_alive

pytestmark = pytest.mark.slow

SPEAKS = Path(__file__).parent / "programs" / "speaks.py"


def speak(total: int = 0, writer: str = "worker:0") -> str:
    """Return the command of a program that never ends by itself, or after `total` steps."""
    return f"exec {sys.executable} {SPEAKS} {total} 0.05 100000 {writer}"


def attempts(job: LocalJob) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(Path(job.run.attempts).read_text())["attempts"]
    return rows


def saved(job: LocalJob) -> int:
    return int(Path(job.run.checkpoints, "step").read_text())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_job_on_this_machine_saves_and_ends(number: int, code: int, start_job: StartJob) -> None:
    job = start_job(speak())
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] trains")
    job.process.send_signal(number)
    assert job.wait(20) == code
    step = int(job.wait_for(r"^\[worker:0\] interrupted at (\d+): cancel: the coordinator got ")[1])
    assert saved(job) == step
    assert "leaves with 75" in job.text
    (row,) = attempts(job)
    assert (row["cause"], row["code"], row["first"], row["last"], row["speaks"]) == ("cancel", code, step, step, True)
    assert f"the job ends: cancel: the coordinator got {signal.Signals(number).name}" in job.text


def test_what_reaches_the_programs_or_comes_again_changes_nothing(start_job: StartJob) -> None:
    job = start_job(speak())
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] trains")
    for pid in pids:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pid, number)
    time.sleep(0.5)
    assert all(map(is_alive, pids))
    for _ in range(5):
        job.process.send_signal(signal.SIGTERM)
    assert job.wait(20) == 143
    assert job.text.count("[worker:0] interrupted at") == 1
    assert saved(job) > 0


def test_a_signal_of_the_job_file_lets_any_program_save(start_job: StartJob) -> None:
    program = "trap 'echo saves; exit 0' USR1; echo up; while true; do sleep 0.05; done"
    job = start_job(program, checkpoint_signal="USR1")
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] up")
    job.process.send_signal(signal.SIGTERM)
    # not 0: what is interrupted is not done
    assert job.wait(20) == 143
    assert job.lines("worker:0") == job.lines("worker:1") == ["up", "saves"]


def test_agents_that_wait_for_others_end_in_order(start_job: StartJob) -> None:
    job = start_job("echo up", step=[*LAUNCH, "local", "--ntasks", "1", "--"])
    status, deadline = Path(job.run.status), time.monotonic() + 30
    while not status.exists() or '"registered"' not in status.read_text():
        assert time.monotonic() < deadline, job.text
        time.sleep(0.05)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(20) == 143
    assert "Traceback" not in job.text


def test_a_parameter_server_gets_no_signal_of_the_job_file(start_job: StartJob) -> None:
    roles = (RoleSettings("chief", 1), RoleSettings("ps", 1))
    saves = "trap 'sleep 0.5; echo saves; exit 0' USR1"
    program = f"""case $SLURM_TF_TASK in chief*) {saves};; *) trap 'echo dies; exit 1' USR1;; esac
echo up; while true; do sleep 0.05; done"""
    job = start_job(program, strategy="between_graph", roles=roles, checkpoint_signal="USR1")
    for task in ("chief:0", "ps:0"):
        job.wait_for(rf"^\[{task}\] up")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(20) == 143
    assert (job.lines("chief:0"), job.lines("ps:0")) == (["up", "saves"], ["up"])


def test_a_second_interrupt_does_not_wait_for_a_save(start_job: StartJob) -> None:
    deaf = f"""exec {sys.executable} -c '
import os, signal, socket, time
signal.signal(signal.SIGTERM, lambda *_: None)
line = socket.socket(fileno=int(os.environ["SLURM_TF_CONTROL_FD"]))
line.sendall(b"{{\\"type\\": \\"Listening\\", \\"is_writer\\": true}}\\n")
print("up", flush=True)
while True: time.sleep(1)
'"""
    job = start_job(deaf, kill_wait=60.0)
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] up")
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    job.process.send_signal(signal.SIGINT)
    job.wait_for("cancel: the coordinator got SIGINT")
    assert all(map(is_alive, pids))
    job.process.send_signal(signal.SIGINT)
    assert job.wait(20) == 130
    assert gone_within(1, pids)


def test_the_cause_is_on_storage_before_the_step_is_gone(start_job: StartJob) -> None:
    deaf = f"""exec {sys.executable} -c '
import signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
print("up", flush=True)
while True: time.sleep(1)
'"""
    job = start_job(deaf, kill_wait=60.0)
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] up")
    job.process.send_signal(signal.SIGTERM)
    job.wait_for("cancel: the coordinator got SIGTERM")
    job.process.kill()  # as Slurm does KillWait after its SIGTERM
    job.process.wait()
    (row,) = attempts(job)
    assert (row["cause"], row["reason"]) == ("cancel", "cancel: the coordinator got SIGTERM")
    assert (row["ended"], row["code"]) == (None, None)


def test_the_reason_of_a_bad_end_is_on_storage_before_the_step_is_gone(start_job: StartJob, tmp_path: Path) -> None:
    deaf = """case $SLURM_TF_TASK in
worker:1) while ! [ -e "$1" ]; do sleep 0.05; done; exit 9;;
*) trap '' TERM; echo up; while true; do sleep 0.05; done
esac"""
    job = start_job(deaf, "bash", f"{tmp_path}/go", kill_wait=60.0)
    job.wait_for(r"^\[worker:0\] up")
    (tmp_path / "go").touch()
    reason = r"worker:1 on \S+ ended with exit code 9"
    deadline = time.monotonic() + 30
    status: dict[str, Any] = {"code": None}
    while status["code"] is None:
        assert time.monotonic() < deadline, job.text
        time.sleep(0.05)
        status = json.loads(Path(job.run.status).read_text())
    job.process.kill()
    job.process.wait()
    (row,) = attempts(job)
    assert re.fullmatch(reason, row["reason"])
    assert (row["cause"], row["ended"]) == ("", None)
    assert (status["code"], status["reason"]) == (9, row["reason"])


def test_who_begins_to_listen_after_the_signal_is_told_to_leave(start_job: StartJob, tmp_path: Path) -> None:
    late = f"""exec {sys.executable} -c '
import json, os, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("deaf", flush=True))
print("up", flush=True)
while not os.path.exists("{tmp_path}/go"): time.sleep(0.01)
line = socket.socket(fileno=int(os.environ["SLURM_TF_CONTROL_FD"]))
line.sendall(b"{{\\"type\\": \\"Listening\\", \\"is_writer\\": false}}\\n")
for message in map(json.loads, line.makefile()):
    if message["type"] == "ExitRequest": sys.exit(message["code"])
'"""
    job = start_job(late, kill_wait=60.0)
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] up")
    job.process.send_signal(signal.SIGTERM)
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] deaf")
    (tmp_path / "go").touch()
    assert job.wait(20) == 143, job.text


def test_servers_that_listen_are_told_to_leave_when_the_chief_is_done(start_job: StartJob, tmp_path: Path) -> None:
    roles = (RoleSettings("chief", 1), RoleSettings("worker", 1), RoleSettings("ps", 1))
    chief = f'while ! [ -e "$1" ]; do sleep 0.05; done; {speak(5, "chief:0")}'
    program = f"case $SLURM_TF_TASK in chief*) {chief};; *) {speak(0, 'chief:0')};; esac"
    begun = time.monotonic()
    job = start_job(program, "bash", f"{tmp_path}/go", strategy="ps", roles=roles, kill_wait=60.0)
    for task in ("worker:0", "ps:0"):
        job.wait_for(rf"^\[{task}\] trains")
    (tmp_path / "go").touch()
    assert job.wait(40) == 0, job.text
    assert time.monotonic() - begun < 40
    for task in ("worker:0", "ps:0"):
        assert any(line.startswith("leaves with 0") for line in job.lines(task)), job.text


def test_a_restart_in_place_has_those_leave_that_listen(start_job: StartJob) -> None:
    job = start_job(speak(), max_restarts=1, kill_wait=60.0)
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] begins at 0")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    job.wait_for(r"(?s)(.*^\[worker:0\] begins at){2}", timeout=20)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(20) == 143


def test_an_agent_whose_coordinator_is_gone_has_its_program_save(start_job: StartJob) -> None:
    job = start_job(speak())
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] trains")
    os.kill(job.process.pid, signal.SIGKILL)
    assert gone_within(20, pids)
    assert saved(job) > 0


def test_a_request_that_was_lost_with_the_coordinator_is_answered(start_job: StartJob) -> None:
    asks = f"""exec {sys.executable} -c '
import json, os, socket
line = socket.socket(fileno=int(os.environ["SLURM_TF_CONTROL_FD"]))
writes = os.environ["SLURM_TF_TASK"] == "worker:0"
def send(**values):
    line.sendall(json.dumps(values).encode() + b"\\n")
send(type="Listening", is_writer=writes)
if writes:
    send(type="Request", number=7, role="worker", content={{}})
for text in line.makefile():
    message = json.loads(text)
    print("got", message["type"], message.get("number"), flush=True)
    if message["type"] == "RequestResult":
        send(type="Saved", step=1, error=None)
    if message["type"] == "ExitRequest":
        break
'"""
    job = start_job(asks)
    job.wait_for(r"^\[worker:1\] got RelayedRequest")
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    os.kill(job.process.pid, signal.SIGKILL)
    assert gone_within(20, pids)
    log = Path(job.run.log("worker", 0)).read_text()
    assert "got RequestResult 7\ngot SaveRequest None\n" in log


def test_an_agent_whose_coordinator_is_stopped_has_its_program_save(start_job: StartJob) -> None:
    job = start_job(speak(), watch=WatchSettings(coordinator=3.0))
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"^\[{task}\] trains")
    job.process.send_signal(signal.SIGSTOP)
    assert gone_within(20, pids)
    assert "the coordinator has not answered for 3 s" in Path(job.run.log("worker", 1)).read_text()
    assert saved(job) > 0
