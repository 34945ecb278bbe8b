"""What travels with a run: slurm_tf.train, for programs whose Python has none, behind what that Python has."""

import hashlib
import os
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


# --- the launcher that the user's cache folder keeps ---


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slurm-tf" / "launchers"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Count how often the launcher's modules are compiled, and keep the test short."""
    archives: list[bytes] = []

    def with_compiled(modules: list[tuple[str, bytes]]) -> bytes:
        archives.append(b"".join(source for _, source in modules))
        return archives[-1]

    monkeypatch.setattr(packed_modules, "_with_compiled", with_compiled)
    return archives


def test_it_is_compiled_once_for_the_same_sources_and_python(
    cache: Path, compiled: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packed_modules.launcher() == packed_modules.launcher() == compiled[0]
    (path,) = cache.iterdir()
    assert [cache.stat().st_mode & 0o777, path.stat().st_mode & 0o777] == [0o700, 0o600]
    monkeypatch.setattr(packed_modules, "_MAIN", b"another release")
    assert packed_modules.launcher() == compiled[1] != compiled[0]
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"another Python")
    assert packed_modules.launcher() == compiled[1]
    assert [len(compiled), len(list(cache.iterdir()))] == [3, 3]


def test_another_one_in_its_place_is_not_used(cache: Path, compiled: list[bytes]) -> None:
    first = packed_modules.launcher()
    (path,) = cache.iterdir()
    for damaged in (b"", path.read_bytes()[:-1], b"x" * 40):
        path.write_bytes(damaged)
        assert packed_modules.launcher() == first
    path.write_bytes(hashlib.sha256(b"theirs").digest() + b"theirs")
    for changeable in (path, cache):
        changeable.chmod(0o777)
        assert packed_modules.launcher() == first
        changeable.chmod(0o700)
    assert len(compiled) == 6


def test_it_needs_no_cache_and_does_not_fill_it(cache: Path, compiled: list[bytes]) -> None:
    cache.parent.parent.mkdir()
    cache.parent.touch()
    assert packed_modules.launcher() == packed_modules.launcher()
    assert len(compiled) == 2
    cache.parent.unlink()
    cache.mkdir(parents=True, mode=0o700)
    for number in range(10):
        (cache / f"{number}.pyz").touch()
        os.utime(cache / f"{number}.pyz", (number, number))
    packed_modules.launcher()
    names = {path.name for path in cache.iterdir()}
    assert {f"{number}.pyz" for number in range(3, 10)} < names
    assert len(names) == 8
