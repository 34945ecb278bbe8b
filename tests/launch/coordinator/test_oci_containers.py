"""What a job prepares for Slurm's own OCI containers; srun is a fake."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from slurm_tf.errors import ContainerError
from slurm_tf.launch.coordinator import oci_containers
from slurm_tf.launch.job_context import JobContext
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import DEFAULTS
from tests.launch.mapping.test_oci_bundle import make_image

ONE_EACH = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_TASKS_PER_NODE": "1(x2)"}

Prepare = Callable[..., Path]


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare a job of two workers in a container; return the folder of its submission."""
    image = make_image(tmp_path, "home", "work")
    submission = tmp_path / "run/submission-1"
    submission.mkdir(parents=True)
    (tmp_path / "image/rootfs" / str(submission.parent).lstrip("/")).mkdir(parents=True)
    (tmp_path / "image/rootfs" / os.getcwd().lstrip("/")).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # root may make mount points

    def run(version: str, environ: Mapping[str, str] = ONE_EACH, gpus: int = 0, **container: object) -> Path:
        srun = tmp_path / "bin/srun"
        srun.parent.mkdir(exist_ok=True)
        srun.write_text(f"#!/bin/sh\necho slurm-wlm {version}\n")
        srun.chmod(0o755)
        settings = ContainerSettings(Runtime.OCI, (), str(image), **container)  # type: ignore[arg-type]
        worker = RoleSettings("worker", 2, gpus, ("true",), container=settings)
        context = JobContext(
            SubmissionFolder(str(submission)), None, {"PATH": str(srun.parent), "HOME": "/home", **environ}
        )
        oci_containers.prepare(context, dataclasses.replace(DEFAULTS, local=False, roles=(worker,)))
        return submission

    return run


def test_each_role_gets_a_bundle(prepare: Prepare) -> None:
    submission = prepare("22.05.8", mounts=(Mount("/srv", "/data"),), home=True)
    text = (submission / "container-worker/config.json").read_text()
    for path in (str(submission.parent), os.getcwd(), "/home", "/data"):
        assert f'"destination": "{path}"' in text


@pytest.mark.parametrize(
    ("environ", "gpus", "said"),
    [
        ({"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_TASKS_PER_NODE": "2,1"}, 0, "several tasks on node1; needed one"),
        ({**ONE_EACH, "SLURM_HET_SIZE": "2"}, 0, "a heterogeneous job: a task is not told its rank"),
        (ONE_EACH, 1, "GPUs for worker: a task is not told which are its own"),
    ],
)
def test_what_an_old_slurm_cannot_do_is_said_and_a_newer_one_can(
    prepare: Prepare, environ: Mapping[str, str], gpus: int, said: str
) -> None:
    with pytest.raises(ContainerError, match=rf"{said}.*Slurm 22\.05 in an OCI container\nHINT: a runtime that"):
        prepare("22.05.8", environ, gpus)
    assert prepare("23.02.1", environ, gpus)


def test_a_mount_point_that_the_image_lacks_names_role_and_node(prepare: Prepare) -> None:
    said = rf"container of role worker on {os.uname().nodename}: the image \S+ has no /lost; needed it, to mount /srv"
    with pytest.raises(ContainerError, match=said):
        prepare("22.05.8", mounts=(Mount("/srv", "/lost"),))
