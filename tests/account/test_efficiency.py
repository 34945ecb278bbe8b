"""One job: asked, used, next time."""

from typing import Any

import pytest

from slurm_tf.account import efficiency
from slurm_tf.account.efficiency import Advice
from slurm_tf.account.usage_record import UsageRecord

NOW = 100_000
GIB = 1024**3


def record(job: str = "12", state: str = "COMPLETED", length: int = 3600, **more: Any) -> UsageRecord:
    values = {
        "started": 1000, "ended": 1000 + length, "eligible": 900, "cpus": 16, "node_count": 1, "memory": 65536,
        "limit": 1440, **more,
    }  # fmt: skip
    return UsageRecord(id=job, raw_id=job.replace("_", ""), state_text=state, **values)


def advice(*records: UsageRecord) -> dict[str, Advice]:
    (asked,) = efficiency.gather(records, NOW).values()
    return {row.key: row for row in efficiency.advice(asked)}


def test_what_is_left_over() -> None:
    rows = advice(record(used_cpu=4.2 * 3600, used_memory=20 * GIB, gpus=4, gpu_type="a100", gpu_use=30.0))
    assert rows["time"] == Advice("time", "1-00:00:00", "01:00:00", 1 / 24, "01:15:00", "shorter jobs start sooner")
    assert (rows["cpus"].asked, rows["cpus"].used, rows["cpus"].next) == ("16", "4.2", "6")
    assert rows["cpus"].share == pytest.approx(4.2 / 16)
    assert (rows["memory"].asked, rows["memory"].used, rows["memory"].next) == ("64G", "20.0G", "mem = 24G")
    assert (rows["gpus"].asked, rows["gpus"].used, rows["gpus"].next) == ("4 a100", "1.2", "2")


def test_what_nobody_recorded_is_unknown() -> None:
    rows = advice(record(gpus=1))
    assert {key: (row.used, row.share, row.next) for key, row in rows.items() if key != "time"} == {
        "cpus": ("unknown", None, ""), "memory": ("unknown", None, ""), "gpus": ("unknown", None, ""),
    }  # fmt: skip
    assert advice(record(limit=None, memory=0))["time"].share is None


def test_what_was_too_little() -> None:
    full: dict[str, Any] = {"used_cpu": 15.9 * 3600, "used_memory": 60 * GIB}
    rows = advice(record(length=3600, limit=62, **full))
    assert [row.next for row in rows.values()] == ["", "", ""]
    rows = advice(record(state="TIMEOUT", length=3720, limit=62), record(length=100, limit=62))
    assert (rows["time"].next, rows["time"].why) == ("01:33:00", "1 of 2 ran into the limit")
    rows = advice(record(state="FAILED", out_of_memory=True, **full))
    assert (rows["memory"].next, rows["memory"].why) == ("mem = 96G", "1 of 1 ran out of it")


def test_a_gpu_that_idles_is_said() -> None:
    assert advice(record(gpus=2, gpu_use=0.2))["gpus"].why == "they were idle"
    one = advice(record("12_1", gpus=1, gpu_use=90.0), record("12_2", gpus=1, gpu_use=60.0, length=7200))["gpus"]
    assert one.share == pytest.approx(0.7)
    assert one.next == ""


def test_memory_is_of_each_node() -> None:
    rows = advice(record(node_count=4, used_memory=8 * GIB))
    assert rows["memory"].next == "mem = 3G on each of 4 nodes"


def test_the_most_of_all_tasks_counts_and_components_are_apart() -> None:
    tasks = [record(f"12_{number}", length=600 * number, used_memory=number * GIB) for number in (1, 5, 3)]
    rows = advice(*tasks, record("12_[6-9]", "PENDING", started=None, ended=None))
    assert (rows["time"].used, rows["memory"].used) == ("00:50:00", "5.0G")
    found = efficiency.gather([record("20+0"), record("20+1", gpus=2), record("20+1", "PREEMPTED", gpus=2)], NOW)
    assert {component: asked.incarnations for component, asked in found.items()} == {"+0": 1, "+1": 2}
    values = efficiency.as_dict("+1", found["+1"])
    assert (values["component"], values["gpus"]) == ("+1", {"asked": 2, "use": None})
    assert values["ends"] == {"completed": 1, "preempted": 1}
    assert values["next"] == {"time": "01:15:00"}
    assert values["waited_seconds"] == 200


def test_what_runs_has_no_advice_yet() -> None:
    rows = advice(record(state="RUNNING", ended=None, used_cpu=5.0))
    assert (rows["time"].used, rows["time"].next, rows["cpus"].used) == ("1-03:30:00", "", "unknown")
