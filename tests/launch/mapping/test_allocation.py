"""What a task reads of itself, from environments that Slurm 22.05.8 made (tests/recorded/record_allocations.py)."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_tf.errors import AllocationError
from slurm_tf.launch.mapping.allocation import Allocation, expected_nodes, of_task
from tests.conftest import RECORDED

RECORDINGS = {path.stem: json.loads(path.read_text()) for path in sorted((RECORDED / "slurm-22.05.8").glob("*.json"))}
CASES = {name: recorded for name, recorded in RECORDINGS.items() if "tasks" in recorded}


def allocations(name: str) -> list[Allocation]:
    return [Allocation.from_environ(task) for task in CASES[name]["tasks"]]


@pytest.mark.parametrize("name", CASES)
def test_ranks_and_nodes_of_every_recorded_step(name: str) -> None:
    tasks = allocations(name)
    assert [task.rank for task in tasks] == list(range(len(tasks)))
    assert {task.tasks for task in tasks} == {len(tasks)}
    for task, environ in zip(tasks, CASES[name]["tasks"], strict=True):
        assert task.node == environ["SLURMD_NODENAME"]
        # Slurm's own list of the ranks on this node
        ranks = [int(rank) for rank in environ["SLURM_GTIDS"].split(",")]
        assert ranks[task.local_rank] == task.rank


# an arbitrary distribution follows a host file that the batch step may not have yet
@pytest.mark.parametrize("name", [name for name in CASES if name != "arbitrary"])
def test_nodes_that_a_batch_script_expects(name: str) -> None:
    came: dict[str, int] = {}
    for task in allocations(name):
        came[task.node] = came.get(task.node, 0) + 1
    assert expected_nodes(CASES[name]["batch"]) == came


@pytest.mark.parametrize(
    ("name", "gpus", "bound"),
    [
        ("cpu-one-node", [None, None], [False, False]),
        ("gres-2", [("0", "1")] * 4, [False] * 4),
        ("gres-1-shared", [("0",)] * 2, [False] * 2),
        ("gpus-per-node-2", [("0", "1")] * 4, [False] * 4),
        ("gpus-per-task-1", [("0",)] * 4, [True] * 4),
        ("gpus-4-uneven", [("0", "1", "2")] * 3 + [("0",)], [False] * 4),
        ("het-ps-cpu-worker-gpu", [None] + [("0", "1")] * 4 + [None, None], [False] * 7),
    ],
)
def test_gpus(name: str, gpus: list[tuple[str, ...] | None], bound: list[bool]) -> None:
    assert [task.gpus for task in allocations(name)] == gpus
    assert [task.gpus_bound for task in allocations(name)] == bound


STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1", "SLURMD_NODENAME": "n1"}


@pytest.mark.parametrize(
    ("variables", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f2c,MIG-1a2b"}, ("GPU-8f2c", "MIG-1a2b")),
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, ("2", "3")),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "5,6"}, ("0", "1")),  # of another node, in a task
    ],
)
def test_device_names(variables: dict[str, str], gpus: tuple[str, ...]) -> None:
    assert Allocation.from_environ({**STEP, **variables}).gpus == gpus


@pytest.mark.parametrize(
    ("variables", "bound"),
    [
        ({"SLURM_GPUS_ON_NODE": "4"}, True),  # sees fewer than there are
        ({"SLURM_GPUS_ON_NODE": "2"}, False),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURMD_TRES_BIND": "gpu:per_task:1"}, True),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_TRES_PER_TASK": "cpu=1,gres/gpu=1"}, True),  # from 24.11 on
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_TRES_PER_TASK": "cpu=1"}, False),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_TRES_BIND": "gres/gpu:closest"}, False),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_TRES_BIND": "gres/gpu:verbose,single:1"}, True),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURMD_TRES_BIND": "gpu:closest", "SLURM_GPUS_PER_TASK": "1"}, False),
        ({}, False),
    ],
)
def test_bound_devices(variables: dict[str, str], bound: bool) -> None:
    environ: dict[str, Any] = {**STEP, "CUDA_VISIBLE_DEVICES": "0,1", **variables}
    assert Allocation.from_environ(environ).gpus_bound is bound


def test_a_task_in_an_oci_container_that_slurm_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm 22.05 sets no variable of a task there; each node of the step has one."""
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "3", "SLURM_STEP_NODELIST": "gpu[07-08],login.site", "HOME": "/"}
    inside = {**step, "SLURM_TF_INSIDE": "oci"}
    for host, node, rank in (("gpu08", "gpu08", 1), ("gpu07.cluster", "gpu07", 0), ("login", "login.site", 2)):
        monkeypatch.setattr("os.uname", lambda host=host: SimpleNamespace(nodename=host))
        found = Allocation.from_environ(of_task(inside))
        assert (found.node, found.rank, found.local_rank, found.gpus) == (node, rank, 0, None)
    assert Allocation.from_environ(of_task({**inside, **STEP})).rank == 1  # as a later Slurm sets them
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="other"))
    with pytest.raises(AllocationError, match=r"host name is other, and the nodes of the step are gpu07, gpu08, login"):
        of_task(inside)
    with pytest.raises(AllocationError, match="no task of a Slurm step"):
        Allocation.from_environ(of_task(step))


def test_the_batch_shell_gets_one_clear_hint() -> None:
    # a TaskProlog gives the batch step SLURM_PROCID=0 as well
    batch = CASES["uneven-packed"]["batch"]
    assert batch["SLURM_PROCID"] == "0"
    with pytest.raises(AllocationError, match=r"no task of a Slurm step.*\nHINT: put srun in front of the command"):
        Allocation.from_environ(batch)
    with pytest.raises(AllocationError, match="HINT"):
        Allocation.from_environ({})


def test_the_shell_of_an_interactive_step_gets_the_same_hint() -> None:
    # salloc with LaunchParameters=use_interactive_step: one shell, and the job's SLURM_NTASKS
    with pytest.raises(AllocationError, match=r"it is the shell of the allocation.*\nHINT: put srun in front"):
        Allocation.from_environ({**STEP, "SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"})


def test_a_number_that_is_none() -> None:
    with pytest.raises(AllocationError, match="SLURM_NTASKS is 'x'"):
        Allocation.from_environ({**STEP, "SLURM_NTASKS": "x"})


def test_restarts_are_unset_at_the_first_start() -> None:
    assert Allocation.from_environ(STEP).restarts == 0
    assert Allocation.from_environ({**STEP, "SLURM_RESTART_COUNT": "2"}).restarts == 2


def test_recordings_name_their_slurm() -> None:
    assert {case["slurm"] for case in CASES.values()} == {"22.05.8"}
    assert Path(RECORDED / "slurm-22.05.8").is_dir()
