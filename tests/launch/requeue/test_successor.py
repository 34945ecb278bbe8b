"""When the job that takes over from a job of a service may start, and how it is asked for."""

import time

import pytest

from slurm_tf.launch.requeue import successor
from slurm_tf.slurm import in_job


@pytest.mark.parametrize(
    ("length", "overlap", "minutes"),
    [
        (86400, 600, 1430),  # ten minutes before the end of a day
        (3600, 90, 58),  # rounded down: rather too soon
        (120, 600, 1),  # of two minutes, at half
        (30, 600, 1),  # never before a minute is over: Slurm would start one job after the other
        (None, 600, None),
    ],
)
def test_the_other_job_may_start_before_this_one_ends(length: int | None, overlap: float, minutes: int | None) -> None:
    ends = None if length is None else time.time() + length - 7 + 0.5
    assert successor._minutes(ends, 7.0, overlap) == minutes


def test_the_other_job_waits_for_a_time_or_for_the_end() -> None:
    command = in_job.takeover_command("/s", "/r/slurm-%j.out", "7", 58, 3)
    assert command == [
        "sbatch", "--parsable", "--output=/r/slurm-%j.out", "--dependency=after:7+58?afterany:7", "/s", "3"
    ]  # fmt: skip
    assert in_job.has_lost_node(in_job.Answer(0, "COMPLETING|NodeDown\n", ""))
    assert in_job.has_lost_node(in_job.Answer(0, "NODE_FAIL|NodeDown\n", ""))
    assert not in_job.has_lost_node(in_job.Answer(0, "COMPLETING|None\n", ""))
    assert "--dependency=afterany:7" in in_job.takeover_command("/s", "/r", "7", None, 3)
