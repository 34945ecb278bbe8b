"""What all verbs have in common: -h, --json, their places in --help; and job files from standard input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from slurm_tf.cli import commands, terminal
from slurm_tf.errors import SlurmTfError

# They print a script, or what a program prints, or start one.
_NO_JSON = {"completion", "attach", "run", "logs", "render", "tensorboard", "launch", "plugin"}
JOB = 'name = "a"\nstrategy = "single"\ncommand = ["true"]\n[roles.worker]\n'


def typed(*words: str, **more: Any) -> click.testing.Result:
    return click.testing.CliRunner().invoke(commands.cli, words, prog_name="slurm-tf", **more)


def params(verb: str) -> set[str]:
    command = commands.cli.get_command(click.Context(commands.cli), verb)
    if isinstance(command, click.Group):
        return set.intersection(
            *({word for each in sub.params for word in each.opts} for sub in command.commands.values())
        )
    return {word for each in command.params for word in each.opts} if command else set()


def test_help_shows_the_verbs_by_what_one_wants_to_do(golden: Callable[[str, str], None]) -> None:
    golden("help.txt", typed("--help", terminal_width=80).output)


@pytest.mark.parametrize("verb", sorted(commands.VERBS.keys() - {"launch"}))
def test_h_is_help(verb: str) -> None:
    done = typed(verb, "-h")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: slurm-tf {verb} ")
    assert done.output == typed(verb, "--help").output


def test_a_letter_that_belongs_to_an_option_of_sbatch_is_no_help(tmp_path: Path) -> None:
    with pytest.raises(SlurmTfError, match="there is no job file"):
        typed("submit", str(tmp_path / "job.toml"), "-phigh", "--", "-h", catch_exceptions=False)


@pytest.mark.parametrize("verb", sorted(commands.VERBS.keys() - _NO_JSON))
def test_every_verb_that_answers_something_has_json(verb: str) -> None:
    assert "--json" in params(verb) or verb == "sites"


def test_the_same_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    pages = json.loads(typed("docs", "--json").output)
    assert {"page": "submit", "title": "Submitting and watching jobs"} in pages
    assert json.loads(typed("docs", "submit", "--json").output)["text"].startswith("# Submitting")
    assert "jobs/cnn.py" in json.loads(typed("examples", "--json").output)
    rows = {row["key"]: row for row in json.loads(typed("explain", "job.toml", "--site", "generic", "--json").output)}
    assert rows["command"] == {"key": "command", "value": ["true"], "from": "job.toml"}
    assert (rows["site"]["value"], rows["checkpoint.keep"]["value"]) == ("generic", 3)
    with pytest.raises(SlurmTfError, match="found --json, with which nobody is asked; needed --yes or --dry-run"):
        typed("rm", "a-1", "--json", catch_exceptions=False)
    with pytest.raises(SlurmTfError, match="found --json and --dry-run; needed one of them"):
        typed("submit", "job.toml", "--site", "generic", "--json", "--dry-run", catch_exceptions=False)


def test_a_job_file_from_standard_input_is_one_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = typed("render", "-", "--site", "generic", input=JOB)
    assert f"--chdir={tmp_path}/" in done.output.replace("'", "")
    with pytest.raises(SlurmTfError, match=r"^-: nme: found the key 'nme'"):
        typed("submit", "-", "--site", "generic", input=f"nme = 1\n{JOB}", catch_exceptions=False)
    assert not (tmp_path / "runs").exists()


def test_an_error_that_quotes_a_key_moves_no_cursor() -> None:
    assert terminal.printable_lines("job.toml: a\x1b[31m\x9b: found\n\tHINT") == "job.toml: a?[31m?: found\n\tHINT"
