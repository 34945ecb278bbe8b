"""What a program finds in its environment."""

import pytest

from slurm_tf.launch.mapping.assignment import Assignment, program_environ
from slurm_tf.run import env

WORKER = Assignment("worker", 0, None, None, {}, ("train",), False)


@pytest.mark.parametrize(
    ("inherited", "job_env", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "8"}, {}, ("8", "8")),
        ({"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "2"}, {}, ("2", "8")),
        ({"SLURM_CPUS_PER_TASK": "8"}, {"MKL_NUM_THREADS": "1"}, ("8", "1")),
        ({}, {}, (None, None)),
    ],
)
def test_threads_are_the_tasks_cpus_unless_somebody_said_otherwise(
    inherited: dict[str, str], job_env: dict[str, str], threads: tuple[str | None, str | None]
) -> None:
    of_site = {env.THREAD_VARIABLES: "OMP_NUM_THREADS,MKL_NUM_THREADS"}
    environ = program_environ({**inherited, **of_site}, job_env, WORKER, 0)
    assert (environ.get("OMP_NUM_THREADS"), environ.get("MKL_NUM_THREADS")) == threads
    assert env.THREAD_VARIABLES not in environ
    assert "OMP_NUM_THREADS" not in program_environ({"SLURM_CPUS_PER_TASK": "8"}, {}, WORKER, 0)
