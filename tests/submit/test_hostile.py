"""Hostile values: whatever stands in a job file, the shell and sbatch get it as it is, or it is refused."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import configuration, plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.submit import render

CANARY = "/tmp/slurm-tf-canary"
HOSTILE = [
    "$(touch /tmp/slurm-tf-canary)",
    "`touch /tmp/slurm-tf-canary`",
    "; touch /tmp/slurm-tf-canary;",
    "' ; touch /tmp/slurm-tf-canary; '",
    '" ; touch /tmp/slurm-tf-canary; "',
    "\\",
    "\\\\'",
    "a\\",
    '"',
    "'",
    "'\"'\"'",
    "#",
    "a #SBATCH --wrap=x",
    "-rf",
    "--help",
    "--",
    ":",
    "*?[a-z]{a,b}~!",
    "%j %x %%",
    "{{ 7*7 }}{% raw %}",
    "é漢字🎉\u202e\u2028\u00a0",
    " leading and trailing ",
    "<>|&()",
    "=",
    "x" * 900,
]

# anything that TOML can hold but control characters and lone surrogates
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)
hostile = st.one_of(texts, st.sampled_from(HOSTILE), st.builds(str.__add__, texts, st.sampled_from(HOSTILE)))


def toml(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def sbatch_words(line: str) -> str:
    """Read one directive's option as sbatch does: an independent reading of what Slurm 22.05.8 was seen to do."""
    assert line.startswith("#SBATCH ")
    word, quote, characters = "", "", iter(line[len("#SBATCH ") :])
    for character in characters:
        if character == "\\":
            word += next(characters)
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        elif not quote and (character.isspace() or character == "#"):
            raise AssertionError(f"{line!r} goes on after the option")
        else:
            word += character
    assert not quote
    return word


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A program in the place of the nodes' Python that writes down its arguments."""
    path = tmp_path / "stub"
    path.write_text('#!/bin/bash\nprintf "%s\\0" "$@" > "$(dirname "$0")/arguments"\n')
    path.chmod(0o700)
    return path


def check_script(text: str, stub: Path) -> None:
    """Run `text` under bash; what the launcher gets must end in an agent, and nothing else may have run."""
    script = stub.parent / "script"
    script.write_text(text)
    subprocess.run(["bash", script], check=True, timeout=60, env={"PATH": os.environ["PATH"], "HOME": "/"})
    words = (stub.parent / "arguments").read_bytes().decode().split("\0")[:-1]
    assert words[-1] == "agent"
    assert not os.path.exists(CANARY)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(hostile, min_size=20, max_size=30), hostile, hostile, hostile, hostile)
@pytest.mark.slow
def test_any_text_reaches_the_launcher_byte_for_byte(
    stub: Path, command: list[str], name: str, account: str, comment: str, variable: str
) -> None:
    """600 values and more: arguments, name, account, comment, environment."""
    folder = stub.parent / "a b'$(x)"
    folder.mkdir(exist_ok=True)
    job = folder / "job.toml"
    lines = {"name": name or "x", "strategy": "single", "account": account, "partition": account}
    job.write_text(
        "".join(f"{key} = {toml(value)}\n" for key, value in lines.items())
        + f"command = [{', '.join(map(toml, command))}]\n[roles.worker]\n"
        + f"[sbatch]\ncomment = {toml(comment)}\n[env]\nV = {toml(variable)}\n"
    )
    run = RunFolder("/runs/a b;$(x)'\"é-1")
    on_site = {}
    for site, text in {"generic": "", "local": "scheduler = 'local'\ntemplate = 'local'\n"}.items():
        profile = folder / f"{site}.toml"
        profile.write_text(text + f"node-python = {toml(str(stub))}\n")
        on_site[site] = plan.fit(configuration.load(job, {}, str(profile)), run)
    assert on_site["local"].settings.env == {"V": variable}
    check_script(render.script(on_site["local"]), stub)
    for each in on_site.values():
        kept = json_file.parse(json_file.dumps(each.settings), LaunchSettings, "launch.json")
        assert [role.command for role in kept.roles] == [tuple(command)]

    script = render.script(on_site["generic"])
    directives = [sbatch_words(line) for line in script.split("\n") if line.startswith("#SBATCH")]
    assert f"--job-name=stf-{name or 'x'}" in directives
    assert f"--chdir={folder.resolve()}" in directives
    for option, value in (("account", account), ("partition", account), ("comment", comment)):
        assert (f"--{option}={value}" in directives) == bool(value)


@pytest.mark.slow
def test_every_control_character_is_refused_everywhere(load: Callable[..., Job]) -> None:
    controls = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"]
    assert "\n" in controls
    assert len(controls) == 65
    template = (
        'name = {0}\nstrategy = "single"\ncommand = ["x", {1}]\n[roles.worker]\n'
        "[sbatch]\ncomment = {2}\n[env]\nV = {3}\n"
    )
    for control in controls:
        escaped = f'"a\\u{ord(control):04x}b"'
        for place in range(4):
            values = ['"x"'] * 4
            values[place] = escaped
            with pytest.raises(ConfigError, match="without control characters"):
                plan.fit(load(template.format(*values)), RunFolder("/runs/x"))


PROGRAM = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ["V"], os.getcwd()]))
"""


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_end_to_end(value: str, fit: Callable[..., Plan]) -> None:
    fitted = fit(
        f'name = {toml(value)}\nstrategy = "single"\ncommand = [{toml(value)}]\n'
        f"partition = {toml(value)}\naccount = {toml(value)}\n[roles.worker]\nconstraint = {toml(value)}\n"
        f"[sbatch]\ncomment = {toml(value)}\nreservation = {toml(value)}\n"
    )
    words = [sbatch_words(line) for line in render.script(fitted).split("\n") if line.startswith("#SBATCH")]
    assert f"--job-name=stf-{value}" in words
    for option in ("partition", "account", "constraint", "comment", "reservation"):
        assert f"--{option}={value}" in words


@pytest.mark.slow
@pytest.mark.usefixtures("venv_path")
def test_hostile_arguments_and_variables_through_real_agents(tmp_path: Path) -> None:
    """The whole way: command line, bash, coordinator, local step, agent, program."""
    folder = tmp_path / "$(touch canary) 'é\" ;"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    arguments = ", ".join(map(toml, HOSTILE))
    (folder / "job.toml").write_text(
        f'name = {toml(HOSTILE[0])}\nstrategy = "single"\ncommand = ["python", "program.py", {arguments}]\n'
        f"[roles.worker]\n[env]\nV = {toml(''.join(HOSTILE))}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "slurm_tf", "run", "job.toml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[worker:0] ")]
    assert json.loads(line.removeprefix("[worker:0] ")) == [HOSTILE, "".join(HOSTILE), str(folder)]
    assert re.fullmatch(r"[\w.+-]+-1", os.listdir(folder / "runs")[0])
    assert not os.path.exists(CANARY)
    assert "canary" not in os.listdir(folder)
