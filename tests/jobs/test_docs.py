"""The programs of README and docs, and the commands for what they leave, run as they stand there."""

import re
import subprocess
from pathlib import Path

import pytest

from tests import forkserver, snippets
from tests.conftest import PYTHONPATH
from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import write

pytestmark = pytest.mark.tensorflow

# What the pages leave to their readers: data, and a model.
DATA = "import keras, numpy\nx, y = numpy.ones((128, 4), 'float32'), numpy.ones((128, 1), 'float32')\n"
MODEL = 'model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]); model.compile("sgd", "mse")'
VALUES = {"RUN": "a-1", "STEP": "40", "[--keep N]": "--keep 1", "FOLDER": "copy"}


def code(text: str) -> list[str]:
    """Return the lines of a program without comments."""
    return [line.partition("  #")[0] for line in text.splitlines()]


def test_programs_run_and_what_they_leave_can_be_typed(run_forked: RunJob, tmp_path: Path) -> None:
    longest, *others = sorted((each.text for each in snippets.of("python")), key=len, reverse=True)
    for text in others:  # the first lines of it, with comments
        assert code(longest)[: len(code(text))] == code(text)
    job = run_forked(write(tmp_path, DATA + longest.replace("model = ...", MODEL), "single"), "--name=a-1")
    assert job.wait() == 0, job.text
    environ, printed = forkserver.environ(), ""
    values = {**VALUES, "[STEP]": f"40 --python {forkserver.python()}"}
    for snippet in snippets.of("sh tensorflow"):
        done = subprocess.run(
            ["bash", "-ec", snippets.filled(snippet.text, values)], cwd=tmp_path, capture_output=True, text=True,
            timeout=240, check=False, env={**environ, "PYTHONPATH": PYTHONPATH, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert re.search(r"^40 .* whole$", printed, re.MULTILINE)
    assert "a-1 step 40: every tensor is as it was written\na-1: removed 0, kept 1\n" in printed
    assert (tmp_path / "copy" / "checkpoint.index").exists()
