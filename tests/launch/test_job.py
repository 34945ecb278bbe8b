"""Jobs of real processes: coordinator, agents and programs on this machine."""

import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from slurm_tf.run import attempts, status, train_settings
from slurm_tf.run.settings import RoleSettings
from slurm_tf.run.train_settings import TrainSettings
from tests.free_ports import free_range
from tests.launch.conftest import LAUNCH, StartJob, gone_within, is_alive

pytestmark = pytest.mark.slow

PS = (RoleSettings("chief", 1), RoleSettings("worker", 2), RoleSettings("ps", 1))


def test_every_task_gets_its_place_and_prints_under_its_name(start_job: StartJob) -> None:
    job = start_job('echo "$TF_CONFIG"; echo oops >&2; printf "no newline"', roles=(RoleSettings("worker", 3),))
    assert job.wait() == 0, job.text
    addresses = [task["address"] for task in job.cluster()]
    for index in range(3):
        config, *rest = job.lines(f"worker:{index}")
        assert json.loads(config) == {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        assert sorted(rest) == ["no newline", "oops"]
        own = Path(job.run.log("worker", index))
        assert all(text in own.read_text() for text in (f"{config}\n", "oops\n", "no newline"))
        assert "worker" not in own.read_text().replace(config, "")
        assert own.stat().st_mode & 0o777 == 0o600


def test_the_environment_of_a_program(start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setenv("TF_CONFIG", "somebody else's")
    program = "case $SLURM_TF_TASK in chief*) env -0 | tr '\\0\\n' '\\n ';; *) sleep 60;; esac"
    job = start_job(
        program, env={"A": "b c", "PYTHONUNBUFFERED": ""}, strategy="ps", roles=PS, train=TrainSettings(mtbf=7200.0),
    )  # fmt: skip
    assert job.wait() == 0, job.text
    seen = dict(line.split("=", 1) for line in job.lines("chief:0") if "=" in line)
    assert seen["A"] == "b c"
    assert seen["PYTHONUNBUFFERED"] == ""
    assert seen["no_proxy"] == seen["no_grpc_proxy"] == "example.org,127.0.0.1"
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert seen["GRPC_FAIL_FAST"] == "use_caller"
    assert seen["SLURM_TF_TASK"] == "chief:0"
    assert seen["SLURM_TF_RUN_FOLDER"] == job.run.path
    assert train_settings.from_environ(seen) == TrainSettings(mtbf=7200.0)
    assert seen["SLURM_TF_ATTEMPT"] == json.loads(Path(job.run.lease).read_text())["attempt"]
    assert json.loads(seen["TF_CONFIG"])["task"] == {"type": "chief", "index": 0}
    assert not {"SLURM_TF_SECRET", "SLURM_TF_COORDINATOR", "SLURM_TF_PROGRAM_ENV"} & set(seen)


def test_ports_that_a_task_prolog_gives_go_before_the_sites(
    start_job: StartJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    low, high = free_range(2)
    monkeypatch.setenv("SLURM_TF_PORTS", f"{low}-{high}")
    job = start_job("true", ports=(high + 1, high + 9))
    assert job.wait() == 0, job.text
    assert sorted(int(task["address"].rpartition(":")[2]) for task in job.cluster()) == [low, high]


def test_a_strategy_of_one_process_has_no_tf_config(start_job: StartJob) -> None:
    job = start_job('echo "config: ${TF_CONFIG-none}"', strategy="single", roles=(RoleSettings("worker", 1),))
    assert job.wait() == 0, job.text
    assert job.lines("worker:0") == ["config: none"]


def test_flags_are_added_to_the_command(start_job: StartJob) -> None:
    program = 'echo "$0 $@"; case $SLURM_TF_TASK in ps*) sleep 60;; esac'
    job = start_job(program, strategy="between_graph", cluster_flags=True, roles=PS[1:])
    assert job.wait() == 0, job.text
    hosts = {task["name"]: task["address"] for task in job.cluster()}
    lists = f"--ps_hosts={hosts['ps:0']} --worker_hosts={hosts['worker:0']},{hosts['worker:1']}"
    assert job.lines("worker:1") == [f"{lists} --job_name=worker --task_index=1"]


def test_gpus_of_the_machine_are_divided(start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-a,7")
    roles = (RoleSettings("worker", 2, 1), RoleSettings("ps", 1, 0))
    program = 'echo "gpus: $CUDA_VISIBLE_DEVICES"; case $SLURM_TF_TASK in ps*) sleep 60;; *) sleep 2;; esac'
    job = start_job(program, roles=roles, strategy="between_graph")
    assert job.wait() == 0, job.text
    assert [job.lines(name)[0] for name in ("worker:0", "worker:1", "ps:0")] == ["gpus: 4", "gpus: GPU-a", "gpus: "]


def test_too_few_gpus_end_the_job_before_anything_starts(start_job: StartJob) -> None:
    job = start_job("echo started", roles=(RoleSettings("worker", 2, 1),))
    assert job.wait() == 65
    assert "sees 0 GPUs; needed 1, as its role asked for" in job.text
    assert "started" not in job.text


@pytest.mark.parametrize(("program", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exec nothing-of-that-name", 127)])
def test_the_exit_code_is_worker_0s(program: str, code: int, start_job: StartJob) -> None:
    job = start_job(program, strategy="single", roles=(RoleSettings("worker", 1),))
    assert job.wait() == code
    assert "slurm-tf: the job failed: worker:0 on " in job.text


def test_the_exception_of_the_task_that_failed_first_is_the_jobs_reason(start_job: StartJob) -> None:
    """It ends last: worker 0 fails because of it, and ends at once."""
    program = (
        f"""if [ $SLURM_TF_TASK = worker:1 ]; then {sys.executable} -c "{{}}['rate']"; sleep 60; fi; """
        "until grep KeyError $SLURM_TF_RUN_FOLDER/logs/worker-1.log; do sleep 0.1; done; sleep 2; "
        "echo the peer is gone >&2; exit 5"
    )
    job = start_job(program)
    assert job.wait() == 5
    why = f"worker:1 on {os.uname().nodename} failed: KeyError: 'rate'"
    assert f"slurm-tf: the job failed: {why}\n" in job.text
    shown = status.read(job.run)
    assert shown is not None
    assert (shown.reason, shown.failed, shown.tasks["worker:1"].error) == (why, "worker:1", "KeyError: 'rate'")
    assert attempts.read(job.run)[-1].reason == why


@pytest.mark.parametrize("required", [True, False])
def test_tasks_that_train_alone_are_no_success(required: bool, start_job: StartJob) -> None:
    job = start_job("echo trained", join_required=required)
    assert job.wait() == (65 if required else 0)
    assert (
        "slurm-tf: the job failed: none of the 2 tasks has joined the cluster: each trained " in job.text
    ) == required


MEETS = """
import json, os, socket, time

def wait_until_seen(index):
    status = os.path.join(os.environ["SLURM_TF_RUN_FOLDER"], "status.json")
    while not json.load(open(status))["tasks"][f"worker:{index}"]["joined"]:
        time.sleep(0.1)

config = json.loads(os.environ["TF_CONFIG"])
host, port = config["cluster"]["worker"][0].split(":")
if config["task"]["index"] == 0:
    peer = socket.create_server((host, int(port))).accept()[0]
    peer.recv(1)
else:
    wait_until_seen(0)
    peer = socket.create_connection((host, int(port)))
    wait_until_seen(1)
"""


def test_tasks_that_meet_are_a_success(start_job: StartJob, tmp_path: Path) -> None:
    """Worker 0 listens where its TF_CONFIG says, and worker 1 is connected to it."""
    program = tmp_path / "meets.py"
    program.write_text(MEETS)
    job = start_job(f"{sys.executable} {program}", join_required=True)
    assert job.wait() == 0, job.text
    assert "joined the cluster" not in job.text


def test_a_command_that_is_not_there(start_job: StartJob, tmp_path: Path) -> None:
    role = RoleSettings("worker", 1, command=(str(tmp_path / "no such program"),))
    job = start_job("true", strategy="single", roles=(role,))
    assert job.wait() == 127
    assert "cannot start" in job.text
    assert "No such file or directory" in job.text


def test_a_task_that_never_comes_is_named(start_job: StartJob) -> None:
    # a step that starts two of three tasks
    step = [*LAUNCH, "local", "--ntasks", "2", "--"]
    started = time.monotonic()
    job = start_job("echo started", roles=(RoleSettings("worker", 3),), register_timeout=8.0, step=step)
    assert job.wait() == 75
    assert time.monotonic() - started < 60
    # SLURM_NTASKS is the step's business; rank 2 is the one that is missing
    assert "2/3 tasks registered in 8 s; missing: worker:2" in job.text
    assert "started" not in job.text


def test_waiting_is_reported(start_job: StartJob) -> None:
    step = [*LAUNCH, "local", "--ntasks", "2", "--"]
    job = start_job("true", roles=(RoleSettings("worker", 3),), register_timeout=12.0, step=step)
    job.wait_for(r"^slurm-tf: 2/3 tasks registered, waiting for worker:2", timeout=20)
    assert job.wait() == 75


def test_a_step_that_ends_before_all_have_come(start_job: StartJob) -> None:
    job = start_job("true", step=["bash", "-c", "echo srun says no >&2; exit 3"])
    assert job.wait() == 75
    assert "srun says no" in job.text
    assert "0/2 tasks registered when bash ended with exit code 3; missing: worker:0, worker:1" in job.text


def test_a_step_that_srun_refuses_ends_the_job_for_good(start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRUN_CPUS_PER_TASK", "64")
    said = "Unable to create step for job 3: More processors requested than permitted"
    job = start_job("true", step=["bash", "-c", f"echo 'srun: error: {said}' >&2; exit 1"])
    assert job.wait() == 1
    assert f"the job failed: srun refused the step: {said}" in job.text
    assert "unset what the environment of the batch script asks srun for: SRUN_CPUS_PER_TASK=64;" in job.text
    assert "missing" not in job.text


def test_a_stranger_is_refused_and_logged(start_job: StartJob) -> None:
    step = [
        "bash",
        "-c",
        'echo "at $SLURM_TF_COORDINATOR"; sleep 2; exec "$@"',
        "step",
        *LAUNCH,
        "local",
        "--ntasks",
        "2",
        "--",
    ]
    job = start_job("true", step=step)
    host, port = job.wait_for(r"^at ([\d.]+):(\d+)$").groups()
    assert host == "127.0.0.1"
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        size = struct.unpack(">I", stranger.recv(4))[0]
        assert b"nonce" in stranger.recv(size)
        body = json.dumps({"nonce": "00" * 32, "proof": "00" * 32}).encode()
        stranger.sendall(struct.pack(">I", len(body)) + body)
        assert stranger.recv(1) == b""
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in stranger.recv(1000)
    assert job.wait() == 0, job.text
    assert job.text.count("slurm-tf: refused a connection from 127.0.0.1:") == 2
    assert "a proof of the secret came that is wrong" in job.text


def test_only_one_attempt_of_a_run_lives(start_job: StartJob) -> None:
    first = start_job("sleep 5", name="same")
    first.wait_for("worker:0 started")
    second = start_job("true", name="same")
    assert second.wait() == 73
    # the second one's output replaced the first one's file; the message is what counts
    assert f"is being run by process {first.process.pid} on " in second.text


# --- ends ---


def test_a_dead_worker_of_ps_comes_back_at_its_address(start_job: StartJob) -> None:
    program = 'echo "$SLURM_TF_RESTARTS $TF_CONFIG"; case $SLURM_TF_TASK in chief*) sleep 4;; *) sleep 60;; esac'
    job = start_job(program, strategy="ps", roles=PS, max_restarts=1)
    job.wait_for(r"^\[worker:1\] 0 ")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    job.pid("worker:1", start=2)
    assert job.wait() == 0, job.text
    first, second = job.lines("worker:1")
    assert first[0] == "0"
    assert second == "1" + first[1:]
    assert "worker:1 on " in job.text
    assert "was ended by signal 9 (SIGKILL); worker:1 is started again in place (restart 1 of 1)" in job.text


def test_a_dead_chief_takes_everything_along(start_job: StartJob) -> None:
    # programs that do not listen to SIGTERM
    job = start_job("trap '' TERM; while true; do sleep 1; done", strategy="ps", roles=PS)
    pids = [job.pid(task) for task in ("chief:0", "worker:0", "worker:1", "ps:0")]
    os.kill(pids[0], signal.SIGKILL)
    assert job.wait(15) == 137
    assert gone_within(1, pids)
    assert "the job failed: chief:0 on " in job.text


def test_allreduce_starts_all_again_from_one_budget(start_job: StartJob) -> None:
    program = 'echo "start $SLURM_TF_RESTARTS"; [ $SLURM_TF_RESTARTS = 1 ] && exit 0; sleep 60'
    job = start_job(program, max_restarts=1)
    for index in range(2):
        job.wait_for(rf"^\[worker:{index}\] start 0$")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert job.lines("worker:0") == job.lines("worker:1") == ["start 0", "start 1"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_coordinator_ends_the_job(number: int, code: int, start_job: StartJob) -> None:
    job = start_job("sleep 60")
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    job.process.send_signal(number)
    assert job.wait(15) == code
    assert gone_within(1, pids)
    assert "the coordinator got SIG" in job.text


def test_an_interrupt_ends_a_job_that_was_started_with_it_ignored(start_job: StartJob) -> None:
    """A shell starts what runs in the background so."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = start_job("sleep 60")
    finally:
        signal.signal(signal.SIGINT, former)
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    job.process.send_signal(signal.SIGINT)
    assert job.wait(30) == 130
    assert gone_within(1, pids)


def test_a_second_interrupt_does_not_wait(start_job: StartJob) -> None:
    job = start_job("trap '' TERM; while true; do sleep 1; done", kill_wait=60.0)
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    for _ in range(2):
        job.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert job.wait(15) == 130
    assert gone_within(1, pids)


def test_a_signal_before_all_have_come(start_job: StartJob) -> None:
    job = start_job("true", step=["bash", "-c", "echo the step; exec sleep 60"])
    job.wait_for("the step")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(30) == 143


def test_nothing_survives_a_coordinator_that_is_killed(start_job: StartJob) -> None:
    job = start_job("trap '' TERM; while true; do sleep 1; done")
    pids = [job.pid("worker:0"), job.pid("worker:1")]
    os.kill(job.process.pid, signal.SIGKILL)
    # SIGTERM, five seconds, SIGKILL
    assert gone_within(15, pids)


def test_no_program_survives_an_agent_that_is_killed(start_job: StartJob) -> None:
    job = start_job("sleep 60")
    pid = job.pid("worker:1")
    os.kill(job.agent("worker:1"), signal.SIGKILL)
    assert gone_within(2, [pid])
    assert job.wait(20) == 1
    assert "worker:1 on " in job.text
    assert "is lost" in job.text


def test_what_a_program_started_ends_with_it(start_job: StartJob, tmp_path: Path) -> None:
    job = start_job(f"sleep 60 & echo $! > {tmp_path}/child-$SLURM_TF_TASK; exit 0")
    assert job.wait(20) == 0, job.text
    assert not any(is_alive(int(path.read_text())) for path in tmp_path.glob("child-*"))


def test_much_output_arrives_whole(start_job: StartJob) -> None:
    job = start_job("seq 1 200000; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    assert job.wait(60) == 0, job.text[-2000:]
    for task in ("worker:0", "worker:1"):
        lines = job.lines(task)
        assert lines[:200000] == [str(number) for number in range(1, 200001)]
        assert sum(map(len, lines[200000:-1])) == 300000
        assert lines[-1] == "end"


def test_stragglers_are_ended(start_job: StartJob) -> None:
    job = start_job("[ $SLURM_TF_TASK = worker:0 ] || sleep 60", wait=1.0)
    assert job.wait(20) == 0
    assert "ended stragglers worker:1 1 s after worker:0" in job.text


# --- ports ---

LISTEN = f"""exec {sys.executable} -c '
import json, os, socket, time
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]
host, port = config["cluster"][task["type"]][task["index"]].split(":")
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", int(port)))
listener.listen()
time.sleep(float(os.environ["HOLD"]))
'"""


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.long)])
def test_two_jobs_at_the_same_instant_never_share_a_port(times: int, start_job: StartJob) -> None:
    for _ in range(times):
        jobs = [start_job(LISTEN, env={"HOLD": "0.3"}) for _ in range(2)]
        assert [job.wait() for job in jobs] == [0, 0], jobs[0].text + jobs[1].text
        addresses = [task["address"] for job in jobs for task in job.cluster()]
        assert len(set(addresses)) == 4


def test_five_jobs_in_a_range_with_as_many_ports_as_tasks(start_job: StartJob) -> None:
    low, high = free_range(10)
    jobs = [start_job(LISTEN, env={"HOLD": "5"}, ports=(low, high)) for _ in range(5)]
    assert [job.wait() for job in jobs] == [0] * 5, "".join(job.text for job in jobs)
    ports = {int(task["address"].rpartition(":")[2]) for job in jobs for task in job.cluster()}
    assert ports == set(range(low, high + 1))


def test_a_range_that_is_full(start_job: StartJob) -> None:
    low, high = free_range(1)
    job = start_job("true", ports=(low, high), register_timeout=6.0)
    assert job.wait(30) == 75
    assert "the job failed: rank " in job.text
    assert f"every port from {low} to {high} is in use" in job.text
