"""Functions that are called in another process: their errors, its end, and programs that guard nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.errors import DatasetError, StorageError
from slurm_tf.prepare.worker_process import WorkerProcess
from tests.conftest import ROOT
from tests.prepare import recipes

PROGRAM = """
import sys
from pathlib import Path
from slurm_tf.prepare import preparation, recipe_file
print("begun", flush=True)
manifest = preparation.prepare(recipe_file.load(Path(sys.argv[1])), False, lambda text: None)
print(sum(split.rows for split in manifest.splits), flush=True)
"""


def failing(text: str) -> None:
    raise DatasetError(text, "another")


def test_errors_come_back_and_the_process_answers_on() -> None:
    with WorkerProcess() as worker:
        first = worker.call(os.getpid)
        with pytest.raises(DatasetError, match="found this; needed another"):
            worker.call(failing, "found this")
        assert worker.call(os.getpid) == first != os.getpid()


def test_a_process_that_is_killed_is_an_error() -> None:
    with WorkerProcess() as worker:
        os.kill(worker.call(os.getpid), signal.SIGKILL)
        with pytest.raises(StorageError, match="signal 9"):
            worker.call(os.getpid)


def test_a_process_ends_with_the_block_in_a_call() -> None:
    with WorkerProcess() as worker:
        pid = worker.call(os.getpid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_that_guards_nothing_prepares_once(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(50))
    recipe = recipes.write(tmp_path, recipes.recipe_text(top="cpus = 2"))
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", str(recipe)], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "begun\n50\n"), done.stderr
