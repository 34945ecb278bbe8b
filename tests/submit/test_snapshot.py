"""A copy of the program's code: what is copied, what is linked, what is too much."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, RunError, StorageError
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import manifest
from slurm_tf.submit import new_run, snapshot
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

JOB = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n'


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *name, "-C", str(folder), *arguments], check=True, timeout=60, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with code, data that git ignores, an environment and a link."""
    top = tmp_path / "group"
    for name, text in {
        "lib/util.py": "u", "exp/train.py": "t", "exp/run.sh": "r", "exp/data/big.bin": "d", "exp/untracked.py": "n",
        "exp/.venv/bin/python": "p", ".gitignore": "data/\n.venv/\nruns/\n", "exp/gone.py": "g",
    }.items():  # fmt: skip
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (top / "exp" / "run.sh").chmod(0o755)
    (top / "exp" / "link").symlink_to("data")
    git(tmp_path, "init", "-q", "group")
    git(top, "add", "-A", ":!exp/untracked.py")
    git(top, "commit", "-qm", "x")
    (top / "exp" / "gone.py").unlink()
    return top


def copied(folder: Path) -> dict[str, str]:
    """Return the regular files of a copy."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not any(parent.is_symlink() for parent in path.parents)
    }


def test_code_is_copied_and_all_else_is_linked(tree: Path, tmp_path: Path) -> None:
    source = snapshot.find(tree / "exp", tmp_path / "runs")
    assert source.root == tree
    assert len(source.commit) == 40
    assert source.dirty is True
    target = tmp_path / "code-1"
    snapshot.copy(source, target)
    target /= "group"
    assert copied(target) == {
        ".gitignore": "data/\n.venv/\nruns/\n", "exp/run.sh": "r", "exp/train.py": "t", "exp/untracked.py": "n",
        "lib/util.py": "u",
    }  # fmt: skip
    assert (target / "exp" / "data").is_symlink()
    assert (target / "exp" / "data" / "big.bin").read_text() == "d"
    assert (target / "exp" / ".venv").resolve() == tree / "exp" / ".venv"
    assert (target / "exp" / "link" / "big.bin").read_text() == "d"
    assert os.access(target / "exp" / "run.sh", os.X_OK)
    assert not os.access(target / "exp" / "train.py", os.X_OK)
    for path in target.rglob("*"):
        if not path.is_symlink() and not any(parent.is_symlink() for parent in path.parents):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    (tree / "exp" / "train.py").write_text("edited")
    assert (target / "exp" / "train.py").read_text() == "t"


def test_without_git_small_files_are_code(tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    for name in ("train.py", "sub/a.py", "__pycache__/train.pyc", ".cache/x", "venv/pyvenv.cfg", "venv/lib/z.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"exp/{name}")
    with (folder / "model.bin").open("wb") as file:
        file.truncate(17 << 20)
    runs_folder = folder / "runs"
    (runs_folder / "a-1").mkdir(parents=True)
    (runs_folder / "a-1" / "log").write_text("x")
    source = snapshot.find(folder, runs_folder)
    assert (source.commit, source.dirty) == ("", None)
    snapshot.copy(source, tmp_path / "code-1")
    assert copied(tmp_path / "code-1") == {"exp/train.py": "exp/train.py", "exp/sub/a.py": "exp/sub/a.py"}
    assert (tmp_path / "code-1" / "exp" / "model.bin").is_symlink()
    assert (tmp_path / "code-1" / "exp" / "runs").is_symlink()


# how the folder of runs of a project may be spelled; {link} leads to the folder around the project
SPELLINGS = {
    "plain": "{project}/runs",
    "link": "{link}/proj/runs",
    "dots": "{project}/data/../runs",
    "slashes": "{project}//runs/",
    "link in the project": "{project}/out/runs",
    "link to a link": "{link}/proj/out/../runs",
}


@pytest.fixture(params=["git", "no git"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project of one program, in a work tree or not, whose folder `out` is a link to its folder `data`."""
    folder = tmp_path / "home" / "proj"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").write_text("x")
    (folder / "out").symlink_to("data")
    (tmp_path / "link").symlink_to("home")
    if request.param == "git":
        git(folder, "init", "-q")
    return folder


