"""Verbs that end or repeat what waits or has ended: wait with a time limit, resubmit, cancel, rm as JSON."""

import json
from types import SimpleNamespace
from typing import Any

import click.testing
import pytest

from slurm_tf.cli import resubmit_command, storage_commands, terminal, watch_commands
from slurm_tf.errors import UsageError
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.slurm.job_states import JobState
from slurm_tf.submit import sbatch
from slurm_tf.submit.sbatch import SubmitRequest, SubmittedJobs
from slurm_tf.watch import resubmit, run_overview
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import Checkpoint
from tests.conftest import write_manifest
from tests.watch.conftest import MakeRun, Slurm, record

SWEEP = ArrayShape(None, True, {str(number): {"rate": number} for number in range(3)})


@pytest.fixture
def selected(make_run: MakeRun) -> SelectedRun:
    found = make_run("a-1", ("7", (0, 1, 2), True), array=SWEEP)
    write_manifest(found.run, "a-1", SWEEP, 1, sbatch={})
    return found


@pytest.fixture
def typed(selected: SelectedRun, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Type a verb about the run; return what click's runner does."""
    monkeypatch.setattr(watch_commands, "select_run", lambda _: selected)
    monkeypatch.setattr(watch_commands, "connect", lambda: slurm)

    def invoke(verb: Any, *words: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(verb, ["a-1", *words], catch_exceptions=False)

    return invoke


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[SubmitRequest]:
    """Return what sbatch is called for from now on."""
    found: list[SubmitRequest] = []

    def submit(request: SubmitRequest) -> SubmittedJobs:
        found.append(request)
        return SubmittedJobs(("8",), "")

    monkeypatch.setattr(sbatch, "submit", submit)
    return found


def ended(*codes: int | None) -> list[Any]:
    states = {0: JobState.COMPLETED, None: JobState.RUNNING}
    return [
        record(f"7_{number}", states.get(code, JobState.FAILED), exit_code=code) for number, code in enumerate(codes)
    ]


def test_wait_gives_up_after_a_time_as_timeout_does(typed: Any, slurm: Slurm) -> None:
    slurm.live = ended(0, None, 3)
    late = typed(watch_commands.wait, "--timeout", "0")
    assert (late.exit_code, late.output) == (124, "slurm-tf: run a-1 is not over after 0, and goes on\n")
    points = json.loads(typed(watch_commands.wait, "--timeout", "0", "--json").stdout)
    assert [each["exit_code"] for each in points] == [0, None, 3]
    slurm.live = ended(0, 0, 3)
    assert typed(watch_commands.wait, "--timeout", "0").exit_code == 3
    assert typed(watch_commands.wait, "--json").exit_code == 3


def test_resubmit_asks_about_what_has_completed(
    typed: Any, slurm: Slurm, submitted: list[SubmitRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.live = ended(0, 0, 3)
    with pytest.raises(UsageError, match=r"nobody can be asked here; needed --yes, .* or --failed"):
        typed(resubmit_command.resubmit)
    asked: list[str] = []
    monkeypatch.setattr(terminal, "ask", lambda question, otherwise: asked.append(f"{question} {otherwise}"))
    assert "2 of 3 points of run a-1 have completed\n" in typed(resubmit_command.resubmit).output
    assert len(asked) == len(submitted) == 1
    done = typed(resubmit_command.resubmit, "--failed", "--json")
    assert json.loads(done.stdout)["jobs"] == ["8"]
    assert done.stderr.startswith("Run a-1 starts at its first step, or where its own code goes on: there is no check")
    typed(resubmit_command.resubmit, "--yes")
    assert [request.points for request in submitted] == [(0, 1, 2), (2,), (0, 1, 2)]
    assert len(asked) == 1


def test_resubmit_says_from_which_step(selected: SelectedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"0": 100, "1": 400}

    def newest(folder: Any) -> Checkpoint | None:
        step = steps.get(folder.path.rpartition("/")[2])
        return None if step is None else Checkpoint(step, 0.0)

    monkeypatch.setattr(run_overview, "newest_checkpoint", newest)
    folders = [selected.run.point(number) for number in range(3)]
    assert resubmit.from_where(folders[:1]) == "goes on from step 100, its last checkpoint"
    assert resubmit.from_where(folders[:2]) == "goes on from steps 100 to 400 in 2 of 2 points"
    assert resubmit.from_where(folders) == (
        "goes on from steps 100 to 400 in 2 of 3 points, and starts at the first step in the others"
    )
    assert resubmit.from_where(folders[2:]).startswith("starts at its first step")


def test_what_is_ended_in_json(typed: Any, slurm: Slurm, selected: SelectedRun) -> None:
    slurm.live = ended(0, None, None)
    assert json.loads(typed(watch_commands.cancel, "--json").stdout) == {"run": "a-1", "jobs": ["7_1", "7_2"]}
    slurm.live = ended(0, 0, 0)
    done = typed(storage_commands.rm, "--dry-run", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["folder"], row["part"], row["removed"]) == (selected.run.path, "all", False)
    assert json.loads(typed(storage_commands.rm, "--yes", "--json").stdout)[0]["removed"] is True


@pytest.mark.parametrize(("answer", "code"), [(True, None), (False, 1)])
def test_a_question_is_answered_on_a_terminal(answer: bool, code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("click.confirm", lambda *_, **__: answer)
    if code is None:
        terminal.ask("Go on?", "--yes")
        return
    with pytest.raises(SystemExit) as stopped:
        terminal.ask("Go on?", "--yes")
    assert stopped.value.code == code
