"""Jobs whose containers srun enters, where that does not happen: a shell stands in for srun."""

import pytest

from slurm_tf.errors import ContainerError
from slurm_tf.run.container_settings import ContainerSettings, Runtime
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import LAUNCH, StartJob

pytestmark = pytest.mark.slow

IN_PYXIS = (RoleSettings("worker", 2, 0, ("true",), container=ContainerSettings(Runtime.PYXIS, (), "/images/tf")),)


def test_containers_that_do_not_start_end_the_job_for_good(start_job: StartJob) -> None:
    said = (
        "echo 'slurmstepd: error: pyxis: no space' >&2; echo 'srun: error: n3: tasks 0-1: Exited with exit code 1' >&2"
    )
    job = start_job("true", step=["bash", "-c", f"{said}; exit 1"], roles=IN_PYXIS)
    assert job.wait() == ContainerError.exit_code
    failed = (
        "the job failed: a container did not start on n3: Exited with exit code 1: slurmstepd: error: pyxis: no space"
    )
    assert failed in job.text


def test_a_node_whose_slurm_ignores_the_container_ends_the_job_for_good(start_job: StartJob) -> None:
    outside = ["bash", "-c", 'exec "$@" --inside oci', "step", *LAUNCH, "local", "--ntasks", "2", "--"]
    job = start_job("true", step=outside)
    assert job.wait() == ContainerError.exit_code
    assert "Slurm ignored --container on this node; needed oci.conf beside its slurm.conf" in job.text
