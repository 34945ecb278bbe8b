"""The index of the user's runs: many add to it at once, and what is gone leaves it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.errors import RunError
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import run_index
from tests.conftest import PYTHONPATH, write_manifest


def make_run(folder: Path) -> str:
    folder.mkdir(parents=True)
    write_manifest(RunFolder(str(folder)), "a")
    return str(folder)


def listed() -> list[str]:
    found: list[str] = json.loads(run_index.path().read_text())["folders"]
    return found


def test_what_is_added_is_read_once_each(tmp_path: Path) -> None:
    assert run_index.read() is None
    one, two = make_run(tmp_path / "one" / "a-1"), make_run(tmp_path / "two" / "a-1")
    run_index.add([])
    assert run_index.read() == ()
    run_index.add([one])
    run_index.add([two, one])
    assert run_index.read() == (one, two)
    assert run_index.path().parent.stat().st_mode & 0o777 == 0o700


def test_what_is_gone_is_dropped_and_what_is_not_mounted_is_only_left_out(tmp_path: Path) -> None:
    gone, away, here = (make_run(tmp_path / name / "a-1") for name in ("one", "two", "three"))
    run_index.add([gone, away])
    shutil.rmtree(gone)
    (tmp_path / "two").rename(tmp_path / "elsewhere")
    assert run_index.read() == ()
    run_index.add([here])
    assert listed() == [away, here]
    (tmp_path / "elsewhere").rename(tmp_path / "two")
    assert run_index.read() == (away, here)


def test_an_index_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    run_index.add([])
    run_index.path().write_text('{"contract": 0}')
    assert run_index.read() is None
    run_index.add([make_run(tmp_path / "a-1")])
    assert run_index.read() == (str(tmp_path / "a-1"),)


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    run_index.add([])
    run_index.path().parent.chmod(0o777)
    with pytest.raises(RunError, match="others can change it"):
        run_index.add([make_run(tmp_path / "a-1")])


def test_several_add_at_once(tmp_path: Path) -> None:
    runs = [[make_run(tmp_path / str(process) / f"a-{number}") for number in range(20)] for process in range(4)]
    program = "import sys; from slurm_tf.submit import run_index\nfor run in sys.argv[1:]: run_index.add([run])"
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH}
    started = [subprocess.Popen([sys.executable, "-c", program, *each], env=environ) for each in runs]
    assert [each.wait(120) for each in started] == [0] * 4
    assert set(listed()) == {run for each in runs for run in each}
