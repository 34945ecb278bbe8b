"""Jobs that wait for a job of the run wait for the one that goes on with it: what squeue prints becomes a new list."""

from pathlib import Path

import pytest

from slurm_tf.launch.requeue import dependents


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("afterok:7(unfulfilled)", "afterok:8"),
        ("afterany:7(unfulfilled)", "afterany:8"),
        ("afternotok:7(failed)", "afternotok:8"),
        ("afterok:7", "afterok:8"),
        ("afterok:6(unfulfilled),afterany:7(unfulfilled)", "afterok:6,afterany:8"),
        ("afterok:7(unfulfilled)?afterok:6_*(unfulfilled)", "afterok:8?afterok:6_*"),
        ("singleton(unfulfilled),afterok:7(unfulfilled)", "singleton,afterok:8"),
        ("after:6+10(unfulfilled),afterok:7(unfulfilled)", "after:6+10,afterok:8"),
        # Slurm may have forgotten job 6
        ("afterok:6(fulfilled),afterok:7(unfulfilled)", "afterok:8"),
        # it has started long ago
        ("after:7(unfulfilled)", None),
        ("afterok:17(unfulfilled),afterok:70(unfulfilled)", None),
        ("afterok:7_1(unfulfilled)", None),
        ("afterok:7_*(unfulfilled)", None),
        ("(null)", None),
        ("", None),
        ("afterok:7(unfulfilled),expand what", None),
    ],
)
def test_dependencies_on_a_job(text: str, moved: str | None) -> None:
    assert dependents.replace(text, "7", "8") == moved


def test_dependencies_on_a_task_of_an_array() -> None:
    text = "afterok:7_3(unfulfilled),afterok:7_4(unfulfilled)"
    assert dependents.replace(text, "7_3", "8_3") == "afterok:8_3,afterok:7_4"
    assert dependents.replace("afterok:7_*(unfulfilled)", "7_3", "8_3") is None


def test_jobs_are_updated_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name, body in (("squeue", "echo '100|afterok:98|100'; echo '99|afterany:98|99'"), ("scontrol", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    changes = dependents.wait_for_successor("98", "102", {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert changes == [f"job {job} waits now for job 102, not for job 98" for job in (99, 100)]
