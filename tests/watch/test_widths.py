"""What the verbs print as tables, on terminals of three widths, with and without colours, and where there is none."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import click
import pytest
from rich.cells import cell_len

from slurm_tf.account import efficiency
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.job_use import JobUse
from slurm_tf.account.report import Report
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.cli import (
    checkpoints_command,
    efficiency_command,
    job_file_commands,
    results_tables,
    sites_command,
    storage_commands,
    tables,
    terminal,
    usage_tables,
)
from slurm_tf.cli.terminal import Screen
from slurm_tf.jobspec import configuration
from slurm_tf.run.attempts import Attempt, EndCause
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.run.status import AttemptState, Progress, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.watch import results, status_rows, stored_checkpoints, waiting
from slurm_tf.watch.disk_usage import DiskUsage
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.removal import Part
from slurm_tf.watch.results import Metric, Result
from slurm_tf.watch.run_overview import Checkpoint, RunOverview
from tests.account import stored
from tests.watch.conftest import MakeRun

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=timezone.utc)
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
JOB = 'name = "flowers"\nstrategy = "single"\ncommand = ["python", "train.py", "--epochs", "7"]\n[roles.worker]\n'
# The verbs whose tables these are.
IN_TABLES = ("status", "list", "results", "usage", "efficiency", "du", "rm", "checkpoints", "explain", "sites list")
_LONG = "resnet50-imagenet-mixed-precision-batch-4096-warmup-5-epochs-1"


@pytest.fixture(autouse=True)
def _at_a_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Now(datetime):
        @classmethod
        def now(cls, _tz: Any = None) -> Any:
            return NOW

    for module in (status_rows, waiting):
        monkeypatch.setattr(module, "datetime", Now)
    monkeypatch.setattr(status_rows, "time", SimpleNamespace(time=NOW.timestamp))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def ago(**amounts: float) -> float:
    return (NOW - timedelta(**amounts)).timestamp()


def overview(selected: SelectedRun, job: str, state: JobState, **more: Any) -> RunOverview:
    of_record = {name: more.pop(name) for name in ("reason", "nodes", "exit_code") if name in more}
    started = None if state is JobState.PENDING else NOW - timedelta(hours=30)
    ended = NOW - timedelta(hours=2) if state.ended else None
    record = JobRecord(job, state, submitted=NOW - timedelta(hours=31), started=started, ended=ended, **of_record)
    values: dict[str, Any] = {"attempt": None, "checkpoint": None, "cancelled": False, **more}
    return RunOverview(selected=selected, job=job, records=(record,), **values)


def running(selected: SelectedRun) -> RunOverview:
    def task(step: float, loss: float) -> TaskStatus:
        progress = Progress(step, 90_000, 12.345678, {"loss": loss}, ago(seconds=9))
        return TaskStatus(TaskState.RUNNING, "gpu001", 0, progress=progress)

    tasks = {"chief:0": task(61_234, 1.0794321), "worker:0": task(61_234, 1.0794321), "worker:1": TaskStatus()}
    return overview(
        selected, "123456", JobState.RUNNING, nodes="gpu[001-004,010-012,100],himem[1,3,5,7,9]",
        attempt=RunStatus(selected.name, "123456", 2, "gpu001", 0, AttemptState.RUNNING, tasks=tasks,
                          written=ago(seconds=9)),
        checkpoint=Checkpoint(61_000, ago(minutes=3)),
        attempts=(
            Attempt("123456.0", "123456", ago(hours=30), ago(hours=20), EndCause.PREEMPTION, 75,
                    "preemption: worker:0 got SIGTERM; job 123456 waits to be started again", 1_000, 40_000),
            Attempt("123456.1", "123456", ago(hours=19), ago(hours=18), EndCause.FAILURE, 1,
                    "worker:1 on gpu007 ended with exit code 1: ValueError: loss 1.0794321 is not finite",
                    40_500, 41_000, tensorflow={"chief": "2.18.0", "worker": "2.18.0"}),
            Attempt("123456.2", "123456", ago(hours=17), None, first=41_500, last=61_000, speaks=True,
                    tensorflow={"chief": "2.21.0", "worker": "2.21.0"}),
        ),
    )  # fmt: skip


@pytest.fixture
def overviews(make_run: MakeRun) -> list[RunOverview]:
    """A run that runs, one that is pending, one that has failed, and a sweep of four points."""
    words = "worker:1 on gpu007 ended with exit code 1: KeyError: 'rate' (train.py, line 41)"
    failed = make_run("flowers-2", ("7", (), False))
    end = RunStatus(
        "flowers-2",
        "7",
        0,
        "gpu007",
        0,
        AttemptState.ENDED,
        code=1,
        reason=words,
        failed="worker:1",
        written=ago(hours=2),
    )
    points = {str(n): {"rate": 0.1 / 2**n, "units": 32} for n in range(4)}
    sweep = make_run("sweep-1", ("99", (0, 1, 2, 3), True), array=ArrayShape(None, True, points))
    states = (JobState.COMPLETED, JobState.FAILED, JobState.RUNNING, JobState.PENDING)
    return [
        running(make_run(_LONG, ("123456", (), False))),
        overview(make_run("flowers-1", ("8", (), False)), "8", JobState.PENDING, reason="AssocGrpGRES"),
        overview(failed, "7", JobState.FAILED, exit_code=1, attempt=end, nodes="gpu007"),
        *(
            overview(SelectedRun(sweep.run, n), f"99_{n}", state, exit_code=int(state is JobState.FAILED),
                     reason="Resources" if state is JobState.PENDING else "",
                     attempt=end if state is JobState.FAILED else None)
            for n, state in enumerate(states)
        ),
    ]  # fmt: skip


def usage_report() -> Report:
    start = int(ago(days=1))
    users = ("ann", "maximiliane", "bob")
    window = Window(int(ago(days=2)), int(NOW.timestamp()))
    records = [
        UsageRecord(
            id=str(number), raw_id=str(number), state_text=("COMPLETED", "FAILED", "TIMEOUT")[number], cpus=16,
            node_count=1, user=user, account="computer-vision", partition="gpu-a100", gpus=4 * number,
            gpu_type="a100", eligible=start - 100, started=start, ended=start + 36_000, used_cpu=5e5,
        )
        for number, user in enumerate(users)
    ]  # fmt: skip
    report = Aggregate(stored.jobs(records), window, ("user", "account", "partition"), now=int(NOW.timestamp()))
    return Report(window, report.by, report.rows(), report.total(), lambda: Diagnostics(window.end))


def asked() -> efficiency.JobEfficiency:
    job = JobUse(
        id="12", state="COMPLETED", end=ExitClass.COMPLETED, elapsed=3600, waited=100, cpus=16, node_count=1,
        memory=65536, time_limit=1440, used_cpu=4.2 * 3600, used_memory=20 << 30, node_most=20 << 30, gpus=4,
        gpu_type="a100", gpu_use=30.0,
    )  # fmt: skip
    (found,) = efficiency.gather([job]).values()
    return found


def results_of(points: list[RunOverview]) -> list[Result]:
    def metric(value: float, goal: results.Goal) -> Metric:
        return Metric(goal, value, value, 1000)

    return [
        Result(
            point, {"rate": 0.1 / 2**number, "units": 32}, {},
            {
                "val_accuracy": metric(0.97123 - number / 100, results.Goal.MAX),
                "loss": metric(0.0794 + number, results.Goal.MIN),
                "learning_rate": metric(0.001, results.Goal.UNKNOWN),
            },
            3600.0, 8, 2,
        )
        for number, point in enumerate(points)
    ]  # fmt: skip


@pytest.fixture
def printed(
    overviews: list[RunOverview],
    job_file: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[Screen], str]:
    """Return what the verbs print on a screen."""
    single, sweep = overviews[:3], overviews[3:]
    usages = [DiskUsage(size, size // 1000, ago(days=days), ()) for size, days in ((1_079_432_100, 3), (4096, 400))]
    listed = [
        {"step": 61_000, "written": ago(minutes=3), "size": 1_079_432_100, "problem": None},
        {"step": 60_500, "written": None, "size": None, "problem": "shard worker-1 is missing"},
    ]
    monkeypatch.setattr(stored_checkpoints, "describe", lambda _: listed)
    removals = [
        storage_commands._Removal(
            SelectedRun(RunFolder(f"/home/ann/runs/{each.selected.name}")), each.selected.name, usage
        )
        for each, usage in zip(single, usages, strict=False)
    ]
    taken = [
        storage_commands._Taken(each.selected.name, "", usage, usage.size // 2, 4096)
        for each, usage in zip(single, usages, strict=False)
    ]
    monkeypatch.setattr(storage_commands, "_taken", lambda _: taken)
    listed_sites = [
        sites_command._Listed(name, f"/etc/slurm-tf/site_configs/{name}.toml", inherits, description, is_here)
        for name, inherits, description, is_here in (
            ("uni", "generic", "The cluster of the physics institute, with eight nodes of four A100 each", True),
            ("generic", "", "Any Slurm", False),
        )
    ]
    monkeypatch.setattr(sites_command, "_listed", lambda: listed_sites)
    monkeypatch.setattr(storage_commands, "_select", lambda _: [])
    job = job_file(
        'name = "flowers"\nstrategy = "single"\ncommand = ["python", "train.py", "--epochs", "7"]\n[roles.worker]\n'
    )
    loaded = configuration.load(job, {}, "generic")
    rows = [(key, value, origin.replace(str(job), "/home/ann/jobs/flowers.toml"))
                 for key, value, origin in configuration.explain(loaded)]  # fmt: skip
    monkeypatch.setattr(configuration, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(configuration, "explain", lambda _: rows)

    def everything(screen: Screen) -> str:
        monkeypatch.setattr(terminal, "screen", lambda: screen)
        explained = {"words": (str(job),), "template": "", "ask": False, "arguments": (), "site": "", "overrides": ()}
        commands: dict[str, tuple[click.Command, dict[str, Any]]] = {
            "du": (storage_commands.du, {"runs": ()}),
            "explain": (job_file_commands.explain, explained),
            "sites list": (sites_command.list_sites, {}),
        }
        for name, (command, arguments) in commands.items():
            print(f"--- {name}")
            assert command.callback
            command.callback(**arguments, as_json=False)
        print("--- rm")
        storage_commands._print_removals(removals, Part.ALL)
        print("--- checkpoints")
        checkpoints_command._list([sweep[0].selected], False)
        texts: Mapping[str, str] = {
            "status": "\n".join(tables.status([each]) for each in single),
            "status of a sweep": tables.status(sweep),
            "status --points": tables.status(sweep, each_point=True),
            "list": tables.run_list(overviews),
            "results": results_tables.text(results_of(sweep), "val_accuracy"),
            "usage": usage_tables.text(usage_report(), screen),
            "efficiency": efficiency_command._text("12", asked()),
        }
        for name, text in texts.items():
            print(f"--- {name}\n{text}", end="")
        return capsys.readouterr().out

    return everything


@pytest.mark.parametrize("width", [60, 80, 200, None])
def test_every_table_fits_and_nothing_is_cut(
    width: int | None, printed: Callable[[Screen], str], golden: Callable[[str, str], None]
) -> None:
    plain = printed(Screen(width, colour=False))
    golden(f"tables/{width or 'no-terminal'}.txt", plain)
    assert "\x1b" not in plain
    assert "…" not in plain
    too_wide = [line for line in plain.splitlines() if width and cell_len(line) > width]
    # a name or path that somebody copies is whole
    assert [line.split() for line in too_wide] == [["Run", _LONG]] * len(too_wide)
    coloured = printed(Screen(width, colour=True))
    assert _ESCAPE.sub("", coloured) == plain
    golden(f"tables/{width or 'no-terminal'}-colour.txt", coloured.replace("\x1b", "<ESC>"))


@pytest.mark.parametrize(
    ("environ", "is_terminal", "has_colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_who_gets_colours(
    environ: dict[str, str], is_terminal: bool, has_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stream: Any = SimpleNamespace(isatty=lambda: is_terminal)
    assert terminal.has_colour(stream) is has_colour


def test_a_state_has_the_colour_of_the_worst_of_it() -> None:
    words = {
        "COMPLETED": "green", "6/6 done": "green", "RUNNING": "cyan", "PENDING": "yellow", "OUT_OF_MEMORY": "red",
        "4/6 done, 1 failed, 1 running": "red", "4/6 done, 2 running": "cyan", "RUNNING (cancelled)": "yellow",
        "unknown": "", "whole": "green",
    }  # fmt: skip
    assert {text: terminal.state_colour(text) for text in words} == words
