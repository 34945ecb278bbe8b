"""`model.fit` of Keras 3 under our strategies: one callback, and a model prepared for its tasks."""

import contextlib
import time
import warnings
from typing import Any, Callable, Dict, List, Optional

import keras

from slurm_tf.errors import UsageError
from slurm_tf.train import allreduce, own, padding, replicas
from slurm_tf.train.batches import Batches
from slurm_tf.train.boundary import Boundary

_REPORT_SECONDS = 5.0


def prepare(model: Any, collective: allreduce.Collective, batches: List[Batches]) -> None:
    """Make a compiled and built Keras 3 model reduce over the tasks, and leave out the padding of `batches`."""
    if not isinstance(model, keras.Model):
        raise UsageError(f"found a {type(model).__name__}", "a model of Keras 3")
    if model.optimizer is None or not model.built:
        raise UsageError(
            "the model is not compiled, or has no variables yet",
            "model.compile(...) and known input shapes before run.callbacks(model)",
            "begin the model with keras.Input, or call model.build(shape)",
        )
    # fit shuffles arrays of its own; ours are in the order of the run already (Keras 3.15)
    warnings.filterwarnings("ignore", message="`shuffle=True` was passed", category=UserWarning)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    left_out = padding.Padding(batches, collective)
    left_out.cut_off(model)
    if collective.size == 1:
        return
    if model.steps_per_execution > 1:
        # TensorFlow cannot run a reduction in the branch that Keras puts each further step in (2.21)
        raise UsageError(
            f"found steps_per_execution={model.steps_per_execution} on {collective.size} tasks", "1, the default"
        )
    # XLA, which Keras chooses by itself on GPUs, cannot compile a reduction between processes
    model.jit_compile = False
    allreduce.averaging(model.optimizer, collective)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
            allreduce.synchronize(layer, collective, lambda: left_out.share)


def accumulate(model: Any, steps: int) -> None:
    """Have the optimizer of `model` apply the mean gradient of each `steps` steps. Raises UsageError."""
    # with mixed precision Keras puts one optimizer into another, which accumulates
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if steps == 1 or optimizer is None or optimizer.gradient_accumulation_steps == steps:
        return
    if optimizer.gradient_accumulation_steps or optimizer.built:
        raise UsageError(
            f"found train.accumulate={steps} and an optimizer that is built, or accumulates by itself",
            "one that model.compile(...) has just been given",
        )
    optimizer.gradient_accumulation_steps = steps


class FitCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Goes on at the step of the checkpoint, has it saved, averages what only one task has seen, reports."""

    def __init__(
        self,
        collective: allreduce.Collective,
        batches: List[Batches],
        boundary: Boundary,
        report: Callable[..., None],
    ) -> None:
        super().__init__()
        self._collective, self._batches, self._boundary, self._report = collective, batches, boundary, report
        self._epoch_start = boundary.step
        self._check = replicas.Check(collective, lambda: self.model.trainable_variables)
        self._reported = time.monotonic()
        self._pause = contextlib.ExitStack()
        self._trains = False

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Go on in the epoch of the first step, as keras.callbacks.BackupAndRestore does it."""
        self.model._initial_epoch = self._boundary.step // self._steps_per_epoch
        self._trains = True
        self._boundary.phase("compile")

    def on_epoch_begin(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Start the data at the step."""
        self._epoch_start = self._boundary.step
        for batches in self._batches:
            batches.step = self._boundary.step

    def on_train_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Count, save when due, and stop at the last step: a resumed epoch starts in the middle of one."""
        step = self._epoch_start + batch + 1
        self._check.step()
        if step % self._steps_per_epoch == 0 and self._collective.size > 1:
            # what training left different: moving statistics of each task's samples
            allreduce.average_floats(self._collective, own.variables([self.model], self._collective.size))
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

    def on_train_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Write the last checkpoint and see it on storage."""
        self._trains = False
        self._boundary.reached(self._boundary.step, last=True)

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
