"""The line that says that a job ran out of memory, and Slurm's own that say so."""

import pytest

from slurm_tf.slurm import out_of_memory

MIB = 1 << 20


@pytest.mark.parametrize(
    ("environ", "limit", "used", "line"),
    [
        (
            {"SLURM_MEM_PER_NODE": "100"}, 100 * MIB, 100 * MIB,
            "out of memory: the job may use 100M on the node (--mem=100M) and used 100M of it; "
            "ask for more, --mem=150M at first, or use a smaller batch",
        ),
        (
            {"SLURM_MEM_PER_CPU": "4096"}, 32768 * MIB, 32700 * MIB,
            "out of memory: the job may use 32G on the node (--mem-per-cpu=4G) and used 32G of it; "
            "ask for more, --mem-per-cpu=6G at first, or use a smaller batch",
        ),
        (
            {"SLURM_MEM_PER_GPU": "65536"}, None, None,
            "out of memory: it asked for --mem-per-gpu=64G; ask for more, --mem-per-gpu=96G at first, "
            "or use a smaller batch",
        ),
        (
            {}, 2048 * MIB, 2048 * MIB,
            "out of memory: the job may use 2G on the node and used 2G of it; ask for more, --mem=3G at first, "
            "or use a smaller batch",
        ),
        ({"SLURM_MEM_PER_NODE": "0"}, None, None, "out of memory; ask for more (--mem), or use a smaller batch"),
    ],
)  # fmt: skip
def test_what_was_asked_used_and_is_to_be_asked_for(
    environ: dict[str, str], limit: int | None, used: int | None, line: str
) -> None:
    assert out_of_memory.words(out_of_memory.asked_in(environ), limit, used) == line


@pytest.mark.parametrize(
    ("line", "is_printed"),
    [
        ("slurmstepd-node1: error: Detected 1 oom-kill event(s) in StepId=1.0. Some of your processes may", True),
        ("slurmstepd: error: Detected 2 oom_kill events in StepId=7.batch. Some of the step tasks have been", True),
        ("slurmstepd: error: StepId=7.0 exceeded memory limit (409600 > 102400), being killed", True),
        ("slurmstepd: error: Exceeded job memory limit", True),
        ("srun: error: node1: task 0: Out Of Memory", True),
        ("srun: error: node[1-2]: tasks 0-1: Out Of Memory", True),
        ("[worker:0] srun: error: node1: task 0: Out Of Memory", False),
        ("srun: error: node1: task 0: Exited with exit code 1", False),
    ],
)
def test_slurms_own_words(line: str, is_printed: bool) -> None:
    assert out_of_memory.is_printed(f"before\n{line}\nafter\n") == is_printed
