"""One job: asked, used, next time."""

from typing import Any

import pytest

from slurm_tf.account import efficiency, job_use
from slurm_tf.account.efficiency import Advice
from slurm_tf.account.job_use import JobUse

GIB = 1024**3


def record(job: str = "12", state: str = "COMPLETED", length: int = 3600, **more: Any) -> JobUse:
    values = {
        "started": 1000, "ended": 1000 + length, "eligible": 900, "elapsed": length, "cpus": 16, "node_count": 1,
        "memory": 65536, "time_limit": 1440, "exit_class": state.lower().replace("_", " "), **more,
    }  # fmt: skip
    return job_use.read({"id": job, "state": state, **values}, values.pop("steps", ()))


def advice(*records: JobUse) -> dict[str, Advice]:
    (asked,) = efficiency.gather(records).values()
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
    assert advice(record(time_limit=None, memory=0))["time"].share is None


def test_what_was_too_little() -> None:
    full: dict[str, Any] = {"used_cpu": 15.9 * 3600, "used_memory": 60 * GIB}
    rows = advice(record(length=3600, time_limit=62, **full))
    assert [row.next for row in rows.values()] == ["", "", ""]
    rows = advice(record(state="TIMEOUT", length=3720, time_limit=62), record(length=100, time_limit=62))
    assert (rows["time"].next, rows["time"].why) == ("01:33:00", "1 of 2 ran into the limit")
    rows = advice(record(state="OUT_OF_MEMORY", **full))
    assert (rows["memory"].next, rows["memory"].why) == ("mem = 96G", "1 of 1 ran out of it")


def test_a_gpu_that_idles_is_said() -> None:
    assert advice(record(gpus=2, gpu_use=0.2))["gpus"].why == "they were idle"
    one = advice(record("12_1", gpus=1, gpu_use=90.0), record("12_2", gpus=1, gpu_use=60.0, length=7200))["gpus"]
    assert one.share == pytest.approx(0.7)
    assert one.next == ""


def test_memory_is_of_each_node() -> None:
    rows = advice(record(node_count=4, used_memory=8 * GIB, memory=4 * 65536))
    assert rows["memory"].next == "mem = 10G on each of 4 nodes"
    assert rows["memory"].why.startswith("one node held up to 8.0G; ")


def test_the_most_of_all_tasks_counts_and_components_are_apart() -> None:
    tasks = [record(f"12_{number}", length=600 * number, used_memory=number * GIB) for number in (1, 5, 3)]
    rows = advice(*tasks, record("12_[6-9]", "PENDING", started=None, ended=None, elapsed=None))
    assert (rows["time"].used, rows["memory"].used) == ("00:50:00", "5.0G")
    found = efficiency.gather([record("20+0"), record("20+1", gpus=2), record("20+1", "PREEMPTED", gpus=2)])
    assert {component: asked.incarnations for component, asked in found.items()} == {"+0": 1, "+1": 2}
    values = efficiency.as_dict("+1", found["+1"])
    assert (values["component"], values["gpus"]) == ("+1", {"asked": 2, "use": None})
    assert values["ends"] == {"completed": 1, "preempted": 1}
    assert values["next"] == {"time": "01:15:00"}
    assert values["waited_seconds"] == 200


def test_components_are_in_the_order_of_their_numbers() -> None:
    found = efficiency.gather([record(f"20+{number}") for number in (10, 2, 0, 11)])
    assert list(found) == ["+0", "+2", "+10", "+11"]


def test_what_runs_has_no_advice_yet() -> None:
    rows = advice(record(state="RUNNING", length=99000, ended=None, used_cpu=5.0))
    assert (rows["time"].used, rows["time"].next, rows["cpus"].used) == ("1-03:30:00", "", "unknown")


def step(name: str, nodes: str, count: int, tasks: int | None, rss: int, total: int | None = None) -> dict[str, Any]:
    return {
        "step": name, "nodes": nodes, "node_count": count, "tasks": tasks, "max_rss": rss, "total_memory": total,
        "started": 1000, "ended": 4600,
    }  # fmt: skip


MIB = 1024**2
BATCH = 33824748 * 1024


