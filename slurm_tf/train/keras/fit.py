"""Prepares a model of Keras 3 or tf_keras for `model.fit` with slurm_tf.train, and has the callback for it."""

import contextlib
import sys
import time
from typing import Any, Callable, Dict, List, Optional

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.run.program_messages import Phase
from slurm_tf.train.checkpoint import local_state
from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.collectives import allreduce, replica_check
from slurm_tf.train.data.batches import Batches
from slurm_tf.train.data.passes import Passes
from slurm_tf.train.keras import keras_2, keras_3
from slurm_tf.train.keras.padding import Padding, samples_in_metrics

_REPORT_SECONDS = 5.0


def prepare(
    model: Any, collective: allreduce.Collective, batches: List[Batches], accumulate: int, inputs: Optional[Any] = None
) -> None:
    """Make a compiled model average over the tasks, and leave out the padding of `batches`.

    A model without variables is built for `inputs`, a structure of tf.TensorSpec; None: these are not known. Its
    optimizer applies the mean gradient of each `accumulate` steps. Raises UsageError.
    """
    keras = library_of(model)
    adapter = _adapter(keras)
    if getattr(model, "optimizer", None) is None:
        raise UsageError("the model is not compiled", "model.compile(...) before run.callbacks(model)")
    if not model.built:
        _build(model, keras, inputs)
    adapter.accumulate(model.optimizer, accumulate)
    adapter.quiet()
    adapter.build_optimizer(model)
    padding = Padding(batches, collective)
    padding.remove_in(model, adapter)
    adapter.scale_and_average(model, collective, padding)
    if collective.size == 1:
        return
    steps = adapter.steps_per_execution(model)
    if steps != 1:
        # Keras runs each further step in a conditional branch, in which TensorFlow cannot run a reduction (2.21).
        raise UsageError(f"found steps_per_execution={steps} on {collective.size} tasks", "1, the default")
    # XLA, which Keras chooses by itself on GPUs, cannot compile a reduction between processes.
    model.jit_compile = False
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
            adapter.synchronize_statistics(layer, collective, padding)


def _build(model: Any, keras: Any, inputs: Optional[Any]) -> None:
    """Create the variables of a model that does not begin with keras.Input. Raises UsageError."""
    if inputs is None:
        raise UsageError(
            "the model has no variables yet, and the shape of its input is not known",
            "run.batches(...) or run.dataset(...) before run.callbacks(model)",
            "or begin the model with keras.Input",
        )
    model(tf.nest.map_structure(lambda each: keras.Input(each.shape[1:], dtype=each.dtype.name), inputs))


def library_of(model: Any) -> Any:
    """Return the library, keras or tf_keras, that `model` is of, without importing either. Raises UsageError."""
    for name in ("keras", "tf_keras"):
        library = sys.modules.get(name)
        if library is not None and isinstance(model, library.Model):
            return library
    raise UsageError(f"found a {type(model).__name__}", "a model of Keras 3 or tf_keras")


def _adapter(keras: Any) -> Any:
    return keras_3 if int(keras.__version__.partition(".")[0]) >= 3 else keras_2


def callback(model: Any, *arguments: Any) -> Any:
    """Return a `FitCallback` for `model` with these arguments, of the Callback class of the model's library."""
    keras = library_of(model)
    return type("FitCallback", (FitCallback, keras.callbacks.Callback), {})(_adapter(keras), *arguments)


