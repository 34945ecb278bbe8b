"""The lines before the program starts, run by bash: one that fails ends the job, with a message that quotes it."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slurm_tf.jobspec.configuration import Job
from slurm_tf.submit import new_run, render

pytestmark = pytest.mark.slow

JOB = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\nsetup = {setup}\n[roles.worker]\n'
# what Environment Modules 3.2 defines: it returns 0 in any case
MODULES_3 = """module() {
  case $2 in
    nosuch) echo "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for 'nosuch'" >&2 ;;
    *) export LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}$2/1.0 ;;
  esac
  return 0
}
"""
# as Lmod and Environment Modules from 4 on do
MODULES_4 = "export MODULES_CMD=/usr/lib/modulecmd.tcl\nmodule() { [[ $2 != nosuch ]]; }\n"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the script of a job with these lines of setup; its launcher prints that it starts, and PATH."""
    python = tmp_path / "node-python"
    python.write_text("#!/bin/bash\necho starts with $VIRTUAL_ENV\n")
    python.chmod(0o700)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "activate").write_text("[ -f /nosuch ]\nfalse\nexport VIRTUAL_ENV=venv\n")
    (tmp_path / "failing.sh").write_text("true\nreturn 4\n")
    (tmp_path / "leaving.sh").write_text("exit 0\n")

    def start(setup: str, modules: Sequence[str] = (), prologue: str = "") -> "subprocess.CompletedProcess[str]":
        profile = f"modules = {list(modules)}\nprologue = '''{prologue}'''\nnode-python = '{python}'\n"
        (tmp_path / "site_configs").mkdir(exist_ok=True)
        (tmp_path / "site_configs" / "university.toml").write_text(profile)
        monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
        job = load(JOB.format(setup=f"'''\n{setup}\n'''"), "university", {"SLURM_TF_RUNS": str(tmp_path / "runs")})
        script = tmp_path / "script"
        script.write_text(render.script(new_run.prepare(job, "")))
        return subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)

    return start


@pytest.mark.parametrize(
    "setup",
    [
        "",
        # failing lines inside of what a line sources or calls, as conda's and modules' own scripts have them
        "source venv/activate",
        "conda() { false; [ -f /nosuch ] && true; return 0; }\nconda activate",
        "if false; then true; fi; ! true; [ -f /nosuch ] && true; grep -q x /dev/null || true",
        "echo $NOT_SET; x=$(false; true)",
        "false || true",
        "trap - ERR\nfalse\nexport A=1",
    ],
)
def test_setup_that_works_starts_the_program(setup: str, run: Run) -> None:
    done = run(setup)
    assert (done.returncode, "starts" in done.stdout, "slurm-tf" in done.stderr) == (0, True, False), done.stderr


@pytest.mark.parametrize(
    ("setup", "code", "quoted"),
    [
        ("source nosuch/activate", 1, "source nosuch/activate"),
        ("export A=1\nmodule load cuda  # here", 127, "module load cuda  # here"),
        ("source failing.sh", 4, "source failing.sh"),
        ("conda() {\n true\n return 3\n}\nconda activate 'my env'", 3, "conda activate 'my env'"),
        ("(cd /nosuch)", 1, "(cd /nosuch)"),
        ("x=$(exit 5)", 5, "x=$(exit 5)"),
        ("for x in 1; do false; done", 1, "for x in 1; do false; done"),
        ("echo a |\n  grep b", 1, "  grep b"),
    ],
)
def test_a_line_that_fails_ends_the_job_and_is_quoted(setup: str, code: int, quoted: str, run: Run) -> None:
    done = run(setup)
    assert (done.returncode, done.stdout) == (code, "")
    number = done.stderr.partition("of line ")[2].partition(" ")[0]
    assert (
        f"slurm-tf: the program does not start: exit code {code} of line {number} of the script: {quoted}\n"
        in done.stderr
    )
    assert done.stderr.count("slurm-tf: ") == 1
    assert '"|| true" after a line lets it fail' in done.stderr


@pytest.mark.parametrize(
    ("setup", "code", "quoted"),
    [
        ("exit 0", 1, "exit 0"),
        ("exit 6", 6, "exit 6"),
        ("source leaving.sh", 1, "source leaving.sh"),
        ("set -u\necho $NOT_SET", 1, "echo $NOT_SET"),
        ("set -e\n{ false; }", 1, "{ false; }"),
    ],
)
def test_setup_that_ends_the_script_ends_the_job(setup: str, code: int, quoted: str, run: Run) -> None:
    done = run(setup)
    assert (done.returncode, done.stdout) == (code, "")
    assert "slurm-tf: the program does not start: " in done.stderr
    assert quoted in done.stderr


@pytest.mark.parametrize("modules", [MODULES_3, MODULES_4], ids=["modules-3", "modules-4"])
def test_a_module_that_does_not_load_ends_the_job(modules: str, run: Run) -> None:
    assert run("module load cuda", ["gcc/12"], modules).returncode == 0
    for of_site, setup in ((["nosuch"], ""), ([], "module load nosuch")):
        done = run(setup, of_site, modules)
        assert (done.returncode, done.stdout) == (1, "")
        assert "of the script: module load nosuch\n" in done.stderr
    assert run("module list; module load nosuch || true", [], modules).returncode == 0
