"""The warning of a program that may train a model in each rank: what is seen in sources, and what stays unsaid."""

import os
from pathlib import Path

import pytest

from slurm_tf.launch.agent import horovod_check
from tests.launch.conftest import StartJob

KERAS_3 = "import keras\n"
OPTIMIZER = "import horovod.tensorflow.keras as hvd\nmodel.compile(hvd.DistributedOptimizer(keras.optimizers.Adam()))\n"
TF_KERAS = "import tensorflow as tf\n" + OPTIMIZER.replace("keras.opt", "tf.keras.opt")


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python that has whatever Keras KERAS names; none of any other name is asked."""
    path = tmp_path / "bin" / "python3.11"
    path.parent.mkdir()
    path.write_text('#!/bin/sh\n[ "$1" = -c ] && [ -n "$KERAS" ] || exit 1\necho "$KERAS"\n')
    path.chmod(0o755)
    return str(path)


def told(folder: Path, argv: list[str], source: str, keras: str = "3.15.1", **environ: str) -> str:
    (folder / "program.py").write_text(source)
    return horovod_check.warning([*argv, str(folder / "program.py")], {**os.environ, "KERAS": keras, **environ})


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (KERAS_3 + OPTIMIZER, "program.py:3"),
        (TF_KERAS, "program.py:3"),
        ("from horovod.keras import DistributedOptimizer as Wrapped\nWrapped(o)\n", "program.py:2"),
        ("import horovod.keras\n\nhorovod.keras.DistributedOptimizer(o)\n", "program.py:3"),
        ("from horovod.tensorflow import keras as h\nh.DistributedOptimizer(o)\n", "program.py:2"),
        (
            "import horovod.tensorflow as hvd\nfrom tensorflow import keras\nhvd.DistributedOptimizer(o)\n",
            "program.py:3",
        ),
    ],
)
def test_a_program_with_the_optimizer_is_named_with_its_line(
    source: str, where: str, python: str, tmp_path: Path
) -> None:
    text = told(tmp_path, [python, "-u"], source)
    assert text.startswith(f"warning: {where} uses Horovod's DistributedOptimizer, and its Python has Keras 3.15.1: ")
    assert "may average nothing" in text
    assert "needed slurm_tf.train" in text
    assert "TF_USE_LEGACY_KERAS=1 with tf_keras" in text


@pytest.mark.parametrize(
    "source",
    [
        # imported, named in a comment, in a string: not used
        "import keras, horovod.keras as hvd\n# hvd.DistributedOptimizer(o)\nprint('hvd.DistributedOptimizer')\n",
        "import keras\nimport horovod.tensorflow as hvd\nhvd.DistributedGradientTape(tape)\n",
        "import keras\nimport horovod.torch as hvd\nhvd.DistributedOptimizer(o)\n",
        # of tf.compat.v1
        "import tensorflow as tf, horovod.tensorflow as hvd\nhvd.DistributedOptimizer(tf.compat.v1.train.Adam())\n",
        "import tf_keras\nimport horovod.tensorflow.keras as hvd\nhvd.DistributedOptimizer(tf_keras.optimizers.A())\n",
        "import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\n" + TF_KERAS,
        "import slurm_tf.train as train\n" + KERAS_3 + OPTIMIZER,
        "from slurm_tf import train\n" + KERAS_3 + OPTIMIZER,
        KERAS_3 + OPTIMIZER + "this is no Python\n",
        "\0",
        "",
    ],
)
def test_what_is_right_or_unknown_stays_unsaid(source: str, python: str, tmp_path: Path) -> None:
    assert told(tmp_path, [python], source) == ""


def test_it_depends_on_the_keras_that_the_program_gets(python: str, tmp_path: Path) -> None:
    assert "has Keras 3.0.0:" in told(tmp_path, [python], TF_KERAS, "3.0.0")
    assert told(tmp_path, [python], TF_KERAS, "2.15.0") == ""
    assert told(tmp_path, [python], TF_KERAS, TF_USE_LEGACY_KERAS="1") == ""
    assert told(tmp_path, [python], TF_KERAS, TF_USE_LEGACY_KERAS="0") != ""
    # tensorflow.keras is tf_keras then, and keras is Keras 3 as before
    assert told(tmp_path, [python], KERAS_3 + OPTIMIZER, TF_USE_LEGACY_KERAS="1") != ""


@pytest.mark.parametrize("argv", [["apptainer", "exec", "image.sif", "python"], ["/nowhere/python3"], []])
def test_a_python_that_cannot_be_asked_is_said_to_be_unknown(argv: list[str], tmp_path: Path) -> None:
    assert "which Keras its Python has is not known: with Keras 3 it may" in told(tmp_path, argv, TF_KERAS)


def test_a_python_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "python3").chmod(0o755)
    monkeypatch.setattr(horovod_check, "_VERSION_SECONDS", 0.1)
    assert "is not known" in told(tmp_path, [str(tmp_path / "python3")], TF_KERAS)


def test_modules_beside_the_program_are_read_as_well(python: str, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "__init__.py").write_text("from .model import build\n")
    (parts / "model.py").write_text("from . import wrapped\nfrom parts import missing\n")
    (parts / "wrapped.py").write_text("import parts\n" + TF_KERAS)
    assert "wrapped.py:4 uses" in told(tmp_path, [python], "from parts import build\n")
    (parts / "checked.py").write_text("import slurm_tf.train\n")
    assert told(tmp_path, [python], "from parts import build, checked\n") == ""


def test_so_is_a_module_that_python_runs(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__main__.py").write_text("from package.inner import run\n")
    (package / "inner.py").write_text(TF_KERAS)
    monkeypatch.chdir(tmp_path)
    environ = {**os.environ, "KERAS": "3.1.0"}
    assert "inner.py:3 uses" in horovod_check.warning([python, "-m", "package", "--epochs", "2"], environ)
    assert "inner.py:3 uses" in horovod_check.warning([python, "-m", "package.inner"], environ)
    assert horovod_check.warning([python, "-m", "elsewhere"], environ) == ""
    assert horovod_check.warning(["true"], environ) == ""


@pytest.mark.slow
def test_a_job_says_it_once_and_runs(start_job: StartJob, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(TF_KERAS)
    arguments = ["ran", str(tmp_path / "program.py")]
    again = "[ $SLURM_TF_TASK != worker:1 ] || [ $SLURM_TF_RESTARTS = 1 ] || exit 3"
    job = start_job(f"echo $0; {again}", *arguments, strategy="horovod", horovod="gloo", max_restarts=1)
    assert job.wait() == 0, job.text
    assert job.text.count("slurm-tf: warning: program.py:3 uses Horovod's DistributedOptimizer") == 1
    assert "ran" in job.lines("worker:0")
    job = start_job("echo $0", *arguments, strategy="multi_worker")
    assert job.wait() == 0, job.text
    assert "DistributedOptimizer" not in job.text
