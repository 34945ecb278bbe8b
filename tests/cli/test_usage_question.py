"""`slurm-tf usage` as a person types it: without options, for a group, with SQL; on stand-ins for Slurm's commands."""

import json
import os
import pwd
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from slurm_tf.account.exports import Answer
from slurm_tf.cli import usage_output
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder
from tests.cli.test_usage_command import HEAD, SACCT
from tests.conftest import PYTHONPATH, RECORDED, write_manifest
from tests.forkserver import command_line

pytestmark = pytest.mark.slow

Type = Callable[..., "subprocess.CompletedProcess[str]"]
ME = pwd.getpwuid(os.getuid()).pw_name
START = 1790000000
GPU4 = "billing=36,cpu=8,mem=32G,node=1,gres/gpu:a100=4,gres/gpu=4"
CPU8 = "billing=8,cpu=8,mem=16G,node=2"


def row(number: int, state: str, seconds: int, user: str = ME, tres: str = GPU4, name: str = "x", run: str = "") -> str:
    start, tag = START + 100 * number, f"slurm-tf run={run}/template={run[:-2]}" if run else ""
    return (
        f"{number}|{number}|sandbox|{user}|vision|gpu|{state}|{start - 60}|{start - 60}|{start}|{start + seconds}|"
        f"{seconds}|120|{tres}||||{tag}|{name}"
    )


TABLE = "\n".join([
    HEAD,
    *(row(number, "OUT_OF_MEMORY", 280, run="cnn-1") for number in range(1, 15)),
    row(20, "TIMEOUT", 7200, name="solve"),
    row(21, "PREEMPTED", 3600, run="bert-1"),
    row(22, "FAILED", 3000, run="bert-1"),
    row(23, "CANCELLED", 60, tres=CPU8, name="prepare"),
    row(24, "COMPLETED", 3600, user="bob", tres=CPU8, name="prepare"),
    "24.0|24.0|sandbox||vision||COMPLETED|||||3600|||00:10:00|1G|1||python",
]) + "\n"  # fmt: skip
# scontrol and sacctmgr, as they answered alice; she has the name of whoever runs the test
ANSWER = f"""#!{sys.executable} -IS
import json, os, sys
texts = json.load(open({str(RECORDED / "slurm-22.05.8" / "limits.json")!r}))["alice"]
line = " ".join(sys.argv)
name = next((name for word, name in (
    ("show config", "settings"), ("assoc_mgr", "manager"), ("show qos", "qos"), ("show assoc", "own")) if word in line))
with open("asked", "a") as file:
    file.write(name + "\\n")
sys.stdout.write(texts[name].replace("alice(20001)", {ME!r} + "(20001)"))
"""
JOB = 'name = "cnn"\nstrategy = "single"\ncommand = ["true"]\ntime = "0:10:00"\n[roles.worker]\n'
WINDOW = ("--since", "2026-09-20", "--until", "2026-09-30")


@pytest.fixture
def typed(tmp_path: Path) -> Type:
    """Type `slurm-tf WORDS` where Slurm's commands are stand-ins, which know the jobs of the table."""
    (tmp_path / "saved.txt").write_text(TABLE)
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("sacct", SACCT.replace("PYTHON", shlex.quote(sys.executable))), ("scontrol", ANSWER), ("sacctmgr", ANSWER),
        ("sbatch", "#!/bin/sh\nexit 0\n"),
    ):  # fmt: skip
        path = tmp_path / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
    for number, name in ((1, "cnn-1"), (22, "bert-1")):
        own = RunFolder(str(tmp_path / "runs" / name))
        Path(own.path).mkdir(mode=0o700, parents=True)
        Path(own.path, "checkpoints").mkdir()
        write_manifest(own, name[:-2])
        job_chain.add(own, str(number), "", (), False, submission=1)

    def run(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        changed = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TZ": "UTC", "PYTHONPATH": PYTHONPATH,
            "SLURM_TF_RUNS": str(tmp_path / "runs"), "XDG_STATE_HOME": str(tmp_path / "state"),
        }  # fmt: skip
        return command_line.slurm_tf(words, {**inherited, **changed, **environ}, tmp_path)

    return run


