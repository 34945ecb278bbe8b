"""Documentation: links lead somewhere, every key is named, what the README types works."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from slurm_tf.jobspec import configuration, job_file, plan, sbatch_table, sites
from slurm_tf.jobspec.sbatch_table import Use
from slurm_tf.launch.direct import direct_launch
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import sbatch_variables
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_can_be_read_in_a_terminal(page: Path) -> None:
    for line in page.read_text().splitlines():
        assert len(line) <= 120 or line.startswith("|"), line


def keys(spec: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(spec)}


@pytest.mark.parametrize(
    ("page", "specs"),
    [
        (
            "jobs.md",
            [
                job_file.JobSpec,
                job_file.Role,
                job_file.Roles,
                job_file.Checkpoint,
                job_file.Launch,
                job_file.Retry,
                job_file.Horovod,
                configuration.UserFile,
            ],
        ),
        ("sites.md", [sites.Site, sites.Recognise, sites.Partition, sites.Prices]),
    ],
)
def test_every_key_is_documented(page: str, specs: list[type[msgspec.Struct]]) -> None:
    text = (ROOT / "docs" / page).read_text()
    missing = {key for spec in specs for key in keys(spec) if not re.search(rf"[`\[.]{key}[`\].]", text)}
    assert missing == set()


def option_row(option: sbatch_table.SbatchOption) -> str:
    """Return the row of docs/jobs.md for an option of sbatch."""
    names = [f"`--{option.name}`", *([f"`-{option.letter}`"] if option.letter else [])]
    variables = [f"`{name}`" for name, stands_for in sbatch_variables.OPTIONS.items() if stands_for == option.name]
    made = {
        Use.KEPT: "kept",
        Use.KEY: f"the key `{option.instead}`",
        Use.VERB: f"`slurm-tf submit`: {option.instead}",
        Use.REFUSED: f"refused; needed {option.instead}",
    }[option.use]
    if option.name in sbatch_table.RESTRICTED:
        made += f"; {sbatch_table.RESTRICTED[option.name]}"
    return f"| {', '.join(names)} | {', '.join(variables)} | {made} |"


def test_every_option_of_sbatch_is_documented(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "jobs.md"
    before, head, rest = page.read_text().partition(
        "| option | variable | what slurm-tf makes of it |\n|---|---|---|\n"
    )
    table, end, after = rest.partition("\n\n")
    rows = "\n".join(map(option_row, sbatch_table.OPTIONS.values()))
    if request.config.getoption("--update-golden"):
        page.write_text(before + head + rows + end + after)
    else:
        assert table == rows, "pytest --update-golden tests/test_docs.py writes the rows anew"


def test_every_option_of_launch_is_documented_with_its_variable() -> None:
    text = (ROOT / "docs" / "launch.md").read_text()
    for field, variable in direct_launch.VARIABLES.items():
        assert f"| `--{field.replace('_', '-')}` | `{variable}` |" in text


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("site", ["generic", "local"])
def test_every_job_fits_every_site_and_is_documented(path: Path, site: str) -> None:
    fitted = plan.fit(configuration.load(path, {}, site), RunFolder("/runs/x"))
    assert all((path.parent / role.command[1]).exists() for role in fitted.settings.roles)
    assert f"../jobs/{path.name}" in (ROOT / "docs" / "jobs.md").read_text()


def test_the_quick_start_is_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"## Quick start\n.*?```\n(.*?)```", text, re.DOTALL)
    assert block.split("\n") == ["make demo", "make test", ""]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")


def test_the_readmes_job_file_and_error_are_true(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (job,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "flowers.toml"
    path.write_text(job)
    plan.fit(configuration.load(path, {}, "generic"), RunFolder("/runs/x"))
    path.write_text(job.replace("gpus-per-task", "gpu-per-task"))
    done = subprocess.run(
        [sys.executable, "-m", "slurm_tf", "render", "flowers.toml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        check=False,
    )  # fmt: skip
    (shown,) = re.findall(r"\$ slurm-tf render flowers.toml\n(.*?)```", text, re.DOTALL)
    first, hint = shown.strip().split("\n")
    assert done.stderr.startswith(first.removesuffix("..."))
    assert done.stderr.rstrip().endswith(hint)
