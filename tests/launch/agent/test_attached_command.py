"""A command beside the program of a task: whose environment it has, and what is not passed on."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from slurm_tf.launch.agent import attached_command, program_namespaces
from tests.launch.conftest import LAUNCH, LocalJob, StartJob

PROGRAM = 'cd / && touch "$SLURM_TF_RUN_FOLDER/up-$SLURM_TF_TASK"; while :; do sleep 1; done'


def attach(
    job: LocalJob, task: str, *command: str, typed: str = "", environ: Mapping[str, str] = {}
) -> "subprocess.CompletedProcess[str]":
    """Run a command as srun does on the node."""
    return subprocess.run(
        [*LAUNCH, "attach", job.run.path, task, "--", *command], env={**os.environ, "TERM": "vt220", **environ},
        input=typed, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_it_is_where_the_program_is_with_what_the_program_has(start_job: StartJob) -> None:
    job = start_job(PROGRAM, env={"MINE": "a\nb", "TERM": "dumb", "SHELL": "/bin/sh"})
    for task in ("worker:0", "worker:1"):
        job.wait_for(rf"{task} started")
        while not Path(job.run.path, f"up-{task}").exists():  # its shell has not run yet
            assert job.process.poll() is None, job.text
    show = "env -0; pwd; exit 7"
    done = attach(job, "worker:1", "sh", "-c", show, environ={"OTHER": "1"})
    *pairs, folder = done.stdout.split("\0")
    environ = dict(each.split("=", 1) for each in pairs)
    assert (done.returncode, folder, done.stderr) == (7, "/\n", "")
    assert json.loads(environ["TF_CONFIG"])["task"] == {"type": "worker", "index": 1}
    assert (environ["MINE"], environ["TERM"], environ["SLURM_TF_TASK"]) == ("a\nb", "vt220", "worker:1")
    # of the agent's connection, which the command has not, and of the shell that it was typed in
    assert not {"SLURM_TF_CONTROL_FD", "OTHER"} & set(environ)
    # without a command a shell reads what is typed
    typed = attach(job, "worker:0", typed="echo in $SLURM_TF_TASK; exit 5\n")
    assert (typed.returncode, typed.stdout) == (5, "in worker:0\n")
    # a command that is attached has the task's environment as well, and is not the task
    nested = attach(job, "worker:0", *LAUNCH, "attach", job.run.path, "worker:0", "--", "sh", "-c", "exit 3")
    assert nested.returncode == 3
    missing = attach(job, "worker:0", "no such program")
    assert (missing.returncode, missing.stderr) == (
        127, "slurm-tf: cannot start 'no such program': No such file or directory\n",
    )  # fmt: skip
    nobody = attach(job, "worker:2", "true")
    assert nobody.returncode == 69
    assert nobody.stderr.startswith(f"slurm-tf: found no program of worker:2 on {os.uname().nodename}; needed a task")


# a shell stays before it, as a runtime does that serves the image's files
CONTAINER = """\
unshare --user --map-current-user --mount --keep-caps sh -c '
mount -t tmpfs tmpfs /mnt && cd /mnt && touch inside "$SLURM_TF_RUN_FOLDER/up" && exec sleep 60'
exit 3
"""


@pytest.mark.slow
def test_it_sees_what_a_program_in_a_container_sees(start_job: StartJob) -> None:
    job = start_job(CONTAINER, env={"SHELL": "/no/such/shell"}, strategy="single")
    while not Path(job.run.path, "up").exists():
        assert job.process.poll() is None, job.text
        time.sleep(0.05)
    done = attach(job, "worker:0", "sh", "-c", "pwd; ls /mnt; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "/mnt\ninside\n", "")
    typed = attach(job, "worker:0", typed="ls /mnt\n")
    assert (typed.returncode, typed.stdout) == (0, "inside\n")
    assert not Path("/mnt/inside").exists()


def test_outside_of_a_container_that_cannot_be_entered_programs_are_those_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: int) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(program_namespaces, "have_other_mounts", lambda _: True)
    monkeypatch.setattr(program_namespaces, "enter", refuse)
    assert attached_command._enter(os.getpid()) == "Operation not permitted"
    inside = {"PATH": "/image", "PYTHONPATH": "/image", "TF_CONFIG": "{}", "SHELL": "/image/sh"}
    found = attached_command.outside_of(inside, {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/cuda", "HOME": "/root"})
    assert found == {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/cuda", "TF_CONFIG": "{}"}


PROGRAM_ENVIRON = {
    "CUDA_VISIBLE_DEVICES": "0", "PMIX_RANK": "1", "PMI_FD": "7", "OMPI_COMM_WORLD_RANK": "1", "OMPI_MCA_btl": "tcp",
    "SLURM_TF_CONTROL_FD": "9", "TERM": "dumb",
}  # fmt: skip


def test_mpi_and_the_agent_would_take_it_for_the_program() -> None:
    environ, remark = attached_command.environment(PROGRAM_ENVIRON, {"TERM": "xterm"}, "worker:1")
    assert (environ, remark) == ({"CUDA_VISIBLE_DEVICES": "0", "OMPI_MCA_btl": "tcp", "TERM": "xterm"}, "")


@pytest.mark.parametrize("name", ["SLURMD_TRES_BIND", "SLURM_TRES_BIND"])
def test_gpus_of_its_own_are_others_in_another_step(name: str) -> None:
    bound = {**PROGRAM_ENVIRON, name: "gpu:per_task:1"}
    environ, remark = attached_command.environment(bound, {"CUDA_VISIBLE_DEVICES": "0,1"}, "worker:1")
    assert environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert remark == "warning: Slurm gave worker:1 GPUs of its own; those here may be other ones of the job: 0,1"
    # one that uses none keeps to that
    environ, remark = attached_command.environment({**bound, "CUDA_VISIBLE_DEVICES": ""}, environ, "ps:0")
    assert (environ["CUDA_VISIBLE_DEVICES"], remark) == ("", "")
