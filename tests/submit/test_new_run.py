"""A run's folder: names, privacy, and a launcher that is the same bytes for the same sources."""

import functools
import grp
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, RunError, UsageError
from slurm_tf.jobspec import configuration, job_templates
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.launch.coordinator import startup
from slurm_tf.run import checkpoint_folder, json_file, manifest
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.run.version import VERSION
from slurm_tf.submit import new_run, packed_modules, render
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

JOB = 'name = "a b"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n[env]\nTOKEN = "s3cret"\n'


def test_numbers_count_up(tmp_path: Path) -> None:
    names = [new_run.make_folder(str(tmp_path), "a b").name for _ in range(3)]
    assert names == ["a_b-1", "a_b-2", "a_b-3"]
    (tmp_path / "a_b-10").mkdir()
    assert new_run.make_folder(str(tmp_path), "a b").name == "a_b-11"


@pytest.mark.parametrize("name", ["a/b", "..", ".a", "-a", "a\nb", "é" * 200])
def test_a_name_that_is_no_folders(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needed a name that a folder can have"):
        new_run.make_folder(str(tmp_path), "a", name)


@pytest.mark.parametrize(
    ("job", "slug"),
    [("../../etc", "etc-1"), ("$(x)", "x-1"), ("-rf", "rf-1"), ("漢字", "run-1"), ("a" * 300, "a" * 200 + "-1")],
)
def test_a_job_name_makes_a_safe_folder(job: str, slug: str, tmp_path: Path) -> None:
    assert new_run.make_folder(str(tmp_path), job).name == slug


def test_everything_is_private(tmp_path: Path, fit: Callable[..., Plan]) -> None:
    plan = fit(JOB)
    run = new_run.make_folder(str(tmp_path / "runs"), "a b", "run-1")
    new_run.write(plan, render.script(plan))
    assert run == plan.run
    for path in (tmp_path / "runs" / "run-1").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(os.stat(run.path).st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can choose any group")
def test_a_group_reads_the_run_and_its_checkpoints_alone(tmp_path: Path, load: Callable[..., Job]) -> None:
    theirs = next(each for each in grp.getgrall() if each.gr_gid != os.getegid())
    job = load(f'group = "{theirs.gr_name}"\n{JOB}', environ={"SLURM_TF_RUNS": str(tmp_path / "runs")})
    run = new_run.prepare(job, "").run
    prefix = checkpoint_folder.begin(run.checkpoints, 1)
    Path(f"{prefix}.index").touch(0o644)
    assert os.stat(os.path.dirname(prefix)).st_mode & 0o77 == 0, "not before it is whole"
    checkpoint_folder.finish(prefix, 1, {}, checkpoint_folder.flush_files)
    for path in [Path(run.path), *Path(run.path).rglob("*")]:
        status = path.lstat()
        if path.is_symlink():
            continue
        opened = path == Path(run.path) or path.is_relative_to(run.checkpoints)
        modes = (0o2750, 0o640) if opened else (0o700, 0o600)
        assert stat.S_IMODE(status.st_mode) & (0o2777 if opened else 0o777) == modes[not path.is_dir()], path
        assert not opened or status.st_gid == theirs.gr_gid, path


def test_a_group_that_there_is_not(tmp_path: Path, load: Callable[..., Job]) -> None:
    job = load(f'group = "no such"\n{JOB}', environ={"SLURM_TF_RUNS": str(tmp_path / "runs")})
    with pytest.raises(ConfigError, match=r"job.toml: group: found 'no such'; needed a group that you are in: "):
        new_run.prepare(job, "")
    assert not (tmp_path / "runs").exists()


def test_secrets_are_in_the_settings_alone(tmp_path: Path, fit: Callable[..., Plan]) -> None:
    plan = fit(JOB)
    new_run.make_folder(str(tmp_path / "runs"), "a b", "run-1")
    new_run.write(plan, render.script(plan))
    holding = [
        path.name for path in Path(plan.run.path).rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()
    ]
    assert holding == ["launch.json"]
    manifest = json.loads(Path(plan.run.manifest).read_text())
    assert manifest["job"]["env"] == ["TOKEN"]
    assert manifest["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_manifest_has_the_values_of_all_params(tmp_path: Path, fit: Callable[..., Plan]) -> None:
    text = JOB.replace('["x"]', '["x", "{rate}", "{epochs}"]')
    plan = fit(text + "[params]\nepochs = 3\n[sweep]\nrate = [1, 0.5]\n")
    new_run.make_folder(str(tmp_path / "runs"), "a b", "run-1")
    new_run.write(plan, render.script(plan))
    found = manifest.read(plan.run.manifest)
    assert found.params_of(None) == {"epochs": 3}
    assert list(found.params_of(1).items()) == [("rate", 0.5), ("epochs", 3)]


def test_a_run_of_another_job_is_not_taken_over(tmp_path: Path, fit: Callable[..., Plan]) -> None:
    plan = fit(JOB)
    new_run.make_folder(str(tmp_path / "runs"), "a b", "run-1")
    new_run.write(plan, render.script(plan))
    assert new_run.make_folder(str(tmp_path / "runs"), "a b", "run-1").name == "run-1"
    with pytest.raises(
        RunError, match=r"run run-1 is of job 'a b'; needed a run of job 'c'.*\nHINT: use another --name"
    ):
        new_run.make_folder(str(tmp_path / "runs"), "c", "run-1")


def test_a_folder_of_something_else_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir(mode=0o700)
    (tmp_path / "thesis" / "chapter1").touch()
    with pytest.raises(RunError, match="holds files, but no run"):
        new_run.make_folder(str(tmp_path), "a", "thesis")


def test_the_launcher_is_the_same_bytes_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    launcher = packed_modules.launcher()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert packed_modules.launcher() == launcher
    path = tmp_path / "launch.pyz"
    path.write_bytes(launcher)
    names = set(zipfile.ZipFile(path).namelist())
    assert "slurm_tf/launch/agent/agent.py" in names
    assert "slurm_tf/launch/agent/agent.pyc" in names
    assert not any(name.startswith(("slurm_tf/train", "slurm_tf/jobspec", "slurm_tf/cli")) for name in names)


@functools.cache
def pythons() -> list[str]:
    """Return the interpreters from 3.9 on that are found, by path or by pyenv.

    Each process of a test run asks, so no interpreter is started; a shim of pyenv takes long even to say that there is
    none.
    """
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3")):
        found[".".join(path.parts[-3].split(".")[:2])] = str(path)
    for minor in range(9, 14):
        installed = shutil.which(f"python3.{minor}")
        if installed and "shims" not in Path(installed).parts:
            found.setdefault(f"3.{minor}", installed)
    return [python for version, python in found.items() if int(version.split(".")[1]) >= 9]


@pytest.mark.parametrize("python", pythons())
def test_the_launcher_runs_a_job_under_every_python_that_is_here(
    python: str, tmp_path: Path, fit: Callable[..., Plan]
) -> None:
    """A smoke test: coordinator, local step, agents, all from the zip file, far from the sources."""
    plan = fit(
        'name = "a"\nstrategy = "multi_worker"\njoin = "optional"\n'
        'command = ["bash", "-c", "echo $SLURM_TF_TASK $V"]\n'
        "[roles.worker]\ncount = 2\n[env]\nV = 'é'\n",
        site="local",
    )
    new_run.make_folder(str(tmp_path / "runs"), "a", "run-1")
    new_run.write(plan, render.script(plan))
    launch = [python, "-IS", plan.submission.launcher]
    command = [*launch, "coordinate", plan.submission.path, "--", *launch, "local", "--ntasks", "2", "--"]
    done = subprocess.run(
        [*command, *launch, "agent"],
        capture_output=True, text=True, timeout=60, cwd="/", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[worker:0] worker:0 é", "[worker:1] worker:1 é"]


def test_the_contract_is_versioned(fit: Callable[..., Plan]) -> None:
    text = json_file.dumps(fit(JOB).settings).replace(f'"contract": {VERSION}', '"contract": 99')
    with pytest.raises(RunError, match=r"launch.json was written by another release .*version 99\); needed "):
        json_file.parse(text, LaunchSettings, "launch.json")


TWO = 'name = "r"\nstrategy = "multi_worker"\npreflight = "mpi"\ncommand = ["x"]\n[roles.worker]\ncount = 2\n'


def test_another_submission_of_a_run_changes_nothing_that_the_first_ones_job_reads_again(
    load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"SLURM_TF_RUNS": str(tmp_path / "runs")}
    run = new_run.prepare(load(TWO, environ=environ), "r").run
    (script,) = Path(run.path).rglob("script.sbatch")
    folder = re.findall(r" coordinate (\S+)", script.read_text())[0]
    before = {path: path.read_bytes() for path in Path(run.path).rglob("*") if path.is_file()}
    monkeypatch.setattr(packed_modules, "launcher", lambda: b"another release")
    new_run.prepare(load(TWO, environ=environ, set=("roles.worker.count=3",)), "r")
    place, settings = startup.open_run(folder, None, {})
    assert [role.count for role in settings.roles] == [2]
    assert script == Path(place.submission.script)
    assert settings.preflight_mpi[1] in map(str, before)
    changed = {path for path, data in before.items() if path.read_bytes() != data}
    assert changed == {Path(run.manifest)}, "that of the newest submission, which no job reads"


def test_a_submission_that_fails_leaves_the_others_as_they_were(
    load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = load(TWO, environ={"SLURM_TF_RUNS": str(tmp_path / "runs")})
    run = new_run.prepare(job, "r").run
    monkeypatch.setattr(packed_modules, "launcher", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        new_run.prepare(job, "r")
    assert [each.number for each in run.submissions] == [1]
    assert os.path.exists(run.submissions[0].launcher)


def test_a_template_runs_as_a_copy_of_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine as well: what its program writes to relative paths goes to the run, not to all who use it."""
    monkeypatch.setenv("SLURM_TF_RUNS", str(tmp_path / "runs"))
    for site in ("local", "generic"):
        fitted = new_run.prepare(configuration.load(job_templates.find("cnn"), dict(os.environ), site), "")
        code = manifest.read(fitted.run.manifest).code
        assert code
        assert (code.root, code.commit) == (str(ROOT / "jobs"), "")
        assert fitted.chdir == f"{fitted.submission.code}/jobs"
        assert Path(fitted.chdir, "cnn.py").read_bytes() == (ROOT / "jobs" / "cnn.py").read_bytes()
    # a job file whose path is typed runs where it is
    typed = new_run.prepare(configuration.load(ROOT / "jobs" / "cnn.toml", dict(os.environ), "local"), "")
    assert manifest.read(typed.run.manifest).code is None
    assert manifest.read(typed.run.manifest).template == manifest.read(fitted.run.manifest).template
