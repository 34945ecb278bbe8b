"""Which run and template a record is of: by name, comment, and our own run records, in that order."""

import os
from pathlib import Path

import pytest

from slurm_tf.account.run_records import RunRecord, RunRecords
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.run import attempts, gpu_record, job_chain, job_comment, manifest
from slurm_tf.run.attempts import Attempt
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.gpu_record import GpuSample, GpuState
from slurm_tf.run.manifest import Manifest, TemplateOrigin
from slurm_tf.submit import run_index
from tests.conftest import write_manifest


def record(job_id: str = "12", **more: object) -> UsageRecord:
    return UsageRecord(**{"id": job_id, "raw_id": job_id, "state_text": "PREEMPTED", **more})  # type: ignore[arg-type]


def make(root: Path, name: str, template: str) -> RunFolder:
    run = RunFolder(str(root / name))
    os.makedirs(run.path, mode=0o700)
    write_manifest(run, template)
    return run


def write(folder: RunFolder, *rows: Attempt) -> None:
    os.makedirs(folder.path, mode=0o700, exist_ok=True)
    attempts.write(folder, rows)
    assert attempts.read(folder) == list(rows)


@pytest.fixture
def runs(tmp_path: Path) -> RunRecords:
    job_chain.add(make(tmp_path, "flowers-1", "flowers"), "12", "", (), False, submission=1)
    return RunRecords(str(tmp_path))


@pytest.mark.parametrize(
    ("job", "name", "comment", "found"),
    [
        ("12", "stf-roses", "slurm-tf run=x-1/template=tulips", RunRecord("tulips", "x-1")),
        ("12", "mine", "slurm-tf run=x-1/template=tulips", RunRecord("tulips", "x-1")),
        ("12", "mine", "for Ann", RunRecord("flowers", "flowers-1")),
        ("12", "stf-roses", "", RunRecord("flowers", "flowers-1")),
        ("99", "stf-roses", "", RunRecord("roses", "")),
        ("99", "mine", "slurm-tf run=x-1/template=tulips", RunRecord("tulips", "x-1")),
        ("99", "mine", "slurm-tf run=", RunRecord()),
        ("99", "mine", "", RunRecord()),
        ("12+1", "mine", "", RunRecord("flowers", "flowers-1")),
    ],
)
def test_comment_then_run_then_name(job: str, name: str, comment: str, found: RunRecord, runs: RunRecords) -> None:
    assert runs.find(record(job, name=name, comment=comment)) == found


def test_another_clusters_job_of_that_number_is_not_ours(tmp_path: Path) -> None:
    run = make(tmp_path, "flowers-1", "flowers")
    job_chain.add(run, "12", "big", (), False, submission=1)
    runs = RunRecords(str(tmp_path))
    assert runs.find(record(cluster="big")).run == "flowers-1"
    assert runs.find(record(cluster="small")) == RunRecord()
    assert runs.jobs_of(run) == ["12"]


def test_the_attempt_of_an_incarnation(tmp_path: Path) -> None:
    run = make(tmp_path, "flowers-1", "flowers")
    job_chain.add(run, "12", "", (), False, submission=1)
    first, second = Attempt("12.0", "12", 1003.0, speaks=True), Attempt("12.1", "12", 2004.0, speaks=True)
    write(run, first, second)
    runs = RunRecords(str(tmp_path))
    assert runs.find(record(started=1000, ended=1500)).attempt == first
    assert runs.find(record(started=2000, ended=None)).attempt == second
    assert runs.find(record(started=1600, ended=1700)).attempt is None
    assert runs.find(record(started=None)).attempt is None
    # Slurm's own number, where a clock is wrong by less than an incarnation
    assert runs.find(record(started=1000, ended=2050, restarts=1)).attempt == second
    assert runs.find(record("12+1", started=1000, ended=1500)).attempt == first


