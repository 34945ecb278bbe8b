"""Why srun creates no step: the text is what srun 22.05.8 printed on the sandbox, with the variable that did it."""

import pytest

from slurm_tf.slurm import step_refusal

# what Slurm itself sets in a job of two tasks
IN_A_JOB = {"SLURM_JOB_ID": "3", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "1", "HOME": "/h"}
PROCESSORS = "Unable to create step for job 3: More processors requested than permitted"
GRES = "Unable to create step for job 3: Invalid generic resource (gres) specification"


@pytest.mark.parametrize(
    ("name", "value", "printed", "text"),
    [
        ("SRUN_CPUS_PER_TASK", "64", f"srun: error: {PROCESSORS}\n", PROCESSORS),
        (
            "SLURM_GPUS_PER_TASK",
            "1",
            f"srun: error: Step requested GRES but job doesn't have GRES\nsrun: error: {GRES}\n",
            GRES,
        ),
        ("SLURM_GRES", "gpu:9", f"bash: a line of setup\nsrun: error: {GRES}\n", GRES),
        ("SLURM_DISTRIBUTION", "arbitrary", "srun: error: invalid number of tasks (-n 0)\n", "invalid number of tasks"),
        ("SLURM_TIMELIMIT", "foo", "srun: error: Invalid --time specification\n", "Invalid --time specification"),
        ("SLURM_HINT", "foo", 'srun: error: unrecognized --hint argument "foo", see --hint=help\n', "unrecognized"),
        (
            "SLURM_THREADS_PER_CORE",
            "4",
            "srun: error: Unable to create step for job 3: Cannot request more threads per core than the job "
            "allocation\n",
            "more threads per core",
        ),
        ("SLURM_EXCLUSIVE", "1", "srun: error: Invalid --exclusive specification\n", "--exclusive"),
        (
            "SLURM_CONSTRAINT",
            "big",
            "srun: Job 3 step creation temporarily disabled, retrying (Requested nodes are busy)\n"
            "srun: Job 3 step creation still disabled, retrying (Requested nodes are busy)\n",
            "no node of the job ever has",
        ),
    ],
)
def test_a_refusal_that_comes_again_and_the_variable(name: str, value: str, printed: str, text: str) -> None:
    found = step_refusal.find(printed, {**IN_A_JOB, name: value}, is_first=True)
    assert found is not None
    assert text in found.text
    assert f"{name}={value}" in found.variables
    assert not [each for each in found.variables if each.startswith(("SLURM_JOB_ID", "SLURM_GPUS_ON_NODE", "HOME"))]


def test_no_variable_is_named_where_only_options_can_be_the_cause() -> None:
    printed = "srun: unrecognized option '--nosuch'\nTry \"srun --help\" for more information\n"
    assert step_refusal.find(printed, IN_A_JOB, is_first=True) == step_refusal.Refusal(
        "unrecognized option '--nosuch'", ()
    )


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "slurm-tf: 0/2 tasks registered, waiting for worker:0\n",
        "srun: error: Unable to create step for job 3: Job/step already completing or completed\n",
        "srun: Cancelled pending job step with signal 15\n"
        "srun: error: Unable to create step for job 3: Job/step already completing or completed\n",
        "srun: error: Unable to create step for job 3: Unable to contact slurm controller (connect failure)\n",
        "srun: error: Unable to create step for job 3: Socket timed out on send/recv operation\n",
        "srun: error: Unable to confirm allocation for job 9: Invalid job id specified\n"
        "srun: Check SLURM_JOB_ID environment variable. Expired or invalid job 9\n",
        # a step was created
        "slurmstepd-node2: error: execve(): /nosuch: No such file or directory\n"
        "srun: error: node2: tasks 0-1: Exited with exit code 2\n",
        "srun: error: Task launch for StepId=3.0 failed on node node1: Invalid job credential\n"
        "srun: error: Application launch failed: Invalid job credential\n",
        "srun: Warning: can't honor --ntasks-per-node set to 1 which doesn't match the requested tasks 2\n",
        "srun: Job 3 step creation temporarily disabled, retrying (Prolog is running)\n",
    ],
)
def test_what_another_try_may_mend(printed: str) -> None:
    assert step_refusal.find(printed, {**IN_A_JOB, "SLURM_GRES": "gpu:9"}, is_first=True) is None


@pytest.mark.parametrize(
    "printed",
    [
        "srun: Job 3 step creation still disabled, retrying (Requested nodes are busy)\n",
        # its third node died under the step before, and the job (--no-kill) went on without it
        "srun: error: Node failure on node3\n"
        "srun: error: SLURM_JOB_NUM_NODES environment variable conflicts with allocated node count (3 != 2).\n"
        f"srun: error: {PROCESSORS}\n",
        f"srun: error: {PROCESSORS}\n",
    ],
)
def test_what_a_former_step_holds_or_a_dead_node_had_is_no_refusal(printed: str) -> None:
    assert step_refusal.find(printed, IN_A_JOB, is_first=False) is None


def test_a_value_is_shown_on_one_short_line() -> None:
    found = step_refusal.find(f"srun: error: {GRES}\n", {"SLURM_GRES": "a\n" + 200 * "b"}, is_first=True)
    assert found is not None
    assert found.variables == ("SLURM_GRES=a?" + 78 * "b",)