def codes(load: Callable[..., Job], project: Path, *runs: str) -> list[list[str]]:
    """Prepare a run in each of the folders `runs`, each with a checkpoint; return the files of each one's code."""
    found = []
    for each in runs:
        made = new_run.prepare(load(f'chdir = "{project}"\n{JOB}', environ={"SLURM_TF_RUNS": each}), "")
        Path(made.run.checkpoints, "weights").write_text("w")
        found.append(sorted(copied(Path(made.chdir).resolve())))
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_runs_are_no_code_however_their_folder_is_spelled(
    spelling: str, project: Path, tmp_path: Path, load: Callable[..., Job]
) -> None:
    runs = SPELLINGS[spelling].format(project=project, link=tmp_path / "link")
    assert codes(load, project, *[runs] * 3) == [["train.py"]] * 3


def test_runs_of_another_folder_are_no_code(project: Path, load: Callable[..., Job]) -> None:
    """The project may be the folder of runs itself, and runs may lie where they were sent before."""
    runs = (f"{project}/old/runs", f"{project}", f"{project}", f"{project}/runs")
    assert codes(load, project, *runs) == [["train.py"]] * 4


def test_a_folder_around_the_project_may_be_the_folder_of_runs(project: Path, load: Callable[..., Job]) -> None:
    assert codes(load, project, *[str(project.parent)] * 2) == [["train.py"]] * 2


def test_many_files_of_runs_hide_no_code(project: Path, load: Callable[..., Job]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "_MOST_FILES", 3)
        (project / "zzz").mkdir()
        (project / "zzz" / "last.py").write_text("x")
        (project / "runs").mkdir()
        for number in range(40):
            (project / "runs" / f"log-{number}").write_text("x")
        assert codes(load, project, f"{project}/runs") == [["train.py", "zzz/last.py"]]


# what has been submitted from one folder is looked at through mounts of another one
MOUNTED = """
import sys
from pathlib import Path
from slurm_tf.submit import snapshot
for chdir, runs in zip(sys.argv[1::2], sys.argv[2::2]):
    source = snapshot.find(Path(chdir), Path(runs))
    print(source.chdir, *source.files)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts")
def test_runs_behind_a_mount_are_no_code(project: Path, tmp_path: Path, load: Callable[..., Job]) -> None:
    codes(load, project, f"{project}/data/runs")
    (tmp_path / "bound").mkdir()
    (project / "seen").mkdir()
    argv = [f"{tmp_path}/bound/proj", f"{project}/data/runs", str(project), f"{tmp_path}/bound/proj/data/runs"]
    argv += [str(project), f"{tmp_path}/elsewhere/runs"]
    script = 'mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"'
    mounts = (str(tmp_path / "home"), str(tmp_path / "bound"), f"{project}/data", f"{project}/seen")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *mounts, sys.executable, "-c", MOUNTED, *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (". train.py\n" * 3, "")


def test_a_repository_whose_work_tree_is_elsewhere(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme").write_text("x")
    git(project, "init", "-q")
    git(project, "config", "core.worktree", str(tmp_path / "other"))
    source = snapshot.find(project, tmp_path / "runs")
    assert (source.root, source.chdir, Path("train.py") in source.files) == (project, Path("."), True)


def test_an_empty_working_directory_inside_a_tree(tree: Path, tmp_path: Path) -> None:
    (tree / "empty" / "deep").mkdir(parents=True)
    source = snapshot.find(tree / "empty" / "deep", tmp_path / "runs")
    snapshot.copy(source, tmp_path / "code-1")
    assert (tmp_path / "code-1" / "group" / "empty" / "deep").is_dir()


def test_too_much_to_be_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.py").write_text("x")
    with pytest.raises(RunError, match=r"4 files.*at most 3 files(.|\n)*/.slurm-tf-ignore, .*snapshot = false"):
        snapshot.find(tmp_path, tmp_path / "runs")


def test_a_run_has_its_own_copy_and_the_next_submission_another(
    load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TF_RUNS", str(tmp_path / "runs"))
    (tmp_path / "train.py").write_text("1")
    job = load(JOB, environ={"SLURM_TF_RUNS": str(tmp_path / "runs")})
    shown = new_run.preview(job, "")
    first = new_run.prepare(job, "")
    assert (shown.chdir, shown.run) == (first.chdir, first.run)
    (tmp_path / "train.py").write_text("2")
    second = new_run.prepare(job, first.run.name)
    assert [Path(plan.chdir, "train.py").read_text() for plan in (first, second)] == ["1", "2"]
    assert first.chdir != second.chdir


def test_the_code_is_looked_for_once(load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large work tree that is the longest part of a submission."""
    real, found = snapshot.find, []

    def find(chdir: Path, folder: Path, alone: bool) -> snapshot.Source:
        found.append((chdir, folder))
        return real(chdir, folder, alone)

    monkeypatch.setattr(snapshot, "find", find)
    new_run.prepare(load(JOB, environ={"SLURM_TF_RUNS": str(tmp_path / "runs")}), "")
    assert found == [(tmp_path, tmp_path / "runs")]


