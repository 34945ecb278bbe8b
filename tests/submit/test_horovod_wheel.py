"""Horovod's wheel: what a build needs is said before it starts, and a build that fails leaves nothing in the cache."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.submit import horovod_wheel
from slurm_tf.submit.horovod_wheel import Target

PYTHON = """#!/bin/sh
# a Python whose TensorFlow is of version $TENSORFLOW, and whose pip does what $PIP says
echo "$@" >> "$CALLS"
case "$*" in
*allreduce*) exit $ADDS ;;
*"import tensorflow"*)
    echo '{"tensorflow": "2.21.0", "tag": "cpython-311", "machine": "x86_64",' \
        '"headers": '"$HEADERS"', "installed": '"$INSTALLED"'}' ;;
*--wheel-dir*) eval "$PIP" ;;
esac
"""
WHEEL = 'while [ "$1" != --wheel-dir ]; do shift; done; mkdir "$2"; echo "$CXXFLAGS" > "$2/horovod-0.28.1-x.whl"'


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a Python of which the tests say what it does; the cache is empty."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("g++", "make", "mpicxx"):
        (tools / name).symlink_to("/bin/true")
    (tools / "cmake").write_text("#!/bin/sh\necho cmake version $CMAKE\n")
    (tools / "python").write_text(PYTHON)
    for name in ("cmake", "python"):
        (tools / name).chmod(0o755)
    for name, value in {
        "HEADERS": "true", "INSTALLED": "null", "ADDS": "0",
        "PIP": WHEEL, "CMAKE": "3.25.1", "CALLS": str(tmp_path / "calls"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", os.defpath)
    return str(tools / "python")


def wheels(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.whl"))


def test_a_wheel_is_built_once_and_installed_each_time(python: str, tmp_path: Path) -> None:
    said: list[str] = []
    first = horovod_wheel.install(python, False, said.append)
    assert first.parent.name == "0.28.1-tf2.21.0-cpython-311-x86_64-gloo"
    assert first.stat().st_mode & 0o077 == 0
    assert "building Horovod 0.28.1 for TensorFlow 2.21.0" in said[0]
    assert horovod_wheel.install(python, False, said.append) == first
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("pip wheel" in call for call in calls) == 1
    assert sum(f"--force-reinstall --no-deps {first}" in call for call in calls) == 2
    # each time two processes show that it works
    assert sum("hvd.allreduce" in call for call in calls) == 4
    assert not any("uninstall" in call for call in calls)
    assert horovod_wheel.install(python, True, said.append).parent.name.endswith("-mpi")


def test_what_is_installed_already_is_left_alone(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = horovod_wheel.install(python, False, lambda _: None)
    (tmp_path / "calls").unlink()
    monkeypatch.setenv("INSTALLED", f'"file://{wheel}"')
    assert horovod_wheel.install(python, False, lambda _: None) == wheel
    assert "install " not in (tmp_path / "calls").read_text()


def test_a_wheel_that_cannot_add_is_not_left_installed(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADDS", "1")
    with pytest.raises(UsageError, match="two processes cannot add numbers with Horovod"):
        horovod_wheel.install(python, False, lambda _: None)
    assert "pip --disable-pip-version-check uninstall --yes horovod" in (tmp_path / "calls").read_text()


def test_other_settings_of_the_build_make_another_wheel(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = horovod_wheel.install(python, False, lambda _: None)
    monkeypatch.setenv("HOROVOD_GPU_OPERATIONS", "NCCL")
    assert horovod_wheel.install(python, False, lambda _: None).parent != one.parent


@pytest.mark.parametrize(("version", "without_xla"), [("2.18.1", False), ("2.19.0", True), ("2.21.0", True)])
def test_xla_operations_are_left_out_where_tensorflow_lacks_their_headers(
    version: str, without_xla: bool, python: str
) -> None:
    environ = horovod_wheel._build_environ(Target(python, version, "cpython-311", "x86_64", False))
    assert ("-UTENSORFLOW_VERSION" in environ.get("CXXFLAGS", "")) == without_xla
    assert environ["HOROVOD_WITHOUT_MPI"] == "1"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("cmake", "found no cmake; needed cmake 3.13 or later to build Horovod\nHINT: "),
        ("g++", "found no g++; needed a C++ compiler"),
        ("make", "found no make"),
        ("mpicxx", "found no mpicxx; needed MPI's compiler"),
    ],
)
def test_a_tool_that_is_missing_is_named(
    tool: str, said: str, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / tool).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UsageError) as caught:
        horovod_wheel._build_environ(Target(python, "2.21.0", "cpython-311", "x86_64", True))
    assert str(caught.value).startswith(said)


def test_an_old_cmake_no_headers_and_a_full_disk_are_said(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(UsageError) as caught:
            horovod_wheel.install(python, False, lambda _: None)
        return str(caught.value)

    monkeypatch.setenv("CMAKE", "3.9.1")
    assert "is 'cmake version 3.9.1'; needed cmake 3.13 or later" in refused()
    monkeypatch.setenv("CMAKE", "4.1.0")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as context:
        context.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1 << 30))
        assert "1024 MiB are free for" in refused()
    monkeypatch.setenv("HEADERS", "false")
    assert "has no Python.h" in refused()
    assert not wheels(tmp_path)


def test_a_python_without_tensorflow_is_said(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=60)
    with pytest.raises(UsageError, match=r"no TensorFlow .*; needed a Python with TensorFlow"):
        horovod_wheel.install(str(tmp_path / "bare" / "bin" / "python"), False, lambda _: None)


def test_a_build_that_fails_or_never_ends_leaves_nothing(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP", 'echo "x.cc:1: fatal error: no such header"; exit 1')
    with pytest.raises(UsageError, match=r"does not build \(x.cc:1: fatal error: no such header\)"):
        horovod_wheel.install(python, False, lambda _: None)
    monkeypatch.setenv("PIP", f"{WHEEL}; sleep 600")
    monkeypatch.setattr(horovod_wheel, "_BUILD_SECONDS", 0.5)
    with pytest.raises(UsageError, match="not done in 0 s"):
        horovod_wheel.install(python, False, lambda _: None)
    assert not wheels(tmp_path)
