"""A version is served only if a process of its own has loaded and run it, and it is not worse than the served one."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slurm_tf.dataset import dataset_manifest
from slurm_tf.errors import FencedError, ModelError, StorageError
from slurm_tf.export import exporter, served_metric
from slurm_tf.export.exporter import Exported, Origin
from slurm_tf.models import model_versions, new_version, serving_file
from slurm_tf.models.model_manifest import TensorSpec
from slurm_tf.models.serving_file import Serving
from slurm_tf.run.train_settings import Better, ExportSettings
from slurm_tf.serve.protocol import serving_messages
from tests import forkserver
from tests.conftest import ROOT
from tests.dataset.test_dataset_manifest import MANIFEST
from tests.models.test_model_versions import MANIFEST as MODEL
from tests.models.test_model_versions import write_version

ANY = ExportSettings()


def export(saved: Path, base: Path, python: str, inputs: str = "", **metrics: float) -> Exported:
    origin = Origin("digits-1", "", "17.0", 400, metrics)
    return exporter.export(str(base), exporter.copy_of(str(saved)), origin, ANY, inputs=inputs, python=python)


def numbers(base: Path) -> list[int]:
    return [version.number for version in model_versions.versions(str(base))]


@pytest.mark.tensorflow
def test_a_version_is_checked_described_and_answers_as_the_model(
    saved_models: Path, tmp_path: Path, python: str
) -> None:
    import tensorflow as tf

    exported = export(saved_models / "doubled", tmp_path / "m", python, accuracy=0.9)
    assert exported == Exported(str(tmp_path / "m" / "1"), 1, "")
    manifest = model_versions.find(str(tmp_path / "m")).manifest
    assert manifest
    assert (manifest.run, manifest.attempt, manifest.step, manifest.metrics) == (
        "digits-1",
        "17.0",
        400,
        {"accuracy": 0.9},
    )
    assert manifest.versions["tensorflow"] == tf.__version__
    assert set(manifest.signatures) == {"serving_default", "length"}
    assert manifest.signatures["serving_default"].inputs == {"x": TensorSpec("float32", (None, 3))}
    assert manifest.signatures["length"].outputs == {"length": TensorSpec("int32", (None,))}
    assert "variables/variables.index" in manifest.files
    assert model_versions.damages(model_versions.find(str(tmp_path / "m"))) == []
    logs = [
        serving_messages.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(f"{exported.path}/assets.extra/tf_serving_warmup_requests")
    ]
    requests = {log.predict_log.request.model_spec.signature_name: log.predict_log.request for log in logs}
    assert requests.keys() == manifest.signatures.keys()
    assert requests["length"].model_spec.name == "m"
    assert tf.make_ndarray(requests["serving_default"].inputs["x"]).tolist() == [[0, 0, 0]]
    assert requests["length"].inputs["text"].string_val == [b""]
    loaded = tf.saved_model.load(exported.path)
    assert loaded.signatures["serving_default"](tf.constant([[1.0, 2, 3]]))["doubled"].numpy().tolist() == [[2, 4, 6]]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("saved", "inputs", "problem"),
    [
        ("without", {}, "it has no signature"),
        ("nan", {}, "has values that are NaN"),
        ("without-values", {}, "the signature serving_default fails in a session, as model servers run it: "),
        ("parse", {}, "its input was made up of empty texts: give real inputs to check it"),
        ("logarithm", {"x": -np.ones((2, 3))}, "the output y of the signature serving_default has values that are NaN"),
        ("doubled", {"z": np.ones(3)}, "the inputs to check are z; needed those of a signature: "),
        ("doubled", {"x": np.ones((2, 4))}, "the signature serving_default fails: "),
    ],
)
def test_a_version_that_fails_its_check_is_kept_aside(
    saved_models: Path, tmp_path: Path, python: str, saved: str, inputs: dict[str, object], problem: str
) -> None:
    np.savez(tmp_path / "inputs.npz", **inputs)  # type: ignore[arg-type]
    path = str(tmp_path / "inputs.npz") if inputs else ""
    exported = export(saved_models / saved, tmp_path / "m", python, path)
    assert problem in exported.rejected
    assert exported.path == str(tmp_path / "m" / ".rejected" / "1")
    assert os.path.exists(f"{exported.path}/saved_model.pb")
    assert numbers(tmp_path / "m") == []
    assert f"version 1 is kept aside in {exported.path}: " in exporter.words(exported)


@pytest.mark.tensorflow
def test_a_model_of_keras_with_signatures_has_its_values(saved_models: Path, tmp_path: Path, python: str) -> None:
    exported = export(saved_models / "keras", tmp_path / "m", python)
    assert (exported.rejected, exported.number) == ("", 1)


@pytest.mark.tensorflow
def test_old_versions_go_once_a_new_one_is_there(saved_models: Path, tmp_path: Path, python: str) -> None:
    base = tmp_path / "m"
    for _ in range(3):
        write_version(base)
    write, settings = exporter.copy_of(str(saved_models / "doubled")), ExportSettings(keep=1)
    exported = exporter.export(str(base), write, Origin(), settings, python=python)
    assert (exported.number, exported.removed, exported.not_removed) == (4, (1, 2), ())
    assert numbers(base) == [4, 3]


@pytest.mark.tensorflow
def test_real_inputs_check_what_made_up_ones_cannot(saved_models: Path, tmp_path: Path, python: str) -> None:
    import tensorflow as tf

    values = tf.train.FloatList(value=[1.0, 2, 3])
    example = tf.train.Example(features=tf.train.Features(feature={"x": tf.train.Feature(float_list=values)}))
    np.savez(tmp_path / "inputs.npz", examples=np.array([example.SerializeToString()]))
    exported = export(saved_models / "parse", tmp_path / "m", python, str(tmp_path / "inputs.npz"))
    assert exported.rejected == ""


@pytest.mark.tensorflow
def test_a_torn_model_and_hostile_inputs_are_one_problem_each(saved_models: Path, tmp_path: Path, python: str) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(saved_models / "doubled", torn)
    data = torn / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-20])
    assert "it cannot be loaded: " in export(torn, tmp_path / "m", python).rejected
    (torn / "saved_model.pb").write_bytes(b"\xff" * 40)
    assert "it cannot be loaded: " in export(torn, tmp_path / "m", python).rejected
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object))
    found = export(saved_models / "doubled", tmp_path / "m", python, str(tmp_path / "pickled.npz"))
    assert "pickled.npz, cannot be read: " in found.rejected
    assert numbers(tmp_path / "m") == []


@pytest.mark.tensorflow
def test_a_data_set_goes_along(saved_models: Path, tmp_path: Path, python: str) -> None:
    data_set = tmp_path / "clicks"
    (data_set / "assets").mkdir(parents=True)
    (data_set / "assets" / "country.vocab.txt").write_text("de\n")
    dataset_manifest.write(str(data_set), MANIFEST)
    write = exporter.copy_of(str(saved_models / "doubled"))
    exported = exporter.export(str(tmp_path / "m"), write, Origin(), ANY, [str(data_set)], python=python)
    inside = os.path.join(exported.path, exporter.DATA_SET)
    assert dataset_manifest.read(inside) == MANIFEST
    assert Path(inside, "assets", "country.vocab.txt").read_text() == "de\n"
    manifest = model_versions.find(str(tmp_path / "m")).manifest
    assert manifest
    assert "assets.extra/dataset/assets/country.vocab.txt" in manifest.files
    # a copy keeps it; another data set is refused
    other = tmp_path / "other"
    other.mkdir()
    dataset_manifest.write(str(other), replace(MANIFEST, assets={"country.vocab.txt": "ee"}))
    with pytest.raises(ModelError, match="found two data sets"):
        exporter.export(
            str(tmp_path / "n"), exporter.copy_of(exported.path), Origin(), ANY, [str(other)], python=python
        )
    assert os.listdir(tmp_path / "n") == []


def version_with(base: Path, **metrics: float) -> None:
    """Write a version without a check."""
    new = new_version.begin(str(base))
    Path(new.path, "saved_model.pb").write_bytes(b"")
    new.commit(replace(MODEL, metrics=metrics, files=dict(model_versions.digests(new.path))))


@pytest.mark.parametrize(
    ("mode", "metrics", "problem"),
    [
        (Better.MAX, {"accuracy": 0.95}, ""),
        (Better.MAX, {"accuracy": 0.9}, ""),
        (Better.MAX, {"accuracy": 0.8}, "its accuracy 0.8 is worse than 0.9 of version 1"),
        (Better.MIN, {"accuracy": 0.95}, "its accuracy 0.95 is worse than 0.9 of version 1"),
        (Better.MIN, {"accuracy": 0.8}, ""),
        (Better.MAX, {"accuracy": math.nan}, "its accuracy is nan; needed a number"),
        (Better.MAX, {"loss": 0.1}, "its accuracy is not known; needed a number, as [export] metric says; the program"),
    ],
)
def test_a_version_that_is_worse_or_unknown_is_not_served(
    tmp_path: Path, mode: Better, metrics: dict[str, float], problem: str
) -> None:
    version_with(tmp_path, accuracy=0.9)
    found = served_metric.problem(ExportSettings(metric="accuracy", mode=mode), metrics, str(tmp_path))
    assert found.startswith(problem)
    assert bool(found) == bool(problem)
    assert served_metric.problem(ANY, metrics, str(tmp_path)) == ""


def test_it_is_compared_with_the_version_that_is_served(tmp_path: Path) -> None:
    settings = ExportSettings(metric="accuracy")
    assert served_metric.problem(settings, {"accuracy": 0.1}, str(tmp_path)) == ""
    version_with(tmp_path, accuracy=0.9)
    version_with(tmp_path, loss=1.0)
    assert served_metric.problem(settings, {"accuracy": 0.1}, str(tmp_path)) == ""
    serving_file.write(str(tmp_path), Serving(promoted=1))
    assert "worse than 0.9 of version 1" in served_metric.problem(settings, {"accuracy": 0.1}, str(tmp_path))


def test_a_program_that_fails_or_is_fenced_leaves_nothing(saved_models: Path, tmp_path: Path, python: str) -> None:
    def fail(folder: str) -> None:
        Path(folder, "saved_model.pb").write_bytes(b"")
        raise OSError(28, "No space left on device", folder)

    with pytest.raises(StorageError, match="No space left"):
        exporter.export(str(tmp_path / "m"), fail, Origin(), ANY)

    def fence() -> None:
        raise FencedError("another attempt has taken over")

    write = exporter.copy_of(str(saved_models / "doubled"))
    with pytest.raises(FencedError):
        exporter.export(str(tmp_path / "m"), write, Origin(), ANY, python=python, fence=fence)
    assert os.listdir(tmp_path / "m") == []


def test_a_python_without_tensorflow_is_an_error_and_no_verdict(saved_models: Path, tmp_path: Path) -> None:
    write = exporter.copy_of(str(saved_models / "doubled"))
    for python, found in (("/nowhere/python", "No such file"), ("/usr/bin/python3", "has no TensorFlow")):
        if os.path.exists(python) or "nowhere" in python:
            with pytest.raises(ModelError, match=found):
                exporter.export(str(tmp_path / "m"), write, Origin(), ANY, python=python)
    assert os.listdir(tmp_path / "m") == []


@pytest.mark.tensorflow
def test_an_export_that_is_killed_leaves_nothing_that_is_seen(saved_models: Path, tmp_path: Path, python: str) -> None:
    code = (
        "import sys\nfrom slurm_tf.export import exporter\nfrom slurm_tf.run.train_settings import ExportSettings\n"
        "exporter.export(sys.argv[1], exporter.copy_of(sys.argv[2]), exporter.Origin(), ExportSettings(), "
        "python=sys.argv[3])\nprint('done')"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "m"), str(saved_models / "doubled"), python]
    environ = {**os.environ, **forkserver.VARIABLES}

    def begun(seconds: float) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=subprocess.PIPE, start_new_session=True)
        time.sleep(seconds)
        return process

    started = time.monotonic()
    assert b"done" in begun(0).communicate(timeout=60)[0]
    whole = time.monotonic() - started
    for share in (0.5, 0.8):
        process = begun(whole * share)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
        found = model_versions.versions(str(tmp_path / "m"))
        assert all(model_versions.damages(version) == [] for version in found)
    last = export(saved_models / "doubled", tmp_path / "m", python)
    assert last.rejected == ""
    assert model_versions.find(str(tmp_path / "m")).number == last.number
