"""The job that wrote an output file, by the pattern of its name."""

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.slurm.output_pattern import OutputPattern


@pytest.mark.parametrize(
    ("pattern", "path", "job"),
    [
        ("slurm-%j.out", "logs/slurm-4711.out", "4711"),
        ("%x_%A_%a.out", "train_2_1_4711_3.out", "4711_3"),
        ("/scratch/%u/%8j-%N.txt", "00004711-n01.txt", "4711"),
        ("%j%%[x].%j", "12%[x].12", "12"),
        ("%A_%4a-%J", "12_0000-14", "12_0"),
    ],
)
def test_the_job_of_a_file(pattern: str, path: str, job: str) -> None:
    assert OutputPattern(pattern).job(path) == job


def test_what_is_none_is_said() -> None:
    with pytest.raises(UsageError, match=r"found the pattern '%x\.out'"):
        OutputPattern("%x.out")
    for path in ("slurm-x.out", "slurm-12_3.out", "slurm-12.out\n", "slurm-\u0661.out"):
        with pytest.raises(UsageError, match=r"needed one of the pattern slurm-%j\.out"):
            OutputPattern("slurm-%j.out").job(path)
    with pytest.raises(UsageError, match="found the file name '12-13'"):
        OutputPattern("%j-%j").job("12-13")
