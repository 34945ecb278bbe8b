"""Removes the padding of a batch before a Keras model's train_step, whatever the model does with its samples.

Each task, and each replica of MirroredStrategy, cuts the samples of weight 0 off its part. The parts then differ in
length, so each counts in the loss and the metrics by its number of samples. Losses of any kind, penalties on weights or
activations, and statistics of batches are those of one process on the real samples; weights of 0 alone would not do
that.
"""

import threading
from typing import Any, Callable, Dict, List, Optional

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.data.batches import Batches


class Padding:
    """Removes the padding in the steps of one model.

    `share`: the number of samples of this part, divided by the mean of all parts; None where all parts are equal. It is
    a tensor of the step that is being traced, which each replica does in a thread of its own.
    """

    def __init__(self, batches: List[Batches], collective: allreduce.Collective) -> None:
        """`batches`: the run's list of data sets, to which the program may add the model's data set later."""
        self._all = batches
        self._collective = collective
        self._step = threading.local()

    @property
    def share(self) -> Optional[tf.Tensor]:
        """Return the share of this part in the gradients of the step."""
        return getattr(self._step, "share", None)

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Return the loss of this part in the step that is being traced, times its share."""
        self._step.has_scaled_loss = True
        return loss if self.share is None else loss * tf.cast(self.share, loss.dtype)

    def remove_in(self, model: Any, adapter: Any) -> None:
        """Have the train_step of `model` get batches without padding and without the weights that mark it.

        `adapter`: the module keras_2 or keras_3. The step raises UsageError where it cannot be right.
        """
        train_step = getattr(model.train_step, "unwrapped", model.train_step)

        def without_padding(data: Any) -> Any:
            batches = self._current_batches()
            if batches is None:
                return train_step(data)
            *values, weight = data
            if not batches.has_weights:
                adapter.check_class_weight(weight)
            if batches.remainder:
                values, weight = self._cut(batches, values, weight)
            values += [weight] if batches.has_weights else []
            step_data = tuple(values) if len(values) > 1 else values[0]
            self._step.has_scaled_loss = False
            if 0 < batches.remainder < batches.pieces:
                logs = self._keep_metrics_if_empty(model, lambda: train_step(step_data))
            else:
                logs = train_step(step_data)
            if batches.remainder and batches.pieces > 1 and not self._step.has_scaled_loss:
                raise UsageError(
                    f"found {batches.remainder} samples left for the last batch of an epoch, and a train_step that "
                    "does not scale its loss",
                    f"{adapter.SCALE_LOSS} in it, as Keras' own train_step has",
                    f"or {batches.batch_size} x N samples",
                )
            return logs

        without_padding.unwrapped = train_step  # type: ignore[attr-defined]
        model.train_step, model.train_function = without_padding, None
        if self._all and self._all[-1].remainder:
            # XLA needs all shapes when it compiles
            model.jit_compile = False

    def _current_batches(self) -> Optional[Batches]:
        if len({(each.has_weights, each.batch_size, each.samples) for each in self._all}) > 1:
            raise UsageError(
                "found several run.batches(...) that differ",
                "one, which the model is trained on",
                "give validation data as arrays, or with run.dataset(...)",
            )
        newest = self._all[-1] if self._all else None
        if newest and newest.pieces > self._collective.size and 0 < newest.remainder < newest.pieces:
            # a replica without samples would count in BatchNormalization(synchronized=True), which is Keras' own here
            raise UsageError(
                f"found {newest.remainder} samples left for the last batch of an epoch, on {newest.pieces} replicas",
                "at least one a replica",
                "choose another batch_size",
            )
        return newest

    def _cut(self, batches: Batches, values: List[Any], weight: tf.Tensor) -> Any:
        """Return the values and weights of the real samples; set `share`."""
        per_sample = tf.reshape(weight, [tf.shape(weight)[0], -1])
        real = tf.math.count_nonzero(tf.reduce_any(per_sample != 0, axis=1), dtype=tf.int32)
        # A step on an empty batch would leave NaN in moving statistics, so one sample is kept; its share is 0.
        length = tf.maximum(real, 1)
        values = [tf.nest.map_structure(lambda tensor: tensor[:length], value) for value in values]
        share = tf.cast(real, tf.float32) * batches.pieces
        if batches.has_weights:
            # the total cannot be computed from weights that the program's own are multiplied into
            (total,) = self._collective.sum([tf.cast(real, tf.float32)])
            weight = weight[:length] * tf.cast(total / batches.batch_size, weight.dtype)
        else:
            # each real sample has the weight batch_size / total, see Batches
            total = batches.batch_size / tf.maximum(tf.reduce_max(weight), 1.0)
        self._step.share = share / total
        return values, weight

    def _keep_metrics_if_empty(self, model: Any, train_step: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        """Run a step whose part may be padding alone; in that case the metrics keep their values."""
        if not getattr(getattr(model, "compiled_loss", None), "built", True):
            # tf_keras creates its metrics in the first step, so that one is traced before
            tf.function(train_step).get_concrete_function()
        variables = [tf_variable(variable) for metric in model.metrics for variable in metric.variables]
        before = [tf.identity(variable) for variable in variables]
        logs = train_step()
        for variable, value in zip(variables, before):
            variable.assign(tf.where(self._step.share > 0, variable, value))
        return model.get_metrics_result() if set(logs) == {metric.name for metric in model.metrics} else logs


def tf_variable(variable: Any) -> tf.Variable:
    """Return the TensorFlow variable that a Keras 3 variable holds, or a TensorFlow variable itself."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def samples_in_metrics(batches: List[Batches], first: int, end: int) -> float:
    """Return the weight of this task's metrics of the steps from `first` to before `end`.

    It is the number of samples, or the number of steps where no `batches` are known.
    """
    return float(batches[-1].real_samples(first, end)) if batches else float(end - first)
