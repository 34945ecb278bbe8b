"""Whether the tests' own Python has a Horovod that was built for its TensorFlow."""

import functools
import os
import subprocess
import sys

import pytest

_PROBE = "import horovod.tensorflow as hvd; print('built', hvd.gloo_built(), bool(hvd.mpi_built()))"


@functools.cache
def _found() -> str:
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else ""


def require(mpi: bool = False) -> None:
    """Skip the test where there is no such Horovod; fail it on CI, where one has to be."""
    found = _found()
    if found.endswith("True") or (found and not mpi):
        return
    lacking = f"found no Horovod{' with MPI' if mpi else ''}; needed: make horovod{' MPI=1' if mpi else ''}"
    if os.environ.get("CI") == "true":
        pytest.fail(lacking)
    pytest.skip(lacking)