@pytest.mark.parametrize(
    ("nodes", "memory", "used", "steps", "wanted"),
    [
        (20, 20 * 191846, BATCH, [step("batch", "", 1, None, BATCH)], "mem = 39G on each of 20 nodes"),
        (4, 4 * 65536, 3584 * MIB, [step("0", "n1", 1, 1, 3584 * MIB)], "mem = 5G on each of 4 nodes"),
        (4, 4 * 65536, 52 * GIB, [step("0", "n[1-4]", 4, 4, 40 * GIB, 52 * GIB)], "mem = 48G on each of 4 nodes"),
        # one node of four used more than was asked for on each, in all it is less
        (4, 4 * 16384, 52 * GIB, [step("0", "n[1-4]", 4, 4, 40 * GIB, 52 * GIB)], "mem = 48G on each of 4 nodes"),
        # what may have been on one node is more, but nothing says that it was
        (2, 2 * 65536, 52 * GIB, [step("0", "n[1-2]", 2, 4, 40 * GIB, 52 * GIB)], ""),
        (1, 16384, 17 * GIB, [step("0", "n1", 1, 4, 5 * GIB, 17 * GIB)], "mem = 21G"),
        (1, 16384, 15 * GIB, [step("0", "n1", 1, 4, 5 * GIB, 15 * GIB)], ""),
    ],
    ids=["batch", "one of four", "chief", "too little", "a bound", "above 100%", "as now"],
)  # fmt: skip
def test_memory_advice_does_not_kill_the_next_run(
    nodes: int, memory: int, used: int, steps: list[dict[str, Any]], wanted: str
) -> None:
    row = advice(record(node_count=nodes, memory=memory, used_memory=used, steps=steps))["memory"]
    assert row.next == wanted


def test_memory_of_steps_whose_tasks_nobody_knows_is_unknown() -> None:
    row = advice(record(used_memory=4 * GIB, steps=[step("0", "n1", 1, None, 4 * GIB)]))["memory"]
    assert (row.used, row.share, row.next) == ("unknown", None, "")
    assert "no NTasks" in row.why


@pytest.mark.parametrize(
    ("state", "length"), [("FAILED", 2), ("RUNNING", 2), ("FAILED", 7200), ("CANCELLED", 7200), ("COMPLETED", 299)]
)
def test_runs_that_say_nothing_give_no_advice(state: str, length: int) -> None:
    short = record(
        state=state, length=length, cpus=32, memory=2**18, used_cpu=1.0, used_memory=MIB, gpus=2, gpu_use=0.0
    )
    assert {row.next for row in advice(short).values()} == {""}
    (asked,) = efficiency.gather([short]).values()
    assert efficiency.notes(asked)[0].startswith("no advice to ask for less: no incarnation completed")
    full = record(used_cpu=3600.0, used_memory=GIB)
    assert [row.next for row in advice(short, full).values()][1:3] == ["2", "mem = 1280M"]


def test_what_ran_out_of_something_asks_for_more_however_short_it_was() -> None:
    rows = advice(record(state="OUT_OF_MEMORY", length=9, memory=1000, used_memory=GIB))
    assert rows["memory"].next == "mem = 1536M"
    rows = advice(record(state="TIMEOUT", length=7200, time_limit=None))
    assert (rows["time"].asked, rows["time"].next) == ("no limit, or unknown", "03:00:00")
    rows = advice(record(state="OUT_OF_MEMORY", memory=None, time_limit=None))
    assert (rows["memory"].asked, rows["memory"].used, rows["memory"].next) == ("unknown", "unknown", "")


def test_more_cpus_than_asked_for_are_not_as_now() -> None:
    row = advice(record(cpus=2, used_cpu=3600.0 * 7.2))["cpus"]
    assert (row.next, row.why) == ("8", "it used more than it asked for")


def test_jobs_without_times_but_with_a_length() -> None:
    (asked,) = efficiency.gather([record(started=None, ended=None, eligible=None)]).values()
    assert (asked.seconds, asked.waited, asked.telling) == (3600, None, 1)
    assert efficiency.notes(asked, ["TotalCPU", "Eligible", "NodeList"]) == [
        "no column TotalCPU: CPU time is UserCPU + SystemCPU, else AveCPU x NTasks, else unknown"
    ]
    (asked,) = efficiency.gather([record(node_count=2)]).values()
    lines = efficiency.notes(asked, ["AllocTRES", "Eligible", "NodeList"])
    assert [line.partition(":")[0] for line in lines] == [
        "no column AllocTRES", "no column Eligible", "no column NodeList",
    ]  # fmt: skip
