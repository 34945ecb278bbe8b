"""The run that a person means."""

import os
import shutil
from pathlib import Path

import pytest

from slurm_tf.errors import UnreachableError, UsageError
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import run_index
from slurm_tf.watch import find_run
from tests.watch.conftest import MakeRun, Slurm, record


def test_by_name_point_path_and_job(make_run: MakeRun, tmp_path: Path, slurm: Slurm) -> None:
    root = str(tmp_path / "runs")
    run = make_run("flowers-1", ("40", (0, 1), True), ("50", (1,), True))
    het = make_run("het-1", ("60", (0,), False), ("61", (1,), False))
    for text, name in {
        "flowers-1": "flowers-1",
        "flowers-1/1": "flowers-1/1",
        run.run.path: "flowers-1",
        f"{run.run.path}/0": "flowers-1/0",
        "40": "flowers-1",
        "40_0": "flowers-1/0",
        "50": "flowers-1",
        "61": "het-1/1",
        "61+1": "het-1/1",
    }.items():
        assert find_run.find(text, root, slurm).name == name, text
    assert find_run.find("flowers-1", root, slurm).job_ids == {0: "40_0", 1: "50_1"}
    assert find_run.find("flowers-1/1", root, slurm).job_ids == {1: "50_1"}
    assert [selected.name for selected in find_run.find("het-1", root, slurm).points()] == ["het-1/0", "het-1/1"]
    assert {selected.name for selected in find_run.all_runs(root)} == {"flowers-1", "het-1"}
    assert het.folder == het.run
    assert slurm.asked == []


def test_by_a_job_whose_run_lies_elsewhere(make_run: MakeRun, tmp_path: Path, slurm: Slurm) -> None:
    run = make_run("flowers-1")
    slurm.live = [record("77", script=run.run.submission(1).script)]
    assert find_run.find("77", str(tmp_path / "other"), slurm).run == run.run


@pytest.mark.parametrize("text", ["flower-1", "flowers-1/7", "99", "99_1", "/etc", ".."])
def test_what_is_no_run(text: str, make_run: MakeRun, tmp_path: Path, slurm: Slurm) -> None:
    make_run("flowers-1", ("40", (0, 1), True))
    slurm.live = [record("99", script="/usr/bin/true")]
    with pytest.raises(UsageError, match="no run"):
        find_run.find(text, str(tmp_path / "runs"), slurm)
    slurm.live = UnreachableError("down")
    with pytest.raises(UsageError, match="no run"):
        find_run.find(text, str(tmp_path / "runs"), slurm)


def test_the_order_is_that_of_submission_whatever_jobs_write_meanwhile(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run("b-1"), make_run("a-1")
    os.utime(first.run.manifest, ns=(0, 1000))
    os.utime(second.run.manifest, ns=(0, 2000))
    Path(first.run.path, "status.json").write_text("")
    assert [each.name for each in find_run.runs_in(str(tmp_path / "runs"))] == ["b-1", "a-1"]


def test_a_folder_that_others_can_write_is_no_run(make_run: MakeRun, tmp_path: Path, slurm: Slurm) -> None:
    run = make_run("flowers-1", ("40", (), False))
    os.chmod(run.run.path, 0o777)
    assert find_run.all_runs(str(tmp_path / "runs")) == []
    with pytest.raises(UsageError, match="no run"):
        find_run.find(run.run.path, str(tmp_path / "runs"), slurm)


def test_runs_of_other_folders_are_found_and_told_apart(make_run: MakeRun, tmp_path: Path, slurm: Slurm) -> None:
    here, root = make_run("flowers-1", ("40", (), False)), str(tmp_path / "runs")
    others = []
    for folder, name, job in (("p", "flowers-1", "41"), ("q", "flowers-1", "40"), ("q", "roses-2", "43")):
        run = RunFolder(str(tmp_path / folder / name))
        shutil.copytree(here.run.path, run.path)
        Path(run.jobs).write_text(Path(run.jobs).read_text().replace('"40"', f'"{job}"'))
        others.append(run)
    run_index.add([run.path for run in others])
    assert [selected.run for selected in find_run.all_runs(root)] == [here.run, *others]
    assert find_run.labels(find_run.all_runs(root)) == [here.run.path, *(run.path for run in others[:2]), "roses-2"]
    # the folder of runs comes first, for names and for jobs, whose ids two clusters may give
    found = {text: find_run.find(text, root, slurm).run for text in ("flowers-1", "40", "41", "43", "roses-2")}
    assert found == dict(zip(found, (here.run, here.run, others[0], others[2], others[2]), strict=True))
    with pytest.raises(UsageError) as error:
        find_run.find("flowers-1", str(tmp_path / "none"), slurm)
    assert str(error.value) == (
        f"2 runs are named flowers-1: {others[0].path}, {others[1].path}; needed the path of one of them"
    )
    assert find_run.find(others[1].path, str(tmp_path / "none"), slurm).run == others[1]
    with pytest.raises(UsageError, match=r"no run 'rose-2' in .*\nHINT: did you mean 'roses-2'"):
        find_run.find("rose-2", root, slurm)
