"""Programs whose role asked for GPUs, with a TensorFlow that has none: this one is built for CPUs."""

from pathlib import Path

import pytest

from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import write

pytestmark = pytest.mark.tensorflow

PROGRAM = """
import slurm_tf.train as train
run = train.init()
print("trains")
"""


def test_a_program_without_the_gpus_of_its_role_ends_unless_they_are_optional(
    run_forked: RunJob, tmp_path: Path
) -> None:
    path = write(tmp_path, PROGRAM, "single", "gpus-per-task = 1")
    job = run_forked(path, CUDA_VISIBLE_DEVICES="0,1")
    assert job.wait() == 65, job.text
    assert job.find(r"^\[worker:0\] slurm_tf.train: TensorFlow \S+ has no GPU$"), job.text
    assert job.find(r"worker:0 was given GPUs, and its TensorFlow has none: it is built without GPU support"), job.text
    assert "trains" not in job.text
    # before the start, as of any program
    assert job.find(r"^slurm-tf: warning: worker:0 has GPUs, and the TensorFlow of its python is built without"), (
        job.text
    )
    job = run_forked(path, "--set", "gpus-optional=true", CUDA_VISIBLE_DEVICES="0,1")
    assert job.wait() == 0, job.text
    assert job.find(r"^\[worker:0\] slurm_tf.train: TensorFlow \S+ has no GPU$"), job.text
    assert "trains" in job.text
    assert "warning" not in job.text
