"""Warnings of programs whose TensorFlow cannot use the GPUs of their task."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from slurm_tf.launch.agent import gpu_check, program_python
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.run import env
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import StartJob

# What TensorFlow prints, from public reports: 2.13 to 2.20 without a driver, 2.4 to 2.21 without libraries, 2.20 with a
# driver that fails.
NO_DRIVER = (
    "2026-04-06 13:23:37.348637: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not find cuda drivers on "
    "your machine, GPU will not be used."
)
NO_LIBRARIES = "Skipping registering GPU devices..."
NO_DEVICE = (
    "E0000 00:00:1775013762.112517   12260 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed "
    "call to cuInit: UNKNOWN ERROR (303)"
)


def assignment(need: str, gpus: tuple[str, ...] | None = ("0",), index: int = 0) -> Assignment:
    return Assignment("worker", index, None, gpus, {env.GPUS: need}, (), cluster_flags=False)


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that makes a `python` with a TensorFlow of this build."""

    def make(build: str) -> str:
        folder = tmp_path / "lib" / "tensorflow" / "python" / "platform"
        folder.mkdir(parents=True)
        # importing it would fail
        (tmp_path / "lib" / "tensorflow" / "__init__.py").write_text("raise SystemExit('imported')\n")
        (folder / "build_info.py").write_text(f"build_info = {build}\n")
        path = tmp_path / "python3.11"
        path.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/lib exec {sys.executable} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


def said(argv: list[str], of: Assignment, log: Path, **environ: str) -> tuple[list[str], bool]:
    """Return what is said before the start, and whether the output is looked at."""
    lines: list[str] = []
    known = {**os.environ, env.RESTARTS: "0", **environ}
    ask = partial(program_python.ask, argv, known)
    found = gpu_check.begin(of, argv, known, str(log), lines.append, ask)
    return lines, found is not None


CPU = "{'is_cuda_build': False, 'is_rocm_build': False, 'is_tensorrt_build': False}"


def test_a_tensorflow_that_is_built_without_gpus_is_named(python: Callable[[str], str], tmp_path: Path) -> None:
    argv, log = [python(CPU), "train.py"], tmp_path / "log"
    (line,), looks = said(argv, assignment("required"), log)
    assert not looks
    assert line.startswith(
        "warning: worker:0 has GPUs, and the TensorFlow of its python3.11 is built without GPU support; needed a "
    )
    assert "HINT: gpus-optional = true" in line
    # of Slurm's own list, where no role states any
    assert len(said(argv, assignment("none", None), log, CUDA_VISIBLE_DEVICES="0,1")[0]) == 1
    # once a role, at the first start
    assert said(argv, assignment("required", index=1), log) == ([], True)
    assert said(argv, assignment("required"), log, **{env.RESTARTS: "1"}) == ([], True)
    # nothing to say of a job that can do without, of a role without GPUs, of a task that sees none
    for other in (assignment("optional"), assignment("none", ()), assignment("none", None)):
        assert said(argv, other, log, CUDA_VISIBLE_DEVICES="") == ([], False)
    # a plugin has devices of other kinds
    (tmp_path / "lib" / "tensorflow-plugins").mkdir()
    assert said(argv, assignment("required"), log) == ([], True)


@pytest.mark.parametrize("build", [CPU.replace("False", "True", 1), "{}", "1/0"])
def test_another_build_or_an_unknown_one_is_not(build: str, python: Callable[[str], str], tmp_path: Path) -> None:
    assert said([python(build)], assignment("required"), tmp_path / "log") == ([], True)


def test_what_is_no_python_is_not_asked(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (tmp_path / "container").write_text(f"#!/bin/sh\ntouch {touched}\necho for CPUs\n")
    (tmp_path / "container").chmod(0o755)
    assert said([str(tmp_path / "container")], assignment("required"), tmp_path / "log") == ([], True)
    assert not touched.exists()


@pytest.mark.parametrize("sign", [NO_DRIVER, NO_LIBRARIES, NO_DEVICE])
def test_what_tensorflow_says_itself_is_said_once(sign: str, tmp_path: Path) -> None:
    log, lines = tmp_path / "log", list[str]()
    log.write_text(f"{sign} of a former start\n")
    check = gpu_check.OutputCheck("worker:1", str(log), lines.append)
    for piece in ("starts\n", sign[:20], sign[20:], "\n", f"{sign}\n"):
        assert lines == []
        with log.open("a") as file:
            file.write(piece)
        check.look()
        if piece == "\n":
            break
    check.look()
    (line,) = lines
    assert line.startswith(
        f"warning: worker:1 has GPUs, and its TensorFlow says: {sign}; needed a TensorFlow that uses"
    )
    with log.open("a") as file:
        file.write(f"{sign}\n")
    check.look()
    assert len(lines) == 1


def test_only_the_beginning_of_the_output_is_searched(tmp_path: Path) -> None:
    log, lines = tmp_path / "log", list[str]()
    check = gpu_check.OutputCheck("worker:1", str(log), lines.append)
    check.look()  # there is no log yet
    log.write_text("x" * 300_000 + f"\n{NO_DRIVER}\n")
    check.look()
    check.look()
    assert lines == []


@pytest.mark.slow
def test_a_program_is_warned_of_while_it_runs(start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    program = f"echo $SLURM_TF_GPUS; echo '{NO_DRIVER}' >&2"
    job = start_job(program, roles=(RoleSettings("worker", 2, 1), RoleSettings("evaluator", 1)))
    assert job.wait() == 0, job.text
    assert [job.lines(name)[0] for name in ("worker:0", "worker:1", "evaluator:0")] == ["required", "required", "none"]
    assert job.text.count("GPUs, and its TensorFlow says: ") == 2
    assert "slurm-tf: warning: worker:1 has GPUs, and its TensorFlow says: 2026-" in job.text
