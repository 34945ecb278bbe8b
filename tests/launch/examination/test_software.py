"""What nvidia-smi and the Python of a program say of a node. The texts of nvidia-smi are from reports of users."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_tf.launch.examination import software
from slurm_tf.run.examination import TensorFlowFacts
from tests.conftest import RECORDED

TEXTS = RECORDED / "nvidia-smi"


@pytest.mark.parametrize(
    ("release", "cuda"), [("450.57", "11.0"), ("580.126.09", "13.0"), ("610.43.02", "13.3")]
)  # fmt: skip
def test_the_driver(release: str, cuda: str, tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", f"exec /bin/cat {TEXTS / release}.txt")
    facts = software.gpus({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1"})
    assert (facts.given, facts.driver, facts.cuda, facts.problem) == (2, release, cuda, "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("echo NVIDIA-SMI has failed; exit 9", "nvidia-smi says: NVIDIA-SMI has failed"),
        ("true", "nvidia-smi says: nothing"),
        ("exec /bin/sleep 600", "nvidia-smi does not answer in 0 s"),
        ("", "there is no nvidia-smi in PATH"),
    ],
)
def test_a_driver_that_does_not_answer(
    line: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(software, "_DRIVER_SECONDS", 0.3 if "sleep" in line else 10.0)
    if line:
        program(tmp_path, "nvidia-smi", line)
    facts = software.gpus({"PATH": str(tmp_path)})
    assert (facts.given, facts.driver, facts.problem) == (0, "", problem)


def program(folder: Path, name: str, line: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("code", "printed", "facts"),
    [
        (0, ["a warning", "", '["2.21.0", 4.5, 2, "12.5.1"]'], TensorFlowFacts("2.21.0", 4.5, 2, "12.5.1")),
        (3, [], TensorFlowFacts(problem="this Python has no TensorFlow", is_missing=True)),
        (1, ["Traceback", "ImportError: x"], TensorFlowFacts(problem="import tensorflow: ImportError: x")),
        (-4, [], TensorFlowFacts(problem="import tensorflow: signal 4 (SIGILL)")),
        (0, ["hello"], TensorFlowFacts(problem="import tensorflow printed 'hello'")),
    ],
)  # fmt: skip
def test_what_tensorflow_says(code: int, printed: list[str], facts: TensorFlowFacts) -> None:
    assert software.read_answer(code, printed) == facts


@pytest.mark.tensorflow
@pytest.mark.long  # what the job of a job file says of it: tests/cluster/test_doctor.py
def test_the_tensorflow_that_is_installed_here() -> None:
    facts = software.TensorFlowQuestion(sys.executable, os.environ).answer(time.monotonic() + 300)
    assert facts.problem == ""
    installed = subprocess.run(
        [sys.executable, "-c", "import tensorflow; print(tensorflow.__version__)"], capture_output=True, text=True,
        timeout=300, check=True,
    )  # fmt: skip
    assert facts.version == installed.stdout.strip()
    assert facts.seconds > 0


def test_a_python_is_asked_in_the_environment_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "__version__ = '2.99'\nclass sysconfig:\n  get_build_info = staticmethod(lambda: {'cuda_version': '12.5'})\n"
        "class config:\n  list_physical_devices = staticmethod(lambda kind: [kind] * 3)\nprint('loaded')\n"
    )
    end = time.monotonic() + 60
    facts = software.TensorFlowQuestion("/usr/bin/python3", {"PYTHONPATH": str(tmp_path)}).answer(end)
    assert (facts.version, facts.gpus, facts.cuda, facts.problem) == ("2.99", 3, "12.5", "")
    facts = software.TensorFlowQuestion("/usr/bin/python3", {}).answer(end)
    assert facts.is_missing
    facts = software.TensorFlowQuestion(str(tmp_path / "gone"), {}).answer(end)
    assert facts.problem == f"{tmp_path}/gone: No such file or directory"
    assert software.TensorFlowQuestion("", {}).answer(end).problem == "the job's command does not begin with a Python"
    (tmp_path / "tensorflow.py").write_text("import time; time.sleep(600)")
    question = software.TensorFlowQuestion("/usr/bin/python3", {"PYTHONPATH": str(tmp_path)})
    assert question.answer(time.monotonic() + 0.2).problem == "its import had not ended when the examination did"
