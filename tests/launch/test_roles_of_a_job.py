"""Jobs of real processes whose roles have commands or launchers of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import LAUNCH, StartJob

pytestmark = pytest.mark.slow


def test_a_role_has_a_command_of_its_own(start_job: StartJob) -> None:
    """With the values of the sweep's point, and again after a restart; other roles have the job's."""
    own = ("bash", "-c", 'echo "serves $1 at start $SLURM_TF_RESTARTS"; sleep 60', "server", "{rate}")
    roles = (RoleSettings("chief", 1), RoleSettings("worker", 1, command=own), RoleSettings("ps", 1, command=own))
    printed = "$(cat $SLURM_TF_RUN_FOLDER/logs/{ps,worker}-0.log | wc -l)"
    until = f"until [ {printed} = $((2 + 2 * SLURM_TF_RESTARTS)) ]; do sleep 0.05; done"
    program = f"echo drives; {until}; exit $((1 - SLURM_TF_RESTARTS))"
    job = start_job(program, strategy="ps", roles=roles, points={"0": {"rate": "0.1"}}, point=0, max_restarts=1)
    assert job.wait() == 0, job.text
    assert job.lines("chief:0") == ["drives"] * 2
    for name in ("worker:0", "ps:0"):
        assert job.lines(name) == ["serves 0.1 at start 0", "serves 0.1 at start 1"]


def test_arguments_and_variables_are_utf_8_where_the_locale_is_not(tmp_path: Path, start_job: StartJob) -> None:
    """Python's encoding is that of the locale; -X utf8=0 as well, which an own encoding of the locale means."""
    python = [sys.executable, "-X", "utf8=0", "-m", "slurm_tf.launch"]
    step = [
        "env",
        "LC_ALL=C",
        *python,
        "local",
        "--ntasks",
        "1",
        "--",
        "env",
        "LC_ALL=C",
        *python,
        "agent",
        "--roles",
        "",
    ]
    own = ("bash", "-c", f'printf "%s\\n" "$@" "$V" > {tmp_path}/seen', "x", "é漢", "{rate}")
    role = RoleSettings("worker", 1, command=own)
    job = start_job(
        "", strategy="single", roles=(role,), env={"V": "ü"}, points={"0": {"rate": "ß"}}, point=0, step=step
    )
    assert job.wait() == 0, job.text
    assert (tmp_path / "seen").read_text(encoding="utf-8") == "é漢\nß\nü\n"


# --- a launcher for each role ---


def test_roles_with_launchers_of_their_own_are_one_cluster(
    start_job: StartJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    roles = (RoleSettings("chief", 1), RoleSettings("worker", 2, 1), RoleSettings("ps", 1, 2))
    program = (
        'echo "$TF_CONFIG gpus=$CUDA_VISIBLE_DEVICES"; case $SLURM_TF_TASK in chief*) sleep 1;; *) sleep 60;; esac'
    )
    job = start_job(program, strategy="ps", roles=roles, each_role=True, wait=0.5)
    assert job.wait() == 0, job.text
    addresses = {task["name"]: task["address"] for task in job.cluster()}
    assert list(addresses) == ["chief:0", "worker:0", "worker:1", "ps:0"]
    for name, gpus in {"chief:0": "", "worker:0": "4", "worker:1": "7", "ps:0": "4,7"}.items():
        config, _, seen = job.lines(name)[0].partition(" gpus=")
        assert json.loads(config)["cluster"]["worker"] == [addresses["worker:0"], addresses["worker:1"]]
        assert ":".join(map(str, json.loads(config)["task"].values())) in (name, f"{name[-1]}:{name[:-2]}")
        assert seen == gpus  # each step has devices of its own: equal names are not those of another role


def test_tensorflow_does_not_hear_of_a_data_service(start_job: StartJob) -> None:
    """But all tasks have its addresses, past every proxy."""
    ends = "case $SLURM_TF_TASK in worker*) sleep 1;; *) sleep 60;; esac"
    program = f'echo "$TF_CONFIG $SLURM_TF_CLUSTER $no_proxy"; {ends}'
    roles = (RoleSettings("worker", 2), RoleSettings("data-dispatcher", 1), RoleSettings("data-worker", 1))
    job = start_job(program, roles=roles)
    assert job.wait(timeout=30) == 0, job.text
    addresses = {task["name"]: task["address"] for task in job.cluster()}
    workers = [addresses["worker:0"], addresses["worker:1"]]
    services = {"data-dispatcher": [addresses["data-dispatcher:0"]], "data-worker": [addresses["data-worker:0"]]}
    (line,) = job.lines("worker:1")
    config, found, proxies = line.split(" ")
    assert json.loads(config) == {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}
    assert json.loads(found) == {"worker": workers, **services}
    assert proxies == "127.0.0.1"
    (line,) = job.lines("data-worker:0")
    assert json.loads(line.split(" ")[1]) == json.loads(found)
    assert line.startswith(" {")  # no TF_CONFIG


def test_all_launchers_end_and_start_again_together(start_job: StartJob) -> None:
    program = "case $SLURM_TF_RESTARTS:$SLURM_TF_TASK in 0:chief*) exit 1;; 1:chief*) exit 0;; *) sleep 60;; esac"
    roles = (RoleSettings("chief", 1), RoleSettings("worker", 2))
    job = start_job(program, roles=roles, each_role=True, max_restarts=1, wait=0.5)
    job.pid("worker:1", start=2)
    assert job.wait() == 0, job.text


def test_a_srun_that_is_refused_ends_the_job_though_others_came(start_job: StartJob, tmp_path: Path) -> None:
    roles = (RoleSettings("worker", 1), RoleSettings("ps", 1))
    job = start_job("true", strategy="between_graph", roles=roles)
    job.wait()
    worker = [*LAUNCH, "local", "--ntasks", "1", "--", *LAUNCH, "agent", "--roles", "worker"]
    ps = ["bash", "-c", "sleep 2; echo 'srun: error: Unable to create step for job 2: Invalid gres' >&2; exit 1"]
    argv = [*LAUNCH, "coordinate", job.submission.path, "--", *worker, "+", *ps]
    with (tmp_path / "log").open("ab") as log:
        done = subprocess.run(argv, stdout=log, stderr=log, timeout=60, check=False)
    assert done.returncode == 1
    assert "srun refused the step: Unable to create step for job 2: Invalid gres" in (tmp_path / "log").read_text()


# --- registration ---
