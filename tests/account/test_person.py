"""The reports for a person and for the leader of an account: hours, what was wasted and why, what nobody used."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from slurm_tf.account import group, person, waste
from slurm_tf.account.person import PersonReport
from slurm_tf.account.run_records import RunRecord
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.waste import Why
from slurm_tf.account.window import Window
from slurm_tf.cli import person_text
from slurm_tf.cli.terminal import Screen
from slurm_tf.run.attempts import Attempt
from tests.account import stored
from tests.account.stored import Own

START, HOUR = 1_790_000_000, 3600
WINDOW = Window(START, START + 30 * 86400)
GIB = 1024**3


def job(number: int, state: str, hours: float, **more: Any) -> UsageRecord:
    started = START + number * 60
    values = {
        "raw_id": str(number), "state_text": state, "started": started, "ended": started + int(hours * HOUR),
        "eligible": started - 90, "cpus": 8, "gpus": 4, "memory": 32 * 1024, "node_count": 1, "user": "ann",
        "account": "vision", "cluster": "hpc", "name": "train.sh", "work_dir": "/work/ann", **more,
    }  # fmt: skip
    return UsageRecord(id=str(number), **values)


RECORDS = [
    *(job(number, "OUT_OF_MEMORY", 0.07, comment="slurm-tf run=cnn-1/template=cnn") for number in range(1, 15)),
    job(20, "TIMEOUT", 24, limit=1440, comment="slurm-tf run=bert-1/template=bert"),
    job(21, "COMPLETED", 6, gpu_use=3.5, name="notebook"),
    job(22, "COMPLETED", 5, gpu_use=70.0, used_cpu=5 * 8 * HOUR * 0.9, used_memory=20 * GIB, user="bob"),
    job(23, "COMPLETED", 4, gpus=0, used_cpu=4 * HOUR, used_memory=GIB, user="bob", name="prepare"),
    job(24, "FAILED", 1.5, name="\x1b[2Jhostile|name\n"),
    job(25, "CANCELLED by 0", 0.5, user="bob", name="mine"),
    job(26, "PREEMPTED", 2, comment="slurm-tf run=cnn-2/template=cnn"),
    job(27, "COMPLETED", 1 / 60, gpu_use=0.0, name="short"),
]


def made(records: list[UsageRecord], own: list[Own] | None = None) -> PersonReport:
    database = stored.jobs(records, own or [])
    Aggregate(database, WINDOW, now=WINDOW.end)
    return person.report(database, WINDOW)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def on_screens(text: Callable[[Screen], str]) -> str:
    screens = [Screen(60, False), Screen(80, False), Screen(200, False), Screen(200, True), Screen(None, False)]
    shown = {f"{each.width} {'in colour' if each.colour else ''}".rstrip(): text(each) for each in screens}
    for each in screens[:3]:
        assert max(map(len, text(each).splitlines())) <= (each.width or 0)
    return "".join(f"=== {screen}\n{text}" for screen, text in shown.items()).replace("\x1b", "<ESC>")


def test_the_report_for_a_person(golden: Callable[[str, str], None]) -> None:
    report = made(RECORDS)
    text = on_screens(lambda screen: person_text.person(report, None, ["3 rows came again"], screen))
    golden("usage_person.txt", text + json.dumps(person_text.person_dict(report, None, []), indent=1) + "\n")


def test_the_report_for_a_leader(golden: Callable[[str, str], None]) -> None:
    database = stored.jobs(RECORDS)
    Aggregate(database, WINDOW, now=WINDOW.end)
    report = group.report(database, WINDOW)
    text = on_screens(lambda screen: person_text.group(report, None, [], screen))
    golden("usage_group.txt", text + json.dumps(person_text.group_dict(report, None, []), indent=1) + "\n")


def test_nothing_ran_and_nothing_was_wasted() -> None:
    screen = Screen(None, False)
    assert "no job ran." in person_text.person(made([]), None, [], screen)
    database = stored.jobs([])
    Aggregate(database, WINDOW, now=WINDOW.end)
    assert "no job of the accounts ran." in person_text.group(group.report(database, WINDOW), None, [], screen)
    clean = person_text.person(made([job(1, "COMPLETED", 1)]), None, [], screen)
    assert "Nothing was wasted, as far as Slurm knows." in clean


def test_what_is_unknown_is_not_0() -> None:
    """Slurm says neither on what the jobs ran nor when they could start: hours, waits and losses are unknown."""
    unknown = {"cpus": None, "gpus": None, "node_count": None, "memory": None, "eligible": None, "submitted": None}
    report = made([job(1, "FAILED", 2, **unknown), job(2, "COMPLETED", 1, **unknown)])
    sums = report.total.as_dict("template")
    assert {name for name, value in sums.items() if value is None} >= {
        "gpu_hours", "cpu_hours", "wait_p50", "gpu_use", "cpu_use", "wasted_gpu_hours_at_most",
        "wasted_cpu_hours_at_most",
    }  # fmt: skip
    text = person_text.person(report, None, [], Screen(80, False))
    assert " 0 " not in text
    assert "0.0" not in text


def test_what_a_run_kept_was_not_wasted() -> None:
    # of two hours it saved an hour and a half, and began to train after six minutes
    record = job(1, "PREEMPTED", 2)
    began = record.started or 0
    attempt = Attempt("1.0", "1", float(began), speaks=True, began=began + 360.0, saved=began + 1.5 * HOUR)
    told = made([record], [(record, RunRecord("cnn", "cnn-1", attempt))])
    (cause,) = told.causes
    assert (cause.why, cause.gpu_seconds, cause.is_known) == (Why.PREEMPTED, 4 * (360 + 0.5 * HOUR), True)
    assert "Wasted: 2.40 GPU-hours\n" in person_text.person(told, None, [], Screen(None, False))
    (cause,) = made([record]).causes
    assert (cause.gpu_seconds, cause.is_known) == (4 * 2 * HOUR, False)


def test_each_job_is_wasted_once_and_for_one_cause() -> None:
    # it failed, and its GPUs were idle
    running = job(2, "RUNNING", 2, ended=None, gpu_use=1.0, counted_until=START + HOUR)
    report = made([job(1, "FAILED", 2, gpu_use=1.0), running])
    assert [(each.why, each.jobs) for each in report.causes] == [(Why.FAILED, 1), (Why.IDLE_GPUS, 1)]
    assert report.wasted[0] == pytest.approx(sum(each.gpu_seconds or 0 for each in report.causes))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 minute"), (61, "2 minutes"), (299, "5 minutes"), (3600, "1 hour"), (3601, "2 hours"), (90000, "2 days")],
)
def test_times_are_rounded_up(seconds: int, words: str) -> None:
    (cause,) = made([job(1, "OUT_OF_MEMORY", seconds / HOUR)]).causes
    assert cause.what.endswith(f"within {words}")


def test_every_cause_has_words_and_something_to_do() -> None:
    ends = [why for why in Why if why.end]
    records = [
        job(at, "CANCELLED by 0" if why is Why.CANCELLED_BY_SITE else why.name, 1) for at, why in enumerate(ends)
    ]
    found = {each.why: each for each in made(records).causes}
    assert set(found) == set(ends)
    for cause in found.values():
        assert cause.what.startswith("1 job named train.sh ")
        assert "were" not in cause.what
        assert cause.advice


def test_a_command_to_copy_is_quoted() -> None:
    (cause,) = made([job(1, "FAILED", 1, comment="slurm-tf run=x; rm -r ~/template=cnn")]).causes
    assert cause.advice == "read: slurm-tf logs 'x; rm -r ~'"


def test_memory_is_of_one_node_and_rounded_up() -> None:
    (cause,) = made([job(1, "OUT_OF_MEMORY", 1, memory=4 * 5000, node_count=4)]).causes
    assert cause.advice == "ask for --mem=8G"
    (cause,) = made([job(1, "OUT_OF_MEMORY", 1, memory=0)]).causes
    assert cause.advice == "see what to ask for: slurm-tf efficiency 1"
    assert waste.SOME_MINUTES == 600
