"""Warnings of programs that go wrong: what is seen in sources, and what stays unsaid."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from slurm_tf.launch.agent import program_python, program_sources, program_warnings
from slurm_tf.run.settings import RoleSettings
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


def warnings(strategy: str, argv: list[str], more: dict[str, str]) -> list[str]:
    """Return the warnings of a program on this node; `more`: what it gets beside this process's variables."""
    environ = {**os.environ, **more}
    return program_warnings.of_program(strategy, argv, environ, partial(program_python.ask, argv, environ))


def told(
    folder: Path, argv: list[str], source: str, keras: str = "3.15.1", strategy: str = "horovod", **environ: str
) -> str:
    """Return the warnings of a program; `environ` is what it gets beside KERAS."""
    (folder / "program.py").write_text(source)
    return "\n".join(warnings(strategy, [*argv, str(folder / "program.py")], {"KERAS": keras, **environ}))


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
    monkeypatch.setattr(program_python, "_SECONDS", 0.1)
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
    environ = {"KERAS": "3.1.0"}
    for words in (["package", "--epochs", "2"], ["package.inner"]):
        (warning,) = warnings("horovod", [python, "-m", *words], environ)
        assert "inner.py:3 uses" in warning
    assert warnings("horovod", [python, "-m", "elsewhere"], environ) == []
    assert warnings("horovod", ["true"], environ) == []


TWO = json.dumps({"cluster": {"worker": ["n1:1", "n2:1"]}})
ONE = json.dumps({"cluster": {"worker": ["n1:1"]}})
# The multi-worker tutorial of TensorFlow, in short.
FIT = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = tf.keras.Sequential()
    model.compile("sgd", "mse")
model.fit(data)
"""


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", "program.py:7 calls fit, program.py:3 uses MultiWorkerMirroredStrategy, and its Python has Keras 3.1"),
        ("fit", "evaluate", "program.py:7 calls evaluate, program.py:3 uses MultiWorkerMirroredStrategy"),
        ("distribute.Multi", "distribute.experimental.Multi", "program.py:3 uses MultiWorkerMirroredStrategy"),
        ("MultiWorkerMirroredStrategy()", "ParameterServerStrategy(r)", "program.py:3 uses ParameterServerStrategy"),
        ("tf.keras", "keras", "program.py:7 calls fit"),
    ],
)
def test_fit_of_keras_3_under_a_strategy_of_several_processes(
    old: str, new: str, found: str, python: str, tmp_path: Path
) -> None:
    source = FIT.replace(old, new) if old else FIT
    if new == "keras":
        source = "import keras" + source
    text = told(tmp_path, [python], source, strategy="multi_worker", TF_CONFIG=TWO)
    assert text.startswith("warning: ")
    assert found in text
    assert "TF_USE_LEGACY_KERAS=1 in [env], with tf_keras" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model.fit(data)", "scaler.transform(data)"),
        ('model.compile("sgd", "mse")', 're.compile("x")'),  # a scaler's fit: no model is compiled
        ("MultiWorkerMirroredStrategy", "MirroredStrategy"),
        ("tf.keras.Sequential()", "make()"),  # no Keras
        ("import tensorflow as tf", "import slurm_tf.train, tensorflow as tf"),
        ("import tensorflow as tf", "import os, tensorflow as tf; os.environ['TF_USE_LEGACY_KERAS'] = '1'"),
        ("tf.keras", "tf_keras"),
    ],
)
def test_what_fits_stays_unsaid(old: str, new: str, python: str, tmp_path: Path) -> None:
    assert old in FIT
    source = "import re, tf_keras" + FIT if "tf_keras" in new else "import re" + FIT
    assert told(tmp_path, [python], source.replace(old, new), strategy="multi_worker", TF_CONFIG=TWO) == ""


def test_fit_with_tf_keras_by_the_environment_or_in_one_process_stays_unsaid(python: str, tmp_path: Path) -> None:
    assert told(tmp_path, [python], FIT, strategy="multi_worker", TF_CONFIG=TWO, TF_USE_LEGACY_KERAS="1") == ""
    assert told(tmp_path, [python], FIT, "2.15.0", "multi_worker", TF_CONFIG=TWO) == ""
    assert told(tmp_path, [python], FIT, strategy="multi_worker", TF_CONFIG=ONE) == ""
    assert told(tmp_path, [python], FIT, strategy="single") == ""


def test_the_resolver_that_divides_gpus_again(python: str, tmp_path: Path) -> None:
    source = "from tensorflow.distribute import cluster_resolver as c\nc.SlurmClusterResolver(gpus_per_node=4)\n"
    text = told(tmp_path, [python], source, strategy="ps", TF_CONFIG=TWO)
    assert text.startswith(
        "warning: program.py:2 uses SlurmClusterResolver, which divides the GPUs of this task once more"
    )
    assert "needed tf.distribute.cluster_resolver.TFConfigClusterResolver(), which reads the TF_CONFIG" in text
    assert told(tmp_path, [python], source, strategy="single") == "", "a cluster of one task is all that there is"
    assert told(tmp_path, [python], source.replace("Slurm", "TFConfig"), strategy="ps", TF_CONFIG=TWO) == ""


def test_of_very_many_modules_not_all_are_read(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(TF_KERAS)
    first = "import model\n"
    assert "model.py:3 uses" in told(tmp_path, [python], first)
    monkeypatch.setattr(program_sources, "_MAX_BYTES", len(first))
    assert told(tmp_path, [python], first) == ""


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


@pytest.mark.slow
def test_each_program_of_a_job_is_looked_at_once(start_job: StartJob, tmp_path: Path) -> None:
    for name in ("train", "serve"):
        (tmp_path / f"{name}.py").write_text(
            "import tensorflow.distribute as d\nd.cluster_resolver.SlurmClusterResolver()"
        )
    own = ("sh", "-c", "sleep 60", str(tmp_path / "serve.py"))
    roles = (RoleSettings("chief", 1), RoleSettings("worker", 2), RoleSettings("ps", 2, command=own))
    # the chief ends first, as it does under ps
    trains = "case $SLURM_TF_TASK in chief*) ;; *) exec sleep 60;; esac"
    job = start_job(trains, str(tmp_path / "train.py"), strategy="ps", roles=roles)
    assert job.wait() == 0, job.text
    for name in ("train", "serve"):
        assert job.text.count(f"slurm-tf: warning: {name}.py:2 uses SlurmClusterResolver") == 1, job.text