def ok(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_options_it_answers_a_person(typed: Type, golden: Callable[[str, str], None]) -> None:
    golden("usage_question.txt", ok(typed("usage", *WINDOW, COLUMNS="100")).replace(f"{ME} in", "alice in"))


def test_the_advice_that_is_given_can_be_typed(typed: Type, tmp_path: Path) -> None:
    found = json.loads(ok(typed("usage", *WINDOW, "--json")))
    assert [each["template"] for each in found["templates"]] == ["solve", "bert", "cnn", "prepare"]
    assert found["limits"]["limits"][0]["left"] == pytest.approx(2933 / 60)
    causes = found["wasted"]["causes"]
    assert [each["why"] for each in causes] == [
        "timeout", "out of memory", "preempted", "failed", "idle cpus", "cancelled",
    ]  # fmt: skip
    commands = [match[1] for each in causes if (match := re.search("slurm-tf (.*)$", each["advice"]))]
    assert [command.split()[0] for command in commands] == ["checkpoints", "logs", "efficiency"]
    for command in commands:
        ok(typed(*shlex.split(command)))
    advice = {each["why"]: each["advice"].removeprefix("ask for ") for each in causes}
    assert advice["out of memory"] == 'mem = "48G"'
    (tmp_path / "job.toml").write_text(JOB + advice["out of memory"] + "\n")
    option = advice["timeout"].partition(",")[0]
    script = ok(typed("submit", "job.toml", option, "--dry-run"))
    assert {"#SBATCH --time=03:00:00", "#SBATCH --mem=48G"} <= set(script.splitlines())


def test_a_leader_sees_each_member(typed: Type, tmp_path: Path) -> None:
    text = ok(typed("usage", "--group", *WINDOW))
    assert re.search(rf"^{ME} +\S+ +\S+ +18 ", text, re.MULTILINE)
    assert re.search(r"^bob +0.0 +8.00 +1 ", text, re.MULTILINE)
    assert "Unknown: neither Slurm (gres/gpuutil) nor a run recorded how busy any GPU was." in text
    assert re.search(r"^24 +bob +prepare ", text, re.MULTILINE)
    # of the account, not of who asks
    assert "account vision" in text
    assert f"{ME} in vision" not in text
    done = typed("usage", "--group", *WINDOW, "--csv", "--html", "group.html")
    header, *rows = ok(done).splitlines()
    assert header.startswith("table,user,template,job,jobs,gpus,gpu_hours,cpu_hours,")
    assert [row for row in rows if row.startswith("members,bob,,,1,,0.0,8.0,")]
    assert "slurm-tf: wrote group.html\n" in done.stderr
    page = (tmp_path / "group.html").read_text()
    assert "What vision may still use" in page
    assert ">In Slurm</th>" in page
    assert "GrpTRESMins" in page


def test_slurm_without_limits_leaves_a_report(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    text = ok(typed("usage", *WINDOW))
    assert f"What {ME} may still use is unknown: Access denied" in text
    done = typed("usage", "--group", *WINDOW)
    assert (done.returncode, done.stdout) == (2, "")
    assert "your accounts are unknown: Access denied" in done.stderr
    assert "--account NAMES" in done.stderr


def test_names_states_order_and_number_of_groups(typed: Type) -> None:
    words = shlex.split("--by name,state --name 'pre*,s?lve' --state TO,ca,Completed --sort state --top 2")
    lines = ok(typed("usage", *WINDOW, *words)).splitlines()
    assert [line.split()[:2] for line in lines[4:6]] == [["prepare", "CANCELLED"], ["prepare", "COMPLETED"]]
    assert lines[6].startswith("TOTAL ")
    assert lines[7] == "1 more groups are in TOTAL."


def test_sql_and_parquet(typed: Type, tmp_path: Path) -> None:
    query = "select state, count(*) as jobs, max(gpus) as gpus from jobs group by 1 order by 2 desc limit 2"
    assert ok(typed("usage", *WINDOW, "--sql", query)).split("\n")[:2] == [
        "state          jobs  gpus", "OUT_OF_MEMORY    14     4",
    ]  # fmt: skip
    done = typed("usage", *WINDOW, "--sql", f"from read_text('{tmp_path}/saved.txt')")
    assert (done.returncode, done.stdout, "OUT_OF_MEMORY" in done.stderr) == (2, "", False)
    done = typed("usage", *WINDOW, "--name", "solve", "--parquet", "jobs.parquet")
    assert (done.stdout, done.stderr) == ("", "slurm-tf: wrote jobs.parquet\n")
    assert duckdb.read_parquet(str(tmp_path / "jobs.parquet")).project("id, name").fetchall() == [("20", "solve")]


def test_answers_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(("a", "b\x1b"), [(1, None), (2.5, "x\n")])
    usage_output.print_answer(answer, as_json=True, as_csv=False)
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "b\x1b": None}, {"a": 2.5, "b\x1b": "x\n"}]
    usage_output.print_answer(answer, as_json=False, as_csv=True)
    assert capsys.readouterr().out == 'a,b\x1b\n1,\n2.5,"x\n"\n'
    usage_output.print_answer(answer, as_json=False, as_csv=False)
    assert capsys.readouterr().out == "  a  b?\n  1  -\n2.5  x?\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sort", "colour"], "found --sort colour; needed one of user, gpu-hours"),
        (["--state", "SLEEPY"], "found --state SLEEPY; needed one of BOOT_FAIL, CANCELLED"),
        (["--group", "--by", "user"], "found --group with --by, --sort or --top"),
        (["--sql", "copy jobs to 'x'"], "found COPY in --sql; needed one SELECT"),
        (["--top", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_done(words: list[str], message: str, typed: Type) -> None:
    done = typed("usage", *WINDOW, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_price_of_a_qos_is_slurms(typed: Type, tmp_path: Path) -> None:
    lines = [
        line.replace("|gpu|", "|gpu|urgent|").replace("|Partition|", "|Partition|QOS|") for line in TABLE.splitlines()
    ]
    (tmp_path / "saved.txt").write_text("\n".join(lines))
    (tmp_path / "bin" / "sacct").write_text((tmp_path / "bin" / "sacct").read_text().replace("'|', 18", "'|', 19"))
    (tmp_path / "prices.toml").write_text('currency = "EUR"\ncpu-hour = 1.0\ngpu-hour = 0.0\n')
    found = ok(typed("usage", "--by", "user", "--json", "--name", "solve", "--prices", "prices.toml", *WINDOW))
    # two hours of 8 CPUs, with a UsageFactor of 2.5
    assert json.loads(found)["total"]["cost"] == pytest.approx(2.5 * 16)
