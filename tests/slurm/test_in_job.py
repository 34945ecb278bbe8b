"""How a job asks Slurm: the text is what squeue 22.05.8 printed."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from slurm_tf.slurm import in_job
from slurm_tf.slurm.in_job import Answer, Question, job_status


def row(*words: str) -> str:
    return "".join(f"{word:<30}" for word in words) + "\n"


# of one job each, on the sandbox, with SLURM_TIME_FORMAT=%s
RUNNING = row("RUNNING", "N/A", "1795285955", "1795285355", "10:00", "0", "0")
IN_GRACE = row("RUNNING", "1795285357", "1795285362", "1795285355", "10:00", "0", "0")
CANCELLED = row("COMPLETING", "N/A", "1795285310", "1795285308", "10:00", "0", "0")
CANCELLED_LATER = row("CANCELLED", "N/A", "1795285310", "1795285308", "10:00", "0", "0")
REQUEUED = row("COMPLETING", "N/A", "1795286039", "1795285439", "10:00", "1", "0")
WAITING = row("PENDING", "N/A", "1795286167", "1795285567", "10:00", "1", "0")
GRACE_OVER = row("COMPLETING", "1795285413", "1795285413", "1795285396", "10:00", "0", "0")
PREEMPTED = row("PREEMPTED", "1795285413", "1795285413", "1795285396", "10:00", "0", "0")
KILLED = row("COMPLETING", "N/A", "1795296260", "1795296254", "1-00:00:00", "0", "9")
NO_LIMIT = row("RUNNING", "N/A", "N/A", "1795285396", "UNLIMITED", "0", "0")
NO_LIMIT_ENDS = row("COMPLETING", "N/A", "1795285413", "1795285396", "UNLIMITED", "0", "0")


@pytest.mark.parametrize(
    ("text", "state", "preempted", "ends", "lives"),
    [
        (RUNNING, "RUNNING", False, 1795285955.0, True),
        (IN_GRACE, "RUNNING", True, 1795285362.0, True),
        # its EndTime is when it was cancelled, which is no time limit
        (CANCELLED, "COMPLETING", False, 1795285908.0, True),
        (CANCELLED_LATER, "CANCELLED", False, 1795285310.0, False),
        (REQUEUED, "COMPLETING", False, 1795286039.0, True),
        (WAITING, "PENDING", False, 1795286167.0, False),
        (GRACE_OVER, "COMPLETING", True, 1795285996.0, True),
        (PREEMPTED, "PREEMPTED", True, 1795285413.0, False),
        (NO_LIMIT, "RUNNING", False, None, True),
        (NO_LIMIT_ENDS, "COMPLETING", False, None, True),
        # of a heterogeneous job, one component of which runs
        (CANCELLED_LATER + RUNNING, "RUNNING", False, 1795285310.0, True),
        ("", "gone", False, None, False),
    ],
)
def test_a_standing(text: str, state: str, preempted: bool, ends: float | None, lives: bool) -> None:
    found = job_status(Answer(0, text, ""))
    assert (found.state, found.preempted, found.ends, found.lives, found.is_known) == (
        state,
        preempted,
        ends,
        lives,
        True,
    )


@pytest.mark.parametrize(("text", "restarts", "killed"), [(RUNNING, 0, False), (REQUEUED, 1, False), (KILLED, 0, True)])
def test_whether_it_was_put_back_and_whether_its_script_was_killed(text: str, restarts: int, killed: bool) -> None:
    found = job_status(Answer(0, text, ""))
    assert (found.restarts, found.killed) == (restarts, killed)


def test_a_job_that_slurmctld_has_forgotten_and_one_that_nobody_tells_of() -> None:
    assert job_status(Answer(1, "", "slurm_load_jobs error: Invalid job id specified\n")).state == "gone"
    away = job_status(Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"))
    assert (away.is_known, away.lives) == (False, True)
    assert away.problem == "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    assert job_status(Answer(None, "", "")).problem == "no answer in time"


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "7_3"),
        ({"SLURM_JOB_ID": "7", "SLURM_HET_JOB_ID": "7"}, "7"),
    ],
)
def test_the_jobs_own_id(environ: dict[str, str], job: str) -> None:
    assert in_job.own_id(environ) == job


def test_commands_of_a_point() -> None:
    assert in_job.requeue_command("7_3", over=False) == ["scontrol", "requeue", "incomplete", "7_3"]
    assert in_job.requeue_command("7_3", over=True) == ["scontrol", "requeue", "7_3"]
    assert in_job.delay_command("7_3", 600.4) == ["scontrol", "update", "JobId=7_3", "StartTime=now+600"]
    follow = ["sbatch", "--parsable", "--output=/r/100%%/slurm-7.out"]
    output = "/r/100%/slurm-7.out"
    assert in_job.successor_command("/s", output, {}, None) == [*follow, "/s"]
    assert in_job.successor_command("/s", output, {"SLURM_ARRAY_TASK_ID": "3"}, 3) == [*follow, "--array=3", "/s"]
    assert in_job.successor_command("/s", output, {}, 3) == [*follow, "/s", "3"]
    without = in_job.successor_command("/s", output, {}, None, ["a1", "b2"])
    assert without == [*follow, "--exclude=a1,b2", "/s"]
    later = in_job.successor_command("/s", output, {}, None, after="7_3")
    assert later == [*follow, "--dependency=afterany:7_3", "/s"]
    assert in_job.trial_command(without) == ["sbatch", "--test-only", *without[1:]]


def test_what_a_job_leaves_out() -> None:
    assert in_job.exclusion_command("7_3", ["a1", "b2"]) == ["scontrol", "update", "JobId=7_3", "ExcNodeList=a1,b2"]
    assert in_job.excluded(Answer(0, "\n", "")) == []
    assert in_job.excluded(Answer(0, "(null)\n", "")) == []
    # a component a line
    assert in_job.excluded(Answer(0, "n[1-2],m1\nn2\n", "")) == ["n1", "n2", "m1"]
    for answer in (Answer(1, "n1\n", "no"), Answer(None, "", ""), Answer(0, "", ""), Answer(0, "n[1\n", "")):
        assert in_job.excluded(answer) is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("n1|idle|none", {}),
        ("n1|allocated|none", {}),
        ("n1|mixed-|none", {}),
        ("n1|planned|none", {}),
        ("n1|reserved|none", {}),
        ("n1|maint|none", {}),
        ("n1|perfctrs|none", {}),
        ("n1|blocked|none", {}),
        ("n1|allocated$|none", {}),
        ("n1|allocated+|none", {}),
        ("n1|completing|none", {}),
        ("n1|idle~|none", {}),
        ("n1|idle#|none", {}),
        ("n1|mixed!|none", {}),
        ("n1|idle%|none", {}),
        # a reboot was asked for, and jobs may start until it begins
        ("n1|mixed@|none", {}),
        # slurmctld has just started
        ("n1|unknown|none", {}),
        (
            "n1|inval|gres/gpu count reported lower than configured (1 < 2)",
            {"n1": "inval: gres/gpu count reported lower than configured (1 < 2)"},
        ),
        ("n1|INVAL|none", {"n1": "inval"}),
        ("n1|invalid_reg|none", {"n1": "invalid_reg"}),
        ("n1|error|none", {"n1": "error"}),
        ("n1|fail*|none", {"n1": "fail"}),
        ("n1|future|none", {"n1": "future"}),
        ("n1|reboot^|new kernel", {"n1": "reboot: new kernel"}),
        ("n1|reboot_issued|none", {"n1": "reboot_issued"}),
        ("n1|mixed^|none", {"n1": "rebooting"}),
        ("n1|down~|none", {"n1": "down"}),
        ("n1|mixed*|none", {"n1": "not responding"}),
        ("n1|idle*|none", {"n1": "not responding"}),
        ("n1|not_responding|none", {"n1": "not_responding"}),
        ("n1|draining|fan | noise", {"n1": "draining: fan | noise"}),
        ("n1|drained*|none", {"n1": "drained"}),
        ("n1|down*|Not responding", {"n1": "down: Not responding"}),
        ("n1|failing|x\x1b]0;y", {"n1": "failing: x?]0;y"}),
        ("n1|down|" + "x" * 500, {"n1": "down: " + "x" * 200}),
        ("no columns", {}),
    ],
)
def test_nodes_on_which_nothing_starts(line: str, found: dict[str, str]) -> None:
    assert in_job.unfit(Answer(0, f"n0|idle|none\n{line}\n{line}\n", "")) == found
    assert in_job.unfit(Answer(1, f"{line}\n", "no")) == {}


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose squeue and sbatch print their own."""
    for name, text in {
        "squeue": "env",
        "sbatch": "env",
        "scontrol": "sleep 60 & wait",
        "sinfo": "echo no >&2; exit 3",
    }.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_who_asks_gets_times_as_numbers_and_who_submits_the_users_own_environment(tools: dict[str, str]) -> None:
    environ = {
        **tools, "SQUEUE_FORMAT": "x", "SBATCH_PARTITION": "p", "SLURM_TIME_FORMAT": "relative", "LC_ALL": "de_DE",
        "SLURM_JOB_ID": "7", "SLURM_CONF": "/c",
    }  # fmt: skip
    asked = Question(["squeue"], environ).wait().output.splitlines()
    assert {"SLURM_TIME_FORMAT=%s", "LC_ALL=C.UTF-8", "SLURM_CONF=/c"} <= set(asked)
    assert not any(line.startswith(("SQUEUE_", "SBATCH_")) for line in asked)
    sent = Question(["sbatch"], environ).wait().output.splitlines()
    assert {"LC_ALL=de_DE", "SLURM_CONF=/c"} <= set(sent)
    assert not any(line.startswith(("SBATCH_", "SLURM_JOB_ID", "SLURM_TIME_FORMAT")) for line in sent)


def test_a_command_that_says_no_does_not_answer_or_is_not_there(tools: dict[str, str]) -> None:
    said = Question(["sinfo"], tools).wait()
    assert (said.code, said.failure) == (3, "no")
    begun = time.monotonic()
    hung = Question(["scontrol"], tools, seconds=0.5)
    assert hung.answer() is None
    assert (hung.wait().code, hung.wait().failure) == (None, "no answer in time")
    assert time.monotonic() - begun < 10
    missing = Question(["no-such-command"], tools).wait()
    assert missing.code is None
    assert missing.failure.startswith("no no-such-command in PATH on ")


def test_without_room_for_its_answer_it_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    answer = in_job.ask(["sh", "-c", f"touch {tmp_path}/started"], os.environ)
    assert (answer.code, answer.failure) == (None, "cannot start sh: No such file or directory")
    assert not list(tmp_path.iterdir())
