"""Why containers of a step did not start, from what srun 22.05.8 printed with crun 1.8.1 (tests/sandbox)."""

import pytest

from slurm_tf.slurm import container_refusal

NO_PYTHON = """\
executable file `python3` not found in $PATH: No such file or directory
executable file `python3` not found in $PATH: No such file or directory
srun: error: node2: task 1: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=10.0
srun: error: node1: task 0: Exited with exit code 1
"""
NO_BUNDLE = """\
srun: error: Task launch for StepId=15.0 failed on node node1: No such file or directory
srun: error: Application launch failed: No such file or directory
srun: Job step aborted
"""
PYXIS = """\
slurmstepd-node3: error: pyxis: failed to import docker image
slurmstepd-node3: error: *** STEP 7.0 ON node3 CANCELLED AT 2026-11-28T04:52:19 ***
srun: error: node3: tasks 0-1: Exited with exit code 1
"""


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (NO_PYTHON, f"node2: Exited with exit code 1: {NO_PYTHON.splitlines()[0]}"),
        (NO_BUNDLE, "node1: No such file or directory"),
        (PYXIS, "node3: Exited with exit code 1: slurmstepd-node3: error: pyxis: failed to import docker image"),
        ("srun: error: Unable to create step for job 2: Invalid job id specified\n", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_node_and_the_runtimes_own_words(printed: str, found: str) -> None:
    assert container_refusal.find(printed) == found
