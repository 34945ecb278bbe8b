"""The task of a service: how many processes it has, and when another job has taken over."""

from dataclasses import replace

import pytest

from slurm_tf.errors import AllocationError
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.serve import replica_task
from slurm_tf.serve.replica_task import Place

SETTINGS = ServeSettings({"digits": "/models/digits"}, "/runs/digits-1")
HERE = Place(number=3, task=1, tasks=2, job="70", address="10.0.0.1", ends=1000.0, cpus=16, has_gpus=False)


@pytest.mark.parametrize(
    ("asked", "cpus", "has_gpus", "job", "count"),
    [
        (0, 16, False, "70", 4),
        (0, 3, False, "70", 1),
        (0, 16, True, "70", 1),
        (0, 16, False, "", 1),
        (6, 3, True, "", 6),
    ],
)
def test_processes_of_a_task(asked: int, cpus: int, has_gpus: bool, job: str, count: int) -> None:
    here = replace(HERE, cpus=cpus, has_gpus=has_gpus, job=job)
    assert replica_task.processes(replace(SETTINGS, processes=asked), here) == count


@pytest.mark.parametrize(
    ("names", "now", "taken_over"),
    [
        ([], 0.0, False),
        (["3-0-0", "3-1-0"], 0.0, False),
        (["2-0-0", "2-1-0", "4-0-0"], 0.0, False),
        (["3-0-0", "4-0-0", "4-1-0"], 0.0, True),
        (["5-0-0", "4-1-0"], 0.0, False),  # each has one of two
        (["4-0-0"], 950.0, True),  # the other one does not come, and this job ends soon
        ([], 950.0, False),
    ],
)
def test_another_job_has_taken_over_when_all_its_replicas_answer(
    names: list[str], now: float, taken_over: bool
) -> None:
    assert replica_task.has_successor(names, HERE, expected=2, now=now) == taken_over


def test_what_a_replica_is_told() -> None:
    told = replica_task.of_process(SETTINGS, HERE, 2)
    assert (told.replica, told.job, told.host, told.address) == ("3-1-2", "70", "10.0.0.1", "10.0.0.1")
    assert (told.token_file, told.open, told.plaintext) == ("/runs/digits-1/token", False, False)
    assert told.endpoint_folder == "/runs/digits-1/endpoints"
    opened = replica_task.of_process(replace(SETTINGS, is_open=True), HERE, 0)
    assert (opened.token_file, opened.open) == (None, True)


def test_ports_are_those_of_the_site() -> None:
    here = replace(HERE, address="127.0.0.1")
    told = replica_task.of_process(replace(SETTINGS, ports=(41000, 41999)), here, 0)
    assert 41000 <= told.grpc_port <= 41999
    assert 41000 <= told.rest_port <= 41999


@pytest.mark.parametrize("environ", [{}, {"SLURM_TF_RUN_FOLDER": "/r", "SLURM_TF_TASK": "replica:x"}])
def test_outside_of_a_service_there_is_no_place(environ: dict[str, str]) -> None:
    with pytest.raises(AllocationError, match="no task of a service"):
        replica_task.place(environ)


def test_where_a_task_is() -> None:
    environ = {
        "SLURM_TF_RUN_FOLDER": "/runs/digits-1/3",
        "SLURM_TF_TASK": "replica:1",
        "SLURM_TF_ADDRESS": "[fd00::1]:4000",
        "SLURM_JOB_ID": "70",
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "16",
        "PATH": "/nowhere",
    }
    assert replica_task.place(environ) == replace(HERE, address="fd00::1", ends=None)
    local = {"SLURM_TF_RUN_FOLDER": "/runs/digits-1", "SLURM_TF_TASK": "replica:0"}
    here = replica_task.place(local)
    assert (here.number, here.address, here.is_local) == (0, "127.0.0.1", True)
