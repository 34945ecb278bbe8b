"""The verb efficiency for many jobs, as a person types it, on tables that somebody saved."""

import csv
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PYTHONPATH, RECORDED
from tests.forkserver import command_line

pytestmark = pytest.mark.slow

Type = Callable[..., "subprocess.CompletedProcess[str]"]
JOBSTATS = RECORDED / "sacct" / "jobstats"


@pytest.fixture
def typed(tmp_path: Path) -> Type:
    """Type `slurm-tf efficiency WORDS --from FILE`."""

    def run(*words: str, path: Path = JOBSTATS) -> "subprocess.CompletedProcess[str]":
        inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        own = {"PYTHONPATH": PYTHONPATH, "SLURM_TF_RUNS": str(tmp_path / "runs"), "TZ": "UTC"}
        return command_line.slurm_tf(
            ["efficiency", *words, "--from", str(path)], {**inherited, **own}, tmp_path, text=""
        )

    return run


def ok(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_table_of_jobs_that_have_a_length_and_no_time(typed: Type) -> None:
    lines = ok(typed("--sort", "-CPUEff", "--state", "CD,TO", "--format", "JobID,State,CPUEff,GPUMem")).splitlines()
    assert [line.split() for line in lines] == [
        ["JobID", "State", "CPUEff", "GPUMem"],
        ["39889258_1426", "COMPLETED", "99.7%", "-"],
        ["131042", "COMPLETED", "98.5%", "-"],
        ["46044267", "TIMEOUT", "96.2%", "11.1%"],
        ["8197399", "COMPLETED", "95.4%", "99.8%"],
        ["6196869", "COMPLETED", "5.0%", "-"],
        ["8205048", "COMPLETED", "4.6%", "-"],
    ]
    words = ("8197399", "8189521", "--format", "JobID,GPUEff,UsedMem,Start")
    (one, _) = csv.DictReader(ok(typed(*words, "--csv")).splitlines())
    assert (one["JobID"], one["GPUEff"], one["UsedMem"][:9], one["Start"]) == ("8189521", "0.035", "29436.128", "")


def test_lines_of_nodes_and_of_gpus(typed: Type) -> None:
    lines = ok(typed("8205048", "8189521", "--node", "--format", "JobID,State,CPUEff")).splitlines()
    assert [line.split() for line in lines] == [
        ["JobID", "State", "CPUEff"],
        ["8189521", "CANCELLED", "10.5%"],
        ["8205048", "COMPLETED", "4.6%"],
        ["tiger-h19c1n15", "18.6%"], ["tiger-h26c2n13", "0.0%"], ["tiger-i26c2n11", "0.0%"], ["tiger-i26c2n15", "0.0%"],
    ]  # fmt: skip
    assert lines[3].startswith("  tiger")
    rows = list(csv.reader(ok(typed("8197399", "-g", "--format", "GPUMem", "--csv")).splitlines()))
    assert [row[:3] for row in rows] == [
        ["JobID", "Node", "GPU"], ["8197399", "", ""], ["8197399", "tiger-i23g14", ""],
        ["8197399", "tiger-i23g14", "3"],
    ]  # fmt: skip
    (job,) = json.loads(ok(typed("8197399", "-g", "--json")))["jobs"]
    assert [(node["node"], [gpu["gpu"] for gpu in node["gpus"]]) for node in job["nodes"]] == [("tiger-i23g14", ["3"])]


def test_jobs_by_what_reportseff_selects(typed: Type) -> None:
    def ids(*words: str) -> list[str]:
        return [row["JobID"] for row in csv.DictReader(ok(typed(*words, "--csv")).splitlines())]

    assert ids("--not-state", "CD,Failed") == ["8189521", "45352405", "46044267"]
    assert ids("--array-min-size", "2", "--state", "CD,F") == ["131042", "6196869", "8197399", "8205048", "8205464"]
    assert ids("--slurm-format", "slurm-%j.out", "logs/slurm-8205464.out", "slurm-131042.out") == ["131042", "8205464"]
    # the table names no cluster
    assert ids("--cluster", "della") == []


def test_one_job_of_them(typed: Type) -> None:
    text = ok(typed("8189521"))
    assert text.splitlines()[1] == "ran for 19.1 h, waited for an unknown time"
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[4:8]}
    assert rows["cpus"][:3] == ["28", "2.9", "(10%)"]
    assert rows["memory"][:3] == ["112000M", "28.7G", "(26%)"]
    assert rows["gpus"][:3] == ["4", "0.1", "(4%)"]
    assert "Note: no advice to ask for less: no incarnation completed" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--state", "DONE"], "found --state 'DONE'; needed states as sacct names them"),
        (["--not-state", "DONE"], "found --not-state 'DONE'; needed states as sacct names them"),
        (["--slurm-format", "%j.out"], "found --slurm-format without a file"),
        (["--since", "d=2,x"], "needed parts such as d=2,h=1"),
        (["--format", "JobID,Priority"], "found 'Priority'; needed one of JobID, State"),
        (["--sort", "x"], "found 'x'; needed one of JobID, State"),
        (["--since", "tomorrow"], "a --since that is before --until"),
        (["77"], "accounting has no job of 77 that has started"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], message: str, typed: Type) -> None:
    done = typed(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.replace("\n", " ")


def test_nothing_in_that_time(typed: Type, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_text("JobID|State|Submit|Start|End|AllocTRES\n7|PENDING|1790000000|Unknown|Unknown|\n8|FAILED\n")
    assert ok(typed("--since", "2026-01-01", path=path)).splitlines() == [
        "No job ran in that time.",
        "Note: 1 rows could not be read: before line 4: '8|FAILED'",
        "Note: 1 job did not start",
    ]
