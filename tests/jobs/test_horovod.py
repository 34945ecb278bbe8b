"""The CNN under Horovod: parts of the reduction removed, a rank killed, no Horovod. Its results: test_cnn.py."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import CHECKSUM
from tests.horovod import require
from tests.jobs.conftest import JOBS, RunJob, through
from tests.jobs.test_cnn import RANKS
from tests.oracle import CHANGED, NO_REDUCTION

pytestmark = pytest.mark.tensorflow

HOROVOD = str(JOBS / "cnn_horovod.toml")


@pytest.fixture(autouse=True)
def _horovod() -> None:
    require()


@pytest.mark.long  # as for TensorFlow's own
@pytest.mark.parametrize(
    "broken",
    [
        NO_REDUCTION["horovod"],
        "from slurm_tf.train.collectives.horovod_ranks import HorovodCollective\n"
        "HorovodCollective.sum = lambda self, tensors: list(tensors)",
        "keras_3.average_gradients = lambda optimizer, collective: None",
    ],
    ids=["no mean", "no sum", "no averaged gradients"],
)
def test_without_one_part_of_the_reduction_ranks_differ(broken: str, run_forked: RunJob, tmp_path: Path) -> None:
    """With all parts, test_cnn.py ends with equal ranks."""
    program = tmp_path / "broken.py"
    program.write_text(CHANGED.format(change=broken))
    job = run_forked(HOROVOD, "epochs=1", *through(str(program), CHECKSUM))
    assert job.wait() == 0, job.text
    ranks = job.find(RANKS)
    assert len(ranks) == 2
    assert len({checksum for _, _, checksum in ranks}) == 2


@pytest.mark.long  # tests/cluster/test_horovod.py has it on nodes
def test_a_killed_rank_ends_the_job_and_is_named(run_job: RunJob) -> None:
    job = run_job(HOROVOD)
    job.wait_for(r"step 46/230")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    killed = time.monotonic()
    assert job.wait(60) == 128 + signal.SIGKILL
    assert time.monotonic() - killed <= 60
    assert re.search(r"the job failed: worker:1 on \S+ was ended by signal 9 \(SIGKILL\)", job.text), job.text


@pytest.mark.long  # tests/cluster/test_horovod.py has it on nodes
@pytest.mark.matrix
def test_a_killed_rank_starts_all_again_from_the_last_checkpoint(run_job: RunJob) -> None:
    job = run_job(HOROVOD, "--set", "launch.max-restarts=1", "--set", "checkpoint.every-steps=20", *through(CHECKSUM))
    job.wait_for(r"step 69/230")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    (resumed,) = job.find(r"resumed at step (\d+) from")
    assert int(resumed) >= 60
    assert "step 230/230" in job.text
    ranks = job.find(RANKS)
    assert len(ranks) == 2
    assert len({checksum for _, _, checksum in ranks}) == 1


def test_without_horovod_the_error_tells_how_to_get_it(run_forked: RunJob, tmp_path: Path) -> None:
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text("raise ImportError('none here')\n")
    job = run_forked(HOROVOD, "epochs=2", "--set", "roles.worker.count=1", PYTHONPATH=f"{tmp_path}:{JOBS.parent}")
    assert job.wait() == 1
    assert "found no Horovod for TensorFlow" in job.text
    assert "slurm-tf plugin horovod --python" in job.text
