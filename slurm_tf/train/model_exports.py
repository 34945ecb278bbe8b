"""Exports the model that a program trains as versions: at the end of training, and every so often while it trains."""

import inspect
import os
import tempfile
import threading
import time
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import tensorflow as tf

from slurm_tf.errors import ModelError, SlurmTfError
from slurm_tf.export import exporter
from slurm_tf.export.exporter import Exported, Origin
from slurm_tf.models.new_version import NewVersion
from slurm_tf.run import checkpoint_folder
from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.keras import image_bytes
from slurm_tf.train.keras.model_files import OUTSIDE_OF_A_RUN
from slurm_tf.train.progress_reports import ProgressReports
from slurm_tf.train.task_context import TaskContext
from slurm_tf.train.train_log import log


class ModelExports:
    """The exports of one task, of which one, the chief, writes. `fence` raises once another attempt has the run."""

    def __init__(
        self,
        task: TaskContext,
        is_writer: bool,
        fence: checkpoint_folder.Fence,
        boundary: StepBoundary,
        progress: ProgressReports,
    ) -> None:
        """`boundary` knows the step, `progress` the metrics that were reported."""
        self._boundary, self._progress = boundary, progress
        self._task, self._settings, self._is_writer, self._fence = task, task.settings.export, is_writer, fence
        self._base = self._settings.to or task.export_folder or OUTSIDE_OF_A_RUN
        self._data_sets: List[str] = []
        self._last = time.monotonic()
        self._thread: Optional[threading.Thread] = None

    def add_data_set(self, folder: str) -> None:
        """Have each version take the schema and the assets of a prepared data set with it."""
        if os.path.abspath(folder) not in self._data_sets:
            self._data_sets.append(os.path.abspath(folder))

    def export(
        self,
        model: Any,
        metrics: Optional[Mapping[str, float]],
        signatures: Any,
        max_pixel: Optional[float],
        inputs: Mapping[str, Any],
        in_background: bool,
    ) -> str:
        """Export `model`; return the version's path, "" for none. `metrics`: None for those that were reported.

        `in_background`: only if the time between two exports is over; the check is done while training goes on, and an
        error is logged. `max_pixel`: see keras/image_bytes.py, None for what is no model of images. Raises ModelError
        and StorageError. Raises SystemExit if this program was started to export a checkpoint.
        """
        if not self._is_writer or (in_background and not self._is_due()):
            return ""
        if self._task.export_step is not None:
            self._export_checkpoint(model, signatures, max_pixel)
        self.wait()
        self._last = time.monotonic()
        new = exporter.begin(self._base, lambda folder: save(model, folder, signatures, max_pixel))
        run = self._task.run_folder
        values = _numbers(self._progress.values if metrics is None else metrics)
        origin = Origin(os.path.basename(run), run, self._task.attempt, self._boundary.step, values)
        if not in_background:
            return self._finish(new, origin, inputs).path
        self._thread = threading.Thread(target=self._finish_quietly, args=(new, origin, dict(inputs)))
        self._thread.start()
        return ""

    def export_if_due(self, model: Any, max_pixel: Optional[float]) -> None:
        """Export `model` in the background if the time between two exports is over."""
        self.export(model, metrics=None, signatures=None, max_pixel=max_pixel, inputs={}, in_background=True)

    def wait(self) -> None:
        """Wait until the check of the last export has ended."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _is_due(self) -> bool:
        every = self._settings.every
        return every is not None and time.monotonic() - self._last >= every

    def _export_checkpoint(self, model: Any, signatures: Any, max_pixel: Optional[float]) -> None:
        """Write the model to where `slurm-tf export` expects it, which checks it. Raises SystemExit."""
        save(model, self._task.export_folder, signatures, max_pixel)
        for each in self._data_sets:
            exporter.add_data_set(each, self._task.export_folder)
        raise SystemExit(0)

    def _finish(self, new: NewVersion, origin: Origin, inputs: Mapping[str, Any]) -> Exported:
        with tempfile.TemporaryDirectory(prefix="slurm-tf-export-") as folder:
            path = ""
            if inputs:
                path = os.path.join(folder, "inputs.npz")
                arrays: Dict[str, Any] = {name: np.asarray(each) for name, each in inputs.items()}
                np.savez(path, **arrays)
            exported = exporter.finish(new, origin, self._settings, self._data_sets, path, fence=self._fence)
        log(exporter.words(exported))
        return exported

    def _finish_quietly(self, new: NewVersion, origin: Origin, inputs: Mapping[str, Any]) -> None:
        try:
            self._finish(new, origin, inputs)
        except SlurmTfError as error:
            log(f"the model of step {origin.step} was not exported: {error}")


def save(model: Any, folder: str, signatures: Any = None, max_pixel: Optional[float] = None) -> None:
    """Write a SavedModel into a folder that exists. Raises ModelError."""
    if max_pixel is not None and signatures is not None:
        raise ModelError("found signatures and max_pixel", "one of them, as max_pixel makes signatures")
    if max_pixel is not None:
        image_bytes.save(model, folder, max_pixel)
        return
    export = getattr(type(model), "export", None)
    if export is None or signatures is not None:
        tf.saved_model.save(_with_values(model), folder, signatures=signatures)
        return
    export = getattr(export, "unwrapped", export)  # see keras/one_task.py: only one task is here
    quiet = {"verbose": False} if "verbose" in inspect.signature(export).parameters else {}
    export(model, folder, **quiet)


def _with_values(model: Any) -> Any:
    """Return what TensorFlow saves of a model with its values.

    The variables of Keras 3 are not TensorFlow's: those inside of them are restored by Python alone, and a session, as
    model servers have one, finds none (Keras 3.12, TensorFlow 2.21).
    """
    wrapped = [variable for variable in getattr(model, "variables", ()) if not isinstance(variable, tf.Variable)]
    if not wrapped:
        return model
    whole = tf.Module()
    whole.model, whole.values = model, [variable.value for variable in wrapped]
    return whole


def _numbers(metrics: Mapping[str, Any]) -> Mapping[str, float]:
    return {str(name): float(value) for name, value in metrics.items()}
