"""The verb doctor, as a person types it: on a recorded cluster, without Slurm, with words that are wrong."""

import json
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_tf.cli.doctor_command import doctor, lines
from slurm_tf.doctor import findings, node_job
from slurm_tf.doctor.examination_job import Examination
from slurm_tf.doctor.node_job import Examined
from slurm_tf.errors import ConfigError, SlurmError, UnreachableError, UsageError
from slurm_tf.slurm import client
from tests.live_clusters import play

Type = Callable[..., Result]
# of a job that sbatch would take
STARTS = "sbatch: Job 7 to start at 2026-11-28T12:00:00 using 1 processors on nodes node1 in partition cpu"


@pytest.fixture
def answers() -> dict[str, str]:
    """Return what commands say that were not recorded; text that begins with "error" is one."""
    return {"sacct": "", "sbatch": STARTS}


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch,
    answers: Mapping[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Type:
    """Type `slurm-tf doctor WORDS` on the cluster "typed"."""
    play("typed", monkeypatch)
    recorded = client.run

    def run(argv: Sequence[str], *_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        if "assoc" in argv and "format=Account,Partition,QOS" in argv:  # what the message for a refused job names
            return subprocess.CompletedProcess(argv, 0, "vision||normal\n", "")
        if argv[0] not in answers:
            return recorded(argv)
        if answers[argv[0]].startswith("error"):
            raise SlurmError(answers[argv[0]])
        return subprocess.CompletedProcess(argv, 0, "", answers[argv[0]])

    monkeypatch.setattr(client, "run", run)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("SLURM_TF_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def go(*words: str) -> Result:
        done = CliRunner().invoke(doctor, list(words))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return go


def states(done: Result) -> dict[str, str]:
    """Return the state of each check that is not good."""
    return {each["check"]: each["state"] for each in json.loads(done.stdout) if each["state"] != "ok"}


# neither does the recording have them, nor this PATH
UNKNOWN = {"kill-wait": "unknown", "quota": "unknown", "node-python": "unknown"}


def test_a_good_cluster(typed: Type) -> None:
    done = typed()
    assert done.exit_code == 0, done.output
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert lines["sbatch"].startswith(
        "OK       sbatch          it takes a job of 2 min, and would start it at 2026-11-28 "
    )
    assert lines["partition"].split() == ["OK", "partition", "cpu"]
    assert "/runs is to be made; " in lines["shared-folder"]
    assert states(typed("--json")) == UNKNOWN


@pytest.mark.parametrize(
    ("command", "answer", "check", "found"),
    [
        ("sacct", "error: Connection refused\nmore", "accounting", "sacct: error: Connection refused"),
        ("sbatch", "error: Batch job submission failed: Invalid qos specification", "sbatch", "Invalid qos"),
    ],
)
def test_what_does_not_answer(
    command: str, answer: str, check: str, found: str, typed: Type, answers: dict[str, str]
) -> None:
    answers[command] = answer
    done = typed("--json")
    assert done.exit_code == 1
    assert states(done) == {**UNKNOWN, check: "error"}
    (bad,) = [each for each in json.loads(done.stdout) if each["state"] == "error"]
    assert found in bad["found"]
    assert bad["needed"] or bad["do"]


def test_without_slurm_all_that_needs_it_is_unknown(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: Sequence[str], *_: object, **__: object) -> None:
        raise UnreachableError(f"found no {argv[0]} in PATH", "Slurm's commands", "run this on a login node")

    monkeypatch.setattr(client, "run", run)
    done = typed("--json")
    assert done.exit_code == 1
    found = states(done)
    assert found.pop("slurm") == "error"
    assert set(found.values()) == {"unknown"}
    assert {"sbatch", "accounting", "partition"} <= set(found)
    # on a machine where nobody expects one
    assert typed("--site", "local").exit_code == 0


def test_a_job_file_and_options_choose_where(typed: Type, job_file: Callable[[str], Path]) -> None:
    job = job_file('name = "a"\nstrategy = "single"\ncommand = ["x"]\npartition = "gone"\n[roles.worker]\n')
    done = typed(str(job), "--json")
    assert states(done) == {**UNKNOWN, "partition": "error"}
    assert states(typed(str(job), "--partition=gpu", "--json")) == UNKNOWN


def test_a_folder_of_runs_that_others_can_change(typed: Type, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o777)
    assert states(typed("--json")) == {**UNKNOWN, "shared-folder": "warning"}
    runs.chmod(0o700)
    assert states(typed("--json")) == UNKNOWN
    runs.rmdir()
    runs.write_text("")
    assert states(typed("--json")) == {**UNKNOWN, "shared-folder": "error"}


def test_a_proxy_is_shown_without_its_password(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://alice:secret@proxy:3128")
    done = typed("--json")
    assert states(done) == {**UNKNOWN, "proxies": "warning"}
    assert "secret" not in done.stdout


@pytest.mark.parametrize(
    ("words", "count", "timeout"),
    [
        (["--nodes"], 2, 900.0),
        (["--nodes=3", "--timeout=1"], 3, 60.0),
        (["-N", "4", "--timeout=UNLIMITED"], 4, math.inf),
        (["-N", "JOB"], 2, 900.0),
        (["JOB", "--nodes", "--partition=cpu"], 2, 900.0),
        (["--nodes", "5", "JOB"], 5, 900.0),
    ],
)
def test_how_many_nodes_are_examined(
    words: list[str],
    count: int,
    timeout: float,
    typed: Type,
    job_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def examine(examination: Examination, _: object, seconds: float, __: object) -> Examined:
        asked.append((examination.job.spec.roles.with_tasks["worker"].count, seconds))
        raise SlurmError("sbatch: error: no", "", "ask somebody")

    monkeypatch.setattr(node_job, "run", examine)
    job = job_file('name = "a"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n')
    done = typed(*[str(job) if word == "JOB" else word for word in words], "--json")
    assert asked == [(count, timeout)]
    assert done.exit_code == 1
    assert states(done) == {**UNKNOWN, "job": "error"}


def test_without_slurm_there_are_no_nodes(typed: Type) -> None:
    done = typed("--nodes", "--site=local", "--json")
    assert (done.exit_code, states(done)["job"]) == (0, "unknown")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.toml"], "there is no job file gone.toml"),
        (["a", "b"], "found 'b'"),
        (["--", "x"], "found 'x'"),
        (["--wait"], "found the option --wait"),
        (["--clusters=other"], "found the option --clusters"),
    ],
)
def test_words_that_are_wrong(words: list[str], message: str, typed: Type) -> None:
    with pytest.raises(UsageError, match=message):
        typed(*words)


def test_a_job_file_that_is_wrong(typed: Type, job_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError):
        typed(str(job_file('name = "a"\nstrategy = "nonsense"\n')))


def test_a_message_of_several_lines_is_one_sentence() -> None:
    (line, *_) = lines([findings.unknown("slurm", "scontrol: error: no host\nscontrol: fatal: no source")])
    assert line == "unknown  slurm  scontrol: error: no host | scontrol: fatal: no source\n"
