"""`model.fit` under our strategies: one callback, and a model prepared for its tasks. Keras 3, or tf_keras."""

import contextlib
import sys
import time
import warnings
from typing import Any, Callable, Dict, List, Optional

from slurm_tf.errors import UsageError
from slurm_tf.train.checkpoint import local_state
from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.collectives import allreduce, replica_check
from slurm_tf.train.data import padding
from slurm_tf.train.data.batches import Batches
from slurm_tf.train.keras import keras_2, keras_3

_REPORT_SECONDS = 5.0


def prepare(model: Any, collective: allreduce.Collective, batches: List[Batches], accumulate: int) -> None:
    """Make a compiled and built model reduce over the tasks, and leave out the padding of `batches`.

    Its optimizer applies the mean gradient of each `accumulate` steps. Raises UsageError.
    """
    keras = _keras(model)
    kind = _kind(keras)
    if getattr(model, "optimizer", None) is None or not model.built:
        raise UsageError(
            "the model is not compiled, or has no variables yet",
            "model.compile(...) and known input shapes before run.callbacks(model)",
            "begin the model with keras.Input, or call model.build(shape)",
        )
    kind.accumulate(model.optimizer, accumulate)
    # fit shuffles arrays of its own; ours are in the order of the run already (Keras 3.15)
    warnings.filterwarnings("ignore", message="`shuffle=True` was passed", category=UserWarning)
    kind.build(model)
    left_out = padding.Padding(batches, collective)
    left_out.cut_off(model, kind)
    kind.average(model, collective, left_out)
    if collective.size == 1:
        return
    steps = kind.steps_per_execution(model)
    if steps != 1:
        # TensorFlow cannot run a reduction in the branch that Keras puts each further step in (2.21)
        raise UsageError(f"found steps_per_execution={steps} on {collective.size} tasks", "1, the default")
    # XLA, which Keras chooses by itself on GPUs, cannot compile a reduction between processes
    model.jit_compile = False
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
            kind.synchronize(layer, collective, left_out)


def _keras(model: Any) -> Any:
    """Return the library that `model` is of; none is imported for it. Raises UsageError."""
    for name in ("keras", "tf_keras"):
        library = sys.modules.get(name)
        if library is not None and isinstance(model, library.Model):
            return library
    raise UsageError(f"found a {type(model).__name__}", "a model of Keras 3 or tf_keras")


def _kind(keras: Any) -> Any:
    return keras_3 if int(keras.__version__.partition(".")[0]) >= 3 else keras_2


def callback(model: Any, *arguments: Any) -> Any:
    """Return a `FitCallback` for `model`, with these arguments."""
    keras = _keras(model)
    return type("FitCallback", (FitCallback, keras.callbacks.Callback), {})(_kind(keras), *arguments)


class FitCallback:
    """Goes on at the step of the checkpoint, has it saved, averages what only one task has seen, reports."""

    params: Dict[str, Any]
    model: Any

    def __init__(
        self,
        kind: Any,
        collective: allreduce.Collective,
        batches: List[Batches],
        boundary: StepBoundary,
        report: Callable[..., None],
    ) -> None:
        super().__init__()
        self._kind = kind
        self._collective, self._batches, self._boundary, self._report = collective, batches, boundary, report
        self._epoch_start = boundary.step
        self._check = replica_check.ReplicaCheck(collective, lambda: self.model.trainable_variables)
        self._reported = time.monotonic()
        self._pause = contextlib.ExitStack()
        self._trains = False

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Go on in the epoch of the first step."""
        self._kind.begin(self.model, self._boundary.step // self._steps_per_epoch)
        self._place_data()
        self._trains = True
        self._boundary.phase("compile")

    def on_epoch_begin(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Start the data at the step."""
        self._epoch_start = self._boundary.step
        self._place_data()

    def on_train_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Count, save when due, and stop at the last step: a resumed epoch starts in the middle of one."""
        step = self._epoch_start + batch + 1
        self._check.step()
        if step % self._steps_per_epoch == 0 and self._collective.size > 1:
            # what training left different: moving statistics of each task's samples
            allreduce.average_floats(self._collective, local_state.variables([self.model], self._collective.size))
        if step >= self._last_step:
            self.model.stop_training = True
        self._boundary.reached(step)
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._say(logs)

    def on_test_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Pause training for its validation."""
        if self._trains:
            self._pause.enter_context(self._boundary.pause())

    def on_test_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """End if training has been saved and is to end."""
        self._boundary.end_if_told()

    def on_test_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Go on."""
        self._pause.close()

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Average the epoch's metrics."""
        if self._collective.size > 1:
            names = sorted(logs or {})
            seen = padding.samples_seen(self._batches, self._epoch_start, self._boundary.step)
            *sums, total = self._collective.sum([seen * float((logs or {})[name]) for name in names] + [seen])
            for name, each in zip(names, sums):
                (logs or {})[name] = float(each / total)
        self._say(logs, epoch=f"{epoch + 1}/{self.params['epochs']}")
        # tf_keras takes the next epoch's iterator before it says that the epoch begins
        self._place_data()

    def on_train_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Write the last checkpoint and see it on storage."""
        self._trains = False
        self._boundary.reached(self._boundary.step, last=True)

    def _place_data(self) -> None:
        for batches in self._batches:
            batches.step = self._boundary.step

    @property
    def _steps_per_epoch(self) -> int:
        steps = self.params.get("steps") or (self._batches[-1].steps_per_epoch if self._batches else None)
        if not steps:
            raise UsageError("the length of an epoch is not known", "run.batches(...), or steps_per_epoch=... for fit")
        return int(steps)

    @property
    def _last_step(self) -> int:
        return self._steps_per_epoch * int(self.params["epochs"])

    def _say(self, logs: Optional[Dict[str, Any]], **more: Any) -> None:
        self._reported = time.monotonic()
        self._report(
            self._boundary.step,
            self._last_step,
            **more,
            **{name: float(value) for name, value in (logs or {}).items()},
        )
