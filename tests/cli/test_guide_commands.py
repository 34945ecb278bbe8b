"""The verbs docs and examples."""

import os
from pathlib import Path

import click.testing
import pytest

from slurm_tf.cli import guide_commands
from slurm_tf.errors import UsageError
from tests.conftest import ROOT


def test_pages_are_listed_and_printed() -> None:
    typed = click.testing.CliRunner()
    pages = typed.invoke(guide_commands.docs).output.splitlines()
    assert [line.split()[0] for line in pages] == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    assert ["submit", "Submitting and watching jobs"] in [line.split(maxsplit=1) for line in pages]
    for name in ("submit", "submit.md"):
        assert typed.invoke(guide_commands.docs, [name]).output.startswith("# Submitting and watching jobs\n")
    with pytest.raises(UsageError, match=r"no page '\.\./README'; needed one of admins, "):
        typed.invoke(guide_commands.docs, ["../README"], catch_exceptions=False)


def test_examples_are_copied_and_replace_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = click.testing.CliRunner()
    done = typed.invoke(guide_commands.examples)
    ready = sorted(path.name for path in (ROOT / "jobs").iterdir() if path.suffix in (".py", ".toml"))
    assert done.output.splitlines() == [f"jobs/{name}" for name in ready]
    assert sorted(os.listdir(tmp_path / "jobs")) == ready
    (tmp_path / "jobs" / "cnn.py").write_text("mine")
    with pytest.raises(UsageError, match=r"jobs has .*cnn.py.*; needed a folder without"):
        typed.invoke(guide_commands.examples, catch_exceptions=False)
    assert (tmp_path / "jobs" / "cnn.py").read_text() == "mine"
