"""The digits under Horovod, as they are under TensorFlow's collectives: equal ranks, one process's result, restarts."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.horovod import require
from tests.jobs.conftest import JOBS, RunJob
from tests.jobs.test_digits import BROKEN, RANKS, SHARDS, check_as_one_process, largest_difference, variables

pytestmark = pytest.mark.tensorflow

HOROVOD = str(JOBS / "digits_horovod.toml")
SHORT = ["--set", 'command=["python", "digits.py", "--epochs", "2"]']


@pytest.fixture(autouse=True)
def _horovod() -> None:
    require()


def test_the_job_differs_from_its_neighbour_in_name_and_strategy_alone() -> None:
    text = (JOBS / "digits_multi_worker.toml").read_text()
    changed = text.replace("digits-multi-worker", "digits-horovod").replace('"multi_worker"', '"horovod"')
    assert Path(HOROVOD).read_text().splitlines()[1:] == changed.splitlines()[1:]


def test_two_ranks_end_bit_equal_and_as_one_process_does(run_job: RunJob, tmp_path: Path) -> None:
    many = run_job(HOROVOD)
    assert many.wait() == 0, many.text
    # from one rank each
    assert len(many.find(r"SavedModel (\S+)")) == 1
    check_as_one_process(run_job, tmp_path, many)


@pytest.mark.parametrize(
    "broken",
    [
        "from slurm_tf.train import horovod; horovod.Ranks.mean = lambda self, tensors: list(tensors)",
        "from slurm_tf.train import horovod; horovod.Ranks.sum = lambda self, tensors: list(tensors)",
        "allreduce.averaging = lambda optimizer, collective: None",
    ],
    ids=["no mean", "no sum", "no averaged gradients"],
)
def test_without_any_part_of_the_reduction_ranks_differ(broken: str, run_job: RunJob, tmp_path: Path) -> None:
    """What the test above would say; that program, whole, ends with equal ranks."""
    program = tmp_path / "broken.py"
    program.write_text(BROKEN.format(broken=broken))
    command = f'command=["python", "{program}", "digits.py", "--epochs", "2"]'
    job = run_job(HOROVOD, "--set", command)
    assert job.wait() == 0, job.text
    ranks = job.find(RANKS)
    assert len(ranks) == 2
    assert len({checksum for _, _, checksum in ranks}) == 2


def test_ranks_read_disjoint_parts_of_the_same_batches(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "shards.py").write_text(SHARDS)
    (tmp_path / "job.toml").write_text(
        'name = "a"\nstrategy = "horovod"\ncommand = ["python", "shards.py"]\n[roles.worker]\ncount = 2\n'
    )
    job = run_job("job.toml")
    assert job.wait() == 0, job.text
    seen = {rank: [int(x) for x in values.split(", ")] for rank, values in job.find(r"seen (\d) \[(.*)\]")}
    assert set(seen["0"]) | set(seen["1"]) == set(range(100))
    assert not set(seen["0"]) & set(seen["1"])


def test_a_killed_rank_ends_the_job_and_is_named(run_job: RunJob) -> None:
    job = run_job(HOROVOD)
    job.wait_for(r"step 46/230")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    killed = time.monotonic()
    assert job.wait(60) == 128 + signal.SIGKILL
    assert time.monotonic() - killed <= 30
    assert re.search(r"the job failed: worker:1 on \S+ was ended by signal 9 \(SIGKILL\)", job.text), job.text


def test_a_killed_rank_starts_all_again_from_the_last_checkpoint(run_job: RunJob) -> None:
    job = run_job(HOROVOD, "--set", "launch.max-restarts=1", "--set", "checkpoint.every-steps=20")
    job.wait_for(r"step 69/230")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    (resumed,) = job.find(r"resumed at step (\d+) from")
    assert int(resumed) >= 60
    assert "step 230/230" in job.text
    ranks = job.find(RANKS)
    assert len(ranks) == 2
    assert len({checksum for _, _, checksum in ranks}) == 1


def test_a_python_without_horovod_is_told_how_to_get_it(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text("raise ImportError('none here')\n")
    job = run_job(HOROVOD, *SHORT, PYTHONPATH=f"{tmp_path}:{JOBS.parent}")
    assert job.wait() == 1
    assert "found no Horovod for TensorFlow" in job.text
    assert "slurm-tf plugin horovod --python" in job.text


def test_a_loop_of_the_programs_own_ends_as_one_process_does(run_job: RunJob, tmp_path: Path) -> None:
    job = (
        f'name = "a"\nstrategy = "horovod"\nchdir = "{JOBS}"\n'
        'command = ["python", "cancer_ps.py", "--steps", "100"]\n[roles.worker]\ncount = 2\n'
    )
    (tmp_path / "job.toml").write_text(job)
    many = run_job("job.toml")
    assert many.wait() == 0, many.text
    assert len(many.find(r"steps 100, test accuracy")) == 2
    together = variables(many)
    (tmp_path / "runs").rename(tmp_path / "runs-of-two")
    alone = run_job("job.toml", "--set", "strategy=single", "--set", "roles.worker.count=1")
    assert alone.wait() == 0, alone.text
    assert largest_difference(together, variables(alone)) <= 1e-4
