"""What all verbs have in common: -h, --json, their places in --help; and job files from standard input."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from slurm_tf.cli import commands, terminal
from slurm_tf.errors import SlurmTfError
from slurm_tf.launch.direct import direct_launch

JOB = 'name = "a"\nstrategy = "single"\ncommand = ["true"]\n[roles.worker]\n'


def typed(*words: str, **more: Any) -> click.testing.Result:
    return click.testing.CliRunner().invoke(commands.cli, words, prog_name="slurm-tf", **more)


def verbs(group: click.Group = commands.cli, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield each command with the words that are typed for it; of a group the group and its commands."""
    for name in group.commands:
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from verbs(command, *before, name)
        else:
            yield (*before, name)


VERBS = sorted(verbs())


def help_of(*words: str) -> str:
    return typed(*words, "--help", terminal_width=80).output


def test_help_shows_the_verbs_by_what_one_wants_to_do(golden: Callable[[str, str], None]) -> None:
    golden("help.txt", typed("--help", terminal_width=80).output)


@pytest.mark.parametrize("words", [*VERBS, ("sites",), ("images",), ("org",), ("data",), ("plugin",)], ids=" ".join)
def test_every_verb_has_h_and_json(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    if words == ("launch",):  # it runs without click, on the Python of the nodes
        with pytest.raises(SystemExit, match="0"):
            direct_launch.main(["-h"])
        assert "--json " in capsys.readouterr().out
        return
    done = typed(*words, "-h", terminal_width=80)
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: slurm-tf {' '.join(words)} ")
    assert done.output == help_of(*words)
    if words in VERBS:
        assert "  --json " in done.output


def test_a_letter_that_belongs_to_an_option_of_sbatch_is_no_help(tmp_path: Path) -> None:
    with pytest.raises(SlurmTfError, match="there is no job file"):
        typed("submit", str(tmp_path / "job.toml"), "-phigh", "--", "-h", catch_exceptions=False)


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
    with pytest.raises(SlurmTfError, match="found --json and --parsable; needed one of them"):
        typed("submit", "job.toml", "--site", "generic", "--json", "--parsable", catch_exceptions=False)
    completion = json.loads(typed("completion", "zsh", "--json").output)
    assert completion == {"shell": "zsh", "script": typed("completion", "zsh").output}


def test_a_script_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # there is no sbatch
    (tmp_path / "job.toml").write_text(f"{JOB}mem = '2G'\n")
    words = ("job.toml", "--site", "generic")
    done = json.loads(typed("render", *words, "--json", "--output", "out.sbatch").stdout)
    script = typed("render", *words).stdout
    directives = done.pop("directives")
    assert (directives[0]["ntasks"], directives[0]["mem"]) == ("1", "2G")
    assert done == {
        "run": "a-1", "folder": f"{tmp_path}/runs/a-1", "job_file": f"{tmp_path}/job.toml", "site": "generic",
        "params": {}, "script": script, "warnings": done["warnings"], "file": f"{tmp_path}/out.sbatch",
    }  # fmt: skip
    assert (tmp_path / "out.sbatch").read_text() == script
    tried = typed("submit", *words, "--json", "--dry-run")
    found = json.loads(tried.stdout)
    assert (found["script"], found["expected_start"]) == (typed("submit", *words, "--dry-run").stdout, None)
    assert "when it would start is unknown: found no sbatch in PATH" in tried.stderr
    assert not (tmp_path / "runs").exists()


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
