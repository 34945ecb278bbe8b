"""The way of a newcomer: from a clone, by the commands of the README, to a first submitted job on a sandbox."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import snippets
from tests.cluster.conftest import require
from tests.conftest import ROOT
from tests.sandbox.cluster import take_down
from tests.sandbox.shape import Shape
from tests.stopwatch import Stopwatch

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

# What the tests have set for themselves, and a newcomer has not.
_OF_TESTS = re.compile(r"(MAKE|MFLAGS|PYTHON|PYTEST|SLURM|SBATCH|VIRTUAL_ENV|XDG_|TF_)")


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a new folder that all users may enter; the sandbox in it ends with the test."""
    require(Shape())
    path = Path(tempfile.mkdtemp(prefix="stf-"))
    path.chmod(0o755)
    yield path
    take_down(path / "slurm-tf-sandbox")
    shutil.rmtree(path)


@pytest.mark.long  # in `make test`: cluster/test_docs.py, with the same commands of the README
@pytest.mark.timeout(2400)
def test_from_a_clone_to_a_first_job_that_has_ended_well(place: Path) -> None:
    watch, said = Stopwatch(), ""
    environ = {name: value for name, value in os.environ.items() if not _OF_TESTS.match(name)}
    # packages that somebody has downloaded before do not count
    environ |= {"HOME": str(place), "TMPDIR": str(place), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}

    def types(line: str, folder: Path, text: str = "") -> str:
        """Type a line in a shell, and `text` into what it starts."""
        nonlocal said
        with watch.part(line):
            done = subprocess.run(
                ["bash", "-ec", line], cwd=folder, env=environ, input=text, text=True, timeout=1800,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        said += f"$ {line}\n{done.stdout}"
        assert done.returncode == 0, said
        return done.stdout

    types(f"git clone --quiet {ROOT} slurm-tf", place)
    clone = place / "slurm-tf"
    readme = (clone / "README.md").read_text()
    first, _ = re.findall(r"^make \w+$", readme, re.MULTILINE)  # the other one is `make test`
    types(first, clone)
    up, shell, down = re.findall(r"`(make sandbox\S*)`", readme)
    types(up, clone)
    submission = snippets.of("sh slurm", "README.md")[0].text
    shown = types(shell, clone, f"set -ex\n{submission}")
    assert re.search(r"^Submitted batch job \d+$", shown, re.MULTILINE)
    assert "[chief:0] " in shown
    (run,) = re.findall(r"^slurm-tf logs (\S+) --follow$", submission, re.MULTILINE)
    ended = types(shell, clone, f"slurm-tf wait {run}")
    types(down, clone)
    watch.print_sum()
    print(said)
    assert f"Run {run} ended: COMPLETED" in ended