class FitCallback:
    """Continues `fit` at the step of the checkpoint, saves, averages statistics and metrics over tasks, and reports."""

    params: Dict[str, Any]
    model: Any

    def __init__(
        self,
        adapter: Any,
        collective: allreduce.Collective,
        batches: List[Batches],
        boundary: StepBoundary,
        report: Callable[..., None],
        check_data: Callable[[], None],
        after_epoch: Callable[[], None],
        trains: bool,
        passes: Optional[Passes] = None,
    ) -> None:
        """`check_data` is called before the last step of an epoch is saved, `after_epoch` once the epoch was reported.

        `trains`: whether `fit` is to do any step. `passes`: of a data set of the program's own.
        """
        super().__init__()
        self._adapter = adapter
        self._collective, self._batches, self._boundary, self._report = collective, batches, boundary, report
        self._check_data, self._after_epoch, self._trains = check_data, after_epoch, trains
        self._passes = passes
        if passes:
            passes.remember()
        self._epoch_start = boundary.step
        self._check = replica_check.ReplicaCheck(collective, lambda: self.model.trainable_variables)
        self._reported_at = time.monotonic()
        self._pause = contextlib.ExitStack()
        self._is_training = False

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Start in the epoch of the first step."""
        if not self._trains:
            self._adapter.set_initial_epoch(self.model, int(self.params["epochs"]))
            return
        self._adapter.set_initial_epoch(self.model, self._boundary.step // self._steps_per_epoch)
        self._set_data_position()
        if self._passes:
            self._passes.begin()
        self._is_training = True
        self._boundary.enter_phase(Phase.COMPILE)

    def on_epoch_begin(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Start the data at the current step."""
        self._epoch_start = self._boundary.step
        self._set_data_position()

    def on_train_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Count the step, save when due, and stop at the last step, as a resumed run may start within an epoch."""
        step = self._epoch_start + batch + 1
        self._check.after_step()
        if step % self._steps_per_epoch == 0:
            self._end_epoch()
        if step >= self._last_step:
            self.model.stop_training = True
        self._boundary.after_step(step)
        if time.monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._report_progress(logs, is_epoch=False, bar_is_drawn=batch > 0)

    def _end_epoch(self) -> None:
        """See to the data and to the variables before the last step of an epoch is saved."""
        # Keras reads as many batches as it knows of, and so not the end of a data set, which would be an error
        self._check_data()
        if self._collective.size > 1:
            # moving statistics, which each task has computed from its own samples
            allreduce.average_floats(self._collective, local_state.variables([self.model], self._collective.size))

    def on_test_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Pause training for its validation."""
        if self._is_training:
            self._pause.enter_context(self._boundary.pause())

    def on_test_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Exit if training was saved and the agent has told this program to exit."""
        self._boundary.exit_if_requested()

    def on_test_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """End the pause."""
        self._pause.close()

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Average the epoch's metrics over the tasks, by their numbers of samples."""
        if self._collective.size > 1:
            names = sorted(logs or {})
            samples = samples_in_metrics(self._batches, self._epoch_start, self._boundary.step)
            *sums, total = self._collective.sum([samples * float((logs or {})[name]) for name in names] + [samples])
            for name, each in zip(names, sums):
                (logs or {})[name] = float(each / total)
        self._report_progress(logs, is_epoch=True, bar_is_drawn=True, epoch=f"{epoch + 1}/{self.params['epochs']}")
        self._after_epoch()
        # tf_keras takes the next epoch's iterator before it calls on_epoch_begin
        self._set_data_position()

    def on_train_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Save the last checkpoint and wait until it is on storage."""
        if not self._trains:
            return
        self._is_training = False
        self._boundary.after_step(self._boundary.step, last=True)
        if self._collective.size > 1:
            # what callbacks of rank 0 have saved is there when `fit` returns: the program may read it in every task
            self._collective.sum([tf.constant(0.0)])

    def _set_data_position(self) -> None:
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

    def _report_progress(self, logs: Optional[Dict[str, Any]], is_epoch: bool, bar_is_drawn: bool, **more: Any) -> None:
        self._reported_at = time.monotonic()
        self._report(
            self._boundary.step,
            self._last_step,
            is_epoch,
            bar_is_drawn and self.params.get("verbose") in ("auto", 1),
            **more,
            **{name: float(value) for name, value in (logs or {}).items()},
        )
