"""docs/coming_from.md: what it says is here is here, and that of Horovod is there."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from slurm_tf.jobspec import job_file, sites
from tests import horovod
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "coming_from.md"


def sections() -> dict[str, list[list[str]]]:
    """Return the rows of the table of each tool: the cells of the tool, of slurm-tf, and of what is different."""
    found = {}
    for text in PAGE.read_text().split("\n## ")[1:]:
        title, _, rest = text.partition("\n")
        rows = re.findall(r"^\| (.*) \|$", rest, re.MULTILINE)
        found[title] = [[cell.strip() for cell in re.split(r" \| ?", row)] for row in rows[1:]]
    return found


def keys(spec: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(spec)}


@pytest.mark.parametrize("tool", sections())
def test_each_key_that_is_named_is_one_of_a_job_file_or_a_site(tool: str) -> None:
    tables = ("Checkpoint", "Launch", "Retry", "Train", "Horovod", "Role", "JobSpec")
    known = {"hold", "true", *keys(sites.Site)}.union(*(keys(getattr(job_file, name)) for name in tables))
    rows = sections()[tool]
    assert len(rows) >= 8
    for row in rows:
        for key in re.findall(r"`([a-z][a-z-]*)(?: = [^`]*)?`", row[1]):
            assert key in known, row
        for table in re.findall(r"`\[([a-z]+)(?:\.[a-z]+)?\]`", row[1]):
            assert table in keys(job_file.JobSpec), row


@pytest.mark.long  # TensorFlow is imported for it
def test_each_option_of_horovodrun_is_one() -> None:
    horovod.require()
    program = Path(sys.executable).with_name("horovodrun")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True)
    options = {option for row in sections()["Horovod"] for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row[0])}
    assert len(options) > 12
    assert [option for option in sorted(options) if not re.search(rf"{option}[\s,]", done.stdout)] == []