def test_points_and_jobs_that_follow(tmp_path: Path) -> None:
    run = make(tmp_path, "sweep-1", "sweep")
    job_chain.add(run, "40", "", (0, 1), True, submission=1)
    job_chain.add(run, "50", "", (1,), False, submission=1)
    own = {index: Attempt(f"40_{index}.0", f"40_{index}", 1001.0, speaks=True) for index in (0, 1)}
    after = Attempt("61_1.0", "61_1", 3001.0, speaks=True)
    alone = Attempt("50.0", "50", 2001.0, speaks=True)
    write(run.point(0), own[0])
    write(run.point(1), own[1], alone, after)
    job_chain.add(run.point(1), "61", "", (1,), True, "40_1", submission=1)
    runs = RunRecords(str(tmp_path))
    for job, wanted in {"40_0": own[0], "40_1": own[1]}.items():
        assert runs.find(record(job, started=1000, ended=1500)) == RunRecord("sweep", "sweep-1", wanted)
    assert runs.find(record("50", started=2000, ended=2500)) == RunRecord("sweep", "sweep-1", alone)
    assert runs.find(record("61_1", started=3000)) == RunRecord("sweep", "sweep-1", after)
    assert runs.find(record("40_[2-5%2]")) == RunRecord("sweep", "sweep-1")


def test_runs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    job_chain.add(make(tmp_path, "good-1", "good"), "12", "", (), False, submission=1)
    Path(make(tmp_path, "bad-1", "bad").jobs).write_text("{")
    broken = make(tmp_path, "half-1", "half")
    job_chain.add(broken, "13", "", (), False, submission=1)
    Path(broken.attempts).write_text("{}")
    runs = RunRecords(str(tmp_path))
    assert runs.find(record("12")).run == "good-1"
    assert runs.find(record("13", started=5)).attempt is None
    assert [note.partition(":")[0] for note in runs.problems[:1]] == ["run bad-1 is left out"]
    assert "attempts.json was written by another release" in runs.problems[1]
    assert RunRecords(str(tmp_path / "none")).find(record()) == RunRecord()


def test_runs_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    here, there = make(tmp_path / "here", "a-1", "roses"), make(tmp_path / "there", "a-1", "tulips")
    job_chain.add(here, "12", "", (), False, submission=1)
    job_chain.add(there, "13", "", (), False, submission=1)
    job_chain.add(there, "12", "", (), False, submission=1)
    run_index.add([here.path, there.path])
    runs = RunRecords(str(tmp_path / "here"))
    comment = job_comment.comment("a-1", "x")
    found = [runs.find(record(job, comment=comment if job == "13" else "")) for job in ("12", "13", "99")]
    assert [(each.run, each.template) for each in found] == [(here.path, "roses"), (there.path, "x"), ("", "")]
    assert runs.jobs_of(here) == ["12"]
    assert runs.jobs_of(there) == ["13"]


def test_the_template_of_a_run_is_the_job_template_and_not_its_name(tmp_path: Path) -> None:
    """Also where Slurm stores no comments, or the user gave one."""
    run = RunFolder(str(tmp_path / "flowers-1"))
    os.makedirs(run.path, mode=0o700)
    template = TemplateOrigin("cnn", "group", "/proj/jobs/cnn.toml", "0")
    origin = Manifest(
        run.name, "", "flowers.toml", {"name": "flowers"}, "generic", None, None, "", {}, template=template
    )
    manifest.write(run.manifest, origin)
    assert manifest.read(run.manifest) == origin
    job_chain.add(run, "12", "", (), False, submission=1)
    runs = RunRecords(str(tmp_path))
    for comment in ("", "for Ann", job_comment.comment(run.name, "cnn")):
        assert runs.find(record("12", name="stf-flowers", comment=comment)).template == "cnn"
    assert runs.find(record("99", name="stf-flowers", comment="")).template == "flowers"


def test_the_gpus_of_an_attempt_where_slurm_says_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, "flowers-1", "flowers")
    job_chain.add(run, "12", "", (), False, submission=1)
    write(run, Attempt("12.0", "12", 1003.0, speaks=True), Attempt("12.1", "12", 2004.0, speaks=True))
    for task, attempt, busy in (("worker:0", "12.0", 90), ("worker:1", "12.0", 70), ("worker:0", "12.1", 10)):
        gpu_record.add(run, task, attempt, GpuSample(1.0, (GpuState("A100", busy, 5, 9),)))
    runs = RunRecords(str(tmp_path))
    assert runs.with_gpu_use(record(started=1000, ended=1500, gpus=2)).gpu_use == 80.0
    assert runs.with_gpu_use(record(started=2000, ended=2500, gpus=2)).gpu_use == 10.0
    # Slurm's own number counts
    assert runs.with_gpu_use(record(started=1000, ended=1500, gpus=2, gpu_use=33.0)).gpu_use == 33.0
    assert runs.with_gpu_use(record("99", started=1000, gpus=2)).gpu_use is None
