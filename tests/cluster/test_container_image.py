"""The tests' container image starts as a user's on the sandbox's nodes."""

import sys

import pytest

from tests import container_image
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

SHOW = "import numpy, os, sys; print(os.getuid(), numpy.__file__, os.environ.get('FROM_IMAGE'), sys.version_info[:2])"


def test_a_user_runs_the_image_as_a_folder_and_as_a_file(sandbox: Sandbox) -> None:
    container_image.require()
    host, _, rest = container_image.site_mount().partition(":")
    bind, python = f"--bind={host}:{rest.removesuffix(':ro')}", ["--", "python3", "-c", SHOW]
    shown = f"20001 /opt/site/numpy/__init__.py {{}} {sys.version_info[:2]}\n"
    for image, options, from_image in (
        (container_image.folder(), [], None),
        (container_image.squashfs(), ["--set-env"], "yes"),
    ):
        done = sandbox.run("srun", "ch-run", bind, *options, str(image), *python)
        assert done.stdout == shown.format(from_image)
