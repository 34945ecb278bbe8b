"""The command line, as a person types it: what is printed, where, and the exit code."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PYTHONPATH, ROOT
from tests.forkserver import command_line

pytestmark = pytest.mark.slow

SLURM_TF = [sys.executable, "-m", "slurm_tf"]
JOB = 'name = "a"\nstrategy = "single"\ncommand = ["bash", "-c", "echo hi; exit ${CODE-0}"]\n[roles.worker]\n'


def slurm_tf(*arguments: str, cwd: Path = ROOT, **environ: str) -> "subprocess.CompletedProcess[str]":
    return command_line.slurm_tf(arguments, {**os.environ, "PYTHONPATH": PYTHONPATH, **environ}, cwd)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["render", "-h"]])
def test_help(arguments: list[str]) -> None:
    done = slurm_tf(*arguments)
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_version() -> None:
    assert slurm_tf("--version").stdout == "slurm-tf, version 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rn"], "No such command 'rn'"),
        (["run"], "slurm-tf: found no job file; needed one, or a job template\nHINT: slurm-tf run JOB.toml"),
        (["run", "nothing.toml"], "slurm-tf: there is no job file nothing.toml; needed a .toml file"),
        (
            ["render", "jobs/wide_and_deep.toml", "--site", "nope"],
            "slurm-tf: no site profile 'nope'; needed one of example-",
        ),
        (["render", "jobs/wide_and_deep.toml", "--name", "a/b"], "slurm-tf: found the run name 'a/b'"),
        (["render", "jobs/wide_and_deep.toml", "--output", "/nowhere/x"], "slurm-tf: cannot write /nowhere/x"),
        (["run", "README.md"], "slurm-tf: README.md: "),
        (["explain", "jobs/wide_and_deep.toml", "--set", "roles.worker.cuont=2"], "HINT: did you mean 'count'?"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = slurm_tf(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_render_prints_or_writes_the_same_script(job: Path, tmp_path: Path) -> None:
    printed = slurm_tf("render", str(job))
    assert printed.returncode == 0
    assert printed.stdout.startswith("#!/bin/bash\n#SBATCH --job-name=stf-a\n")
    output = tmp_path / "out.sbatch"
    assert slurm_tf("render", str(job), "--output=~/out.sbatch", HOME=str(tmp_path)).stdout == ""
    assert output.read_text() == printed.stdout
    assert output.stat().st_mode & 0o777 == 0o600


def test_explain_says_where_each_value_is_from(job: Path) -> None:
    lines = slurm_tf("explain", str(job), "--set", "roles.worker.mem=1G").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["name"].endswith(str(job))
    assert rows["roles.worker.mem"].endswith("command line: --set")
    assert rows["checkpoint.keep"].split() == ["checkpoint.keep", "3", "built-in"]


def test_schema_accepts_the_jobs_that_are_shipped() -> None:
    schema = json.loads(slurm_tf("schema", "job").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    # a file that extends another one has from there what is missing
    assert schema["$defs"]["JobSpec"]["anyOf"] == [{"required": ["name", "strategy"]}, {"required": ["extends"]}]
    assert "ports" in json.loads(slurm_tf("schema", "site").stdout)["$defs"]["Site"]["properties"]


def test_values_and_arguments_reach_the_program_and_are_typed_again(job: Path, tmp_path: Path) -> None:
    text = JOB.replace('"echo hi; exit ${CODE-0}"', '"printf \'%s|\' \\"$@\\"", "{n}", "n={n}"')
    job.write_text(text + "[params]\nn = {max = 9}\n")
    done = slurm_tf("run", str(job), "n=7", "--", "--site", "a 'b {n}", cwd=tmp_path)
    assert done.stdout == "[worker:0] n=7|--site|a 'b {n}|\n"
    command = re.search(r"^  .*? run (.*?)  +# start it again$", done.stderr, re.MULTILINE)
    assert command is not None
    assert shlex.split(command[1]) == [str(job), "n=7", "--name", "a-1", "--", "--site", "a 'b {n}"]
    script = slurm_tf("render", str(job), "n=8", "--site", "generic", "--", "$(id)").stdout
    assert """ 8 n=8 '$(id)'\n""" in script
    assert "--ntasks=1\n" in script
    wrong = slurm_tf("submit", str(job), "n=10", "m=1", "--site", "generic", "--dry-run", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "params: 2 values are wrong\n  m=1: no such param" in wrong.stderr


def test_run_prints_the_tasks_output_and_the_next_commands(job: Path, tmp_path: Path) -> None:
    done = slurm_tf("run", str(job), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "[worker:0] hi\n"
    assert "Run a-1 in runs/a-1\n" in done.stderr
    command = re.search(r"^  (.*?)  +# start it again$", done.stderr, re.MULTILINE)
    assert command is not None
    assert command[1].endswith(f"run {job} --name a-1")
    state = slurm_tf("status", "a-1", cwd=tmp_path).stdout
    assert "without Slurm" in state
    assert "submitted" not in state
    again = slurm_tf("run", str(job), "--name", "a-1", "--json", cwd=tmp_path, CODE="7")
    assert again.returncode == 7
    assert "the job failed: worker:0 on " in again.stderr
    assert "[worker:0] hi\n" in again.stderr
    said = json.loads(again.stdout)
    (point,) = said.pop("points")
    folder = str(tmp_path / "runs" / "a-1")
    assert said == {"run": "a-1", "folder": folder, "logs": f"{folder}/logs", "jobs": []}
    assert (point["state"], point["exit_code"], point["job"]) == ("FAILED", 7, None)
    assert point["reason_words"].endswith(" ended with exit code 7")
    assert point["task_log"] == f"{folder}/logs/worker-0.log"
    assert point["ended"] > point["started"] > point["attempts"][0]["ended"]
    wrong = slurm_tf("run", str(job), "--name", "a-1", "--json", "--set", "setup=(exit 3)", cwd=tmp_path)
    (point,) = json.loads(wrong.stdout)["points"]
    # what the attempt before said of its end is not of this one
    assert (wrong.returncode, point["exit_code"], point["reason_words"], point["attempt"]) == (3, 3, None, None)
    assert os.listdir(tmp_path / "runs") == ["a-1"]
    assert (tmp_path / "runs" / "a-1" / "logs" / "worker-0.log").read_text() == "hi\nhi\n"


def test_a_preflight_of_this_machine_in_json(job: Path, tmp_path: Path) -> None:
    done = slurm_tf("preflight", str(job), "--site", "local", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["run"], said["jobs"], said["exit_code"]) == ("a-1", [], 0)
    assert (len(said["report"]["nodes"]), said["report"]["reasons"]) == (1, {})
    assert "\n".join(f"slurm-tf: {line}" for line in said["report"]["table"]) in done.stderr
    assert "hi" not in done.stderr


def test_run_writes_nothing_for_a_job_that_cannot_be(job: Path, tmp_path: Path) -> None:
    done = slurm_tf("run", str(job), "--set", "roles.worker.count=2", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "runs").exists()


def test_run_inside_of_an_allocation_is_still_local(job: Path, tmp_path: Path) -> None:
    done = slurm_tf(
        "run", str(job), cwd=tmp_path, SLURM_JOB_ID="1", SLURM_PROCID="3", SLURM_NTASKS="9", SLURM_STEP_ID="4"
    )
    assert done.returncode == 0, done.stderr


def test_setup_runs_first_and_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "job.toml"
    path.write_text(
        'name = "a"\nstrategy = "single"\ncommand = ["bash", "-c", "echo $FROM_SETUP; pwd"]\n'
        'chdir = "sub"\nsetup = "export FROM_SETUP=yes"\n[roles.worker]\n'
    )
    done = slurm_tf("run", str(path), cwd=tmp_path)
    assert done.stdout == f"[worker:0] yes\n[worker:0] {tmp_path / 'sub'}\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = " ".join(SLURM_TF)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; for i in {{1..3}}; do {command} schema job | head -c 1 >/dev/null; done"],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


def test_the_task_prolog_is_written_where_it_never_changes(tmp_path: Path) -> None:
    done = slurm_tf("plugin", "task-prolog", XDG_CACHE_HOME=str(tmp_path))
    path = Path(done.stdout.removesuffix("\n"))
    assert path.parent == tmp_path / "slurm-tf"
    assert path.stat().st_mode & 0o777 == 0o700
    again = slurm_tf("plugin", "task-prolog", "--json", XDG_CACHE_HOME=str(tmp_path))
    assert json.loads(again.stdout) == {"file": str(path), "python": "python3"}
    other = slurm_tf("plugin", "task-prolog", "--python=/opt/python", XDG_CACHE_HOME=str(tmp_path))
    assert other.stdout not in ("", done.stdout)
    assert len(list(path.parent.glob("task-prolog-*"))) == 2
    head = path.read_bytes().partition(b"\n# What follows")[0]
    shellcheck = Path(sys.executable).parent / "shellcheck"
    checked = subprocess.run([shellcheck, "-"], input=head, capture_output=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout.decode()


def test_the_task_prolog_of_a_site(tmp_path: Path) -> None:
    done = slurm_tf("plugin", "task-prolog", "--output", str(tmp_path / "prolog"))
    assert done.stdout == f"{tmp_path}/prolog\n"
    assert (tmp_path / "prolog").stat().st_mode & 0o777 == 0o755
    done = slurm_tf("plugin", "task-prolog", "--output", str(tmp_path / "no" / "prolog"))
    assert done.returncode == 74
    assert "cannot write" in done.stderr


def test_launch_is_a_verb_that_says_what_it_needs() -> None:
    assert re.search(r"\n  launch +\S", slurm_tf("--help").stdout)
    done = slurm_tf("launch", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: slurm-tf launch --roles ROLES")


def test_a_job_that_was_submitted_stays_so_where_slurm_then_says_nothing(job: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    down = "echo Unable to contact slurm controller >&2; exit 1"
    for name, lines in (("sbatch", "echo 7"), ("squeue", down), ("scontrol", down)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = slurm_tf("submit", str(job), "--site", "generic", "--parsable", cwd=tmp_path, PATH=path)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    assert "whether job 7 can start is unknown: Unable to contact slurm controller" in done.stderr
