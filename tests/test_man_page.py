"""The man page slurm-tf(1): it is what the command line says, and man shows it without a warning."""

import os
import shutil
import subprocess

import click
import pytest

from slurm_tf.cli import commands
from tests import man_page
from tests.conftest import ROOT

PAGE = ROOT / "man" / "slurm-tf.1"


def test_the_page_is_what_the_command_line_says(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(man_page.page())
    assert PAGE.read_text() == man_page.page(), "pytest --update-golden tests/test_man_page.py writes it anew"


def test_it_has_each_verb_and_each_option() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    context = click.Context(commands.cli)
    for name in commands.VERBS:
        command = commands.cli.get_command(context, name)
        assert command is not None
        group = command.commands.values() if isinstance(command, click.Group) else [command]
        options = {option for each in group for param in each.params for option in param.opts if option[0] == "-"}
        assert f"\n.B {name} " in text or name == "launch"
        assert {option for option in options if option not in text} == set()


def test_man_shows_it_without_a_warning() -> None:
    program = shutil.which("groff")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("found no groff; needed: apt install groff-base")
    assert program
    done = subprocess.run(
        [program, "-man", "-ww", "-Tutf8", "-rLL=80n", PAGE], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    assert "distributed TensorFlow under Slurm" in done.stdout