def test_a_run_that_cannot_be_made_leaves_nothing(load: Callable[..., Job], tmp_path: Path) -> None:
    job = load(JOB + "[env]\n", environ={"SLURM_TF_RUNS": str(tmp_path / "runs")})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret.py").write_text("x")
    new_run.prepare(job, "")
    real = snapshot.copy

    def fail(source: snapshot.Source, target: Path) -> None:
        real(source, target)
        raise OSError("disk full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "copy", fail)
        with pytest.raises(StorageError, match=r"cannot copy the code: .*/a-2/submission-1/code: disk full"):
            new_run.prepare(job, "")
    assert os.listdir(tmp_path / "runs") == ["a-1"]


def test_a_working_directory_that_is_not_there(load: Callable[..., Job]) -> None:
    for snapshot_key in ("true", "false"):
        job = load(f'chdir = "/nowhere"\nsnapshot = {snapshot_key}\n{JOB}')
        with pytest.raises(ConfigError, match="chdir: there is no folder /nowhere"):
            new_run.prepare(job, "")


@pytest.mark.parametrize("project", ["git", "no git"], indirect=True)
@pytest.mark.parametrize(
    ("chdir", "root"), [("link/proj", "link/proj"), ("link/proj/sub", "link/proj"), ("deep", "deep/..")]
)
def test_paths_keep_the_links_that_were_given(
    project: Path, chdir: str, root: str, tmp_path: Path, load: Callable[..., Job]
) -> None:
    """Nodes may not have what `link` leads to here."""
    (project / "sub" / "data").mkdir(parents=True)
    (project / "sub" / "train.py").write_text("x")
    (tmp_path / "deep").symlink_to("home/proj/sub")
    is_git = (project / ".git").exists()
    (project / ".gitignore").write_text("data/\nout\n")
    job = load(f'chdir = "{tmp_path}/{chdir}"\n{JOB}', environ={"SLURM_TF_RUNS": f"{tmp_path}/link/runs"})
    made = new_run.prepare(job, "")
    assert made.chdir.startswith(f"{tmp_path}/link/runs/")
    links = [os.readlink(path) for path in Path(made.submission.code).rglob("*") if path.is_symlink()]
    assert f"{tmp_path}/{root}/sub/data" in links if is_git or chdir == root else f"{tmp_path}/{chdir}/data" in links
    assert all(link.startswith(f"{tmp_path}/{chdir.partition('/')[0]}/") for link in links), links
    job = load(f'chdir = "{tmp_path}/{chdir}"\nsnapshot = false\n{JOB}', environ={"SLURM_TF_RUNS": job.runs})
    assert ("chdir", f"{tmp_path}/{chdir}") in new_run.prepare(job, "").components[0].options


ENVIRONMENTS = [
    ("env", "conda-meta/history"), ("tools/env", "pyvenv.cfg"), (".venv", "pyvenv.cfg"), ("renv", "activate.R"),
    ("web/node_modules", "x/index.js"), ("libs/site-packages", "x.dist-info/METADATA"),
]  # fmt: skip


def test_environments_are_no_code(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of 10,000 files, and where git does not ignore them."""
    monkeypatch.setattr(snapshot, "_MOST_FILES", 3)
    for folder, mark in ENVIRONMENTS:
        for name in (mark, "lib/a.py", "lib/deep/b.py"):
            (project / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (project / folder / name).touch()
    assert snapshot.find(project, tmp_path / "runs").files == (Path("train.py"),)


def test_what_slurm_tf_ignore_names_is_linked(project: Path, tmp_path: Path) -> None:
    for name in ("big/a.py", "exp/data/x", "exp/train.py", "exp/b.log", "exp/keep.log"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / ".slurm-tf-ignore").write_text("# no code\nbig/\n*.log\n")
    (project / "exp" / ".slurm-tf-ignore").write_text("/data\n!keep.log\n")
    is_git = (project / ".git").exists()
    chdir = project / "exp" if is_git else project
    source = snapshot.find(chdir, tmp_path / "runs")
    names = {str(path) for path in source.files} - {".slurm-tf-ignore", "exp/.slurm-tf-ignore"}
    assert names == {"train.py", "exp/train.py", *(["exp/keep.log"] if is_git else ["exp/data/x"])}
    snapshot.copy(source, tmp_path / "code")
    assert (tmp_path / "code" / "proj" / "big").is_symlink()
    assert (tmp_path / "code" / "proj" / "exp" / "b.log").is_symlink()


def test_what_is_beside_the_code_is_beside_its_copy(project: Path, tmp_path: Path) -> None:
    """A program that reads "../data" finds it, by whatever link its folder was named."""
    (project.parent / "data").mkdir()
    (project.parent / "data" / "x").write_text("x")
    (tmp_path / "short").symlink_to("home/proj")
    for number, chdir in enumerate((project, tmp_path / "link" / "proj", tmp_path / "short")):
        source = snapshot.find(chdir, tmp_path / "runs")
        target = tmp_path / f"code-{number}"
        snapshot.copy(source, target)
        assert (target / source.name / ".." / "data" / "x").read_text() == "x"
        assert os.readlink(target / "data").startswith(str(chdir.parent if number < 2 else f"{chdir}/.."))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "_MOST_SIBLINGS", 1)
        snapshot.copy(source, tmp_path / "alone")
    assert os.listdir(tmp_path / "alone") == ["proj"]


def test_checkpoints_of_runs_by_hand_are_linked_and_said(
    project: Path, tmp_path: Path, load: Callable[..., Job]
) -> None:
    for name in ("training_1/cp.index", "training_1/cp.data-00000-of-00001", "ckpt-1.index", "ckpt-1.meta",
                 "ckpt-1.data-00000-of-00002", "search.index", "lib/checkpoint"):  # fmt: skip
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("x")
    for folder in ("", "training_1/"):
        (project / f"{folder}checkpoint").write_text('model_checkpoint_path: "x"\n')
    source = snapshot.find(project, tmp_path / "runs")
    assert {str(path) for path in source.files} == {"lib/checkpoint", "search.index", "train.py"}
    assert source.checkpoints == (Path("."), Path("training_1"))
    made = new_run.prepare(load(f'chdir = "{project}"\n{JOB}', environ={"SLURM_TF_RUNS": str(tmp_path / "runs")}), "")
    assert (Path(made.chdir) / "training_1").is_symlink()
    code = manifest.read(made.submission.manifest).code
    assert code is not None
    assert (code.root, code.files, code.checkpoints) == (str(project), 3, (".", "training_1"))


def test_a_resumed_run_finds_its_relative_checkpoints_again(
    project: Path, tmp_path: Path, load: Callable[..., Job]
) -> None:
    (project / "own").mkdir()
    (project / "own" / "w.keras").touch()
    job = load(f'chdir = "{project}"\n{JOB}', environ={"SLURM_TF_RUNS": str(tmp_path / "runs")})
    first = new_run.prepare(job, "a-1")
    assert continued(first) == ()
    for name in ("ckpts/cp.index", "ckpts/cp.data-00000-of-00001", "backup/deep/latest.weights.h5", "log.txt",
                 "top.index", "top.data-00000-of-00001", "own/late.keras"):  # fmt: skip
        (Path(first.chdir) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(first.chdir) / name).write_text("w")
    for linked in ([".", "backup/deep", "ckpts"], [".", "backup"]):  # of the last submission, and of the one before it
        later = new_run.prepare(job, "a-1")
        folder = Path(later.chdir)
        assert sorted(continued(later)) == linked
        assert (folder / "ckpts" / "cp.index").samefile(Path(first.chdir) / "ckpts" / "cp.index")
        assert (folder / "top.index").samefile(Path(first.chdir) / "top.index")
        assert (folder / "backup" / "deep").samefile(Path(first.chdir) / "backup" / "deep")
        assert not (folder / "log.txt").exists()
        assert os.readlink(folder / "own") == str(project / "own"), "what is the project's own"


def continued(made: Plan) -> tuple[str, ...]:
    code = manifest.read(made.submission.manifest).code
    return code.continued if code else ()
