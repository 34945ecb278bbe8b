"""What travels with a run: slurm_tf.train, for programs whose Python has none, behind what that Python has."""

import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf import __version__
from slurm_tf.submit import packed_modules

WHERE = "import slurm_tf, sys; print(slurm_tf.__file__); print(vars(slurm_tf).get('who') or slurm_tf.__version__)"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "train.zip"
    path.write_bytes(packed_modules.train_library())
    return path


def found(*path: Path, program: str = WHERE) -> list[str]:
    """Return what a program prints whose Python has nothing but what PYTHONPATH names."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd="/",
        env={"PYTHONPATH": ":".join(map(str, path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def install(folder: Path) -> Path:
    (folder / "slurm_tf").mkdir(parents=True)
    (folder / "slurm_tf" / "__init__.py").write_text("who = 'installed'")
    (folder / "slurm_tf" / "own.py").write_text("")
    return folder


def test_a_python_without_slurm_tf_has_that_of_the_run(library: Path) -> None:
    assert found(library) == [f"{library}/slurm_tf/__init__.py", __version__]
    assert found(library, program="from slurm_tf.run import env; print(env.TASK)") == ["SLURM_TF_TASK"]
    assert packed_modules.train_library() == packed_modules.train_library()


def test_what_a_python_has_comes_first(library: Path, tmp_path: Path) -> None:
    folder = install(tmp_path / "packages")
    expected = [f"{folder}/slurm_tf/__init__.py", "installed"]
    assert found(library, folder) == found(folder, library) == expected
    assert found(library, folder, program=f"import slurm_tf.own; {WHERE}") == expected
    # an editable install is found by a finder of its own
    finder = (
        "import importlib.machinery as m, sys\n"
        "class Finder:\n"
        "    find_spec = staticmethod(lambda name, path=None, target=None: m.PathFinder.find_spec(name, [FOLDER])\n"
        "                             if name == 'slurm_tf' else None)\n"
        "sys.meta_path.append(Finder)\n"
    ).replace("FOLDER", repr(str(folder)))
    assert found(library, program=finder + WHERE) == expected


def test_a_folder_of_that_name_is_no_package(library: Path, tmp_path: Path) -> None:
    (tmp_path / "project" / "slurm_tf").mkdir(parents=True)
    assert found(library, tmp_path / "project")[0] == f"{library}/slurm_tf/__init__.py"
