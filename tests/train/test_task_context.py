"""The task that a process is, by its environment: under slurm-tf, under other launchers, alone."""

import json

import pytest

from slurm_tf.errors import RunError
from slurm_tf.run import env
from slurm_tf.run.version import VERSION
from slurm_tf.train.task_context import TaskContext

ALLREDUCE = {"worker": ["a:1", "b:1"]}
PS = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}


def tf_config(cluster: dict[str, list[str]], role: str, index: int) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})}


@pytest.mark.parametrize(
    ("environ", "strategy", "role", "rank", "size"),
    [
        ({}, "single", "worker", 0, 1),
        (tf_config(ALLREDUCE, "worker", 1), "multi_worker", "worker", 1, 2),
        (tf_config(PS, "chief", 0), "ps", "chief", 0, 3),
        (tf_config(PS, "worker", 1), "ps", "worker", 2, 3),
        (tf_config(PS, "ps", 0), "ps", "ps", 0, 3),
        ({"HOROVOD_RANK": "2", "HOROVOD_SIZE": "4"}, "horovod", "worker", 2, 4),
        ({env.STRATEGY: "mirrored"}, "mirrored", "worker", 0, 1),
        ({**tf_config(PS, "worker", 0), env.STRATEGY: "between_graph"}, "between_graph", "worker", 1, 3),
    ],
)
def test_strategy_role_and_rank(environ: dict[str, str], strategy: str, role: str, rank: int, size: int) -> None:
    task = TaskContext.from_environ(environ)
    assert (task.strategy, task.role, task.rank, task.size) == (strategy, role, rank, size)


def test_the_counts_of_other_roles() -> None:
    task = TaskContext.from_environ(tf_config(PS, "chief", 0))
    assert (task.workers, task.parameter_servers) == (2, 1)


def test_what_the_agent_sets() -> None:
    environ = {
        env.CONTRACT: str(VERSION), env.RUN_FOLDER: "/r", env.CHECKPOINT_FOLDER: "/r/checkpoints",
        env.EXPORT_FOLDER: "/r/export", env.ATTEMPT: "12.1", env.STEP: "3", env.CONTROL_FD: "7",
    }  # fmt: skip
    task = TaskContext.from_environ(environ)
    assert (task.run_folder, task.checkpoint_folder, task.export_folder) == ("/r", "/r/checkpoints", "/r/export")
    assert (task.attempt, task.slurm_step, task.agent_fd) == ("12.1", 3, 7)


def test_another_release_is_refused() -> None:
    with pytest.raises(RunError):
        TaskContext.from_environ({env.CONTRACT: "0"})
