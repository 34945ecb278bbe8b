"""A Keras model's step on a padded batch: as if there were no padding, whatever the model does with its samples.

Each task, and each replica of MirroredStrategy, cuts the samples of weight 0 off its part. What is left has another
length in each, so its loss and metrics count by it. Losses of any kind, penalties on weights or activations and
statistics of batches are then those of one process on the samples that are there, which weights alone would not give.
"""

import threading
from typing import Any, List, Optional

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.data.batches import Batches


class Padding:
    """What one model's steps know of the padding in their part.

    `share`: the samples of this part, as a multiple of a part's mean; None where all parts are alike. It is a tensor
    of the step that is being traced, by each replica in a thread of its own.
    """

    def __init__(self, batches: List[Batches], collective: allreduce.Collective) -> None:
        """`batches`: where the run keeps its data sets; the model may be given one that is made later."""
        self._all = batches
        self._collective = collective
        self._step = threading.local()

    @property
    def share(self) -> Optional[tf.Tensor]:
        """Return this part's share in the gradients of the step."""
        return getattr(self._step, "share", None)

    def weigh(self, loss: tf.Tensor) -> tf.Tensor:
        """Return the loss of this part of the step that is being traced, times its share."""
        self._step.weighed = True
        return loss if self.share is None else loss * tf.cast(self.share, loss.dtype)

    def cut_off(self, model: Any, kind: Any) -> None:
        """Have the train_step of `model` see neither padding nor the weights that mark it. Raises UsageError.

        `kind`: keras_2 or keras_3. `kind.WEIGHS` is what a train_step must do so that `weigh` is called.
        """
        train_step = getattr(model.train_step, "with_padding", model.train_step)

        def without_padding(data: Any) -> Any:
            batches = self._batches()
            if batches is None:
                return train_step(data)
            *values, weight = data
            if not batches.weighted:
                kind.look_at(weight)
            if batches.remainder:
                values, weight = self._cut(batches, values, weight)
            values += [weight] if batches.weighted else []
            bare = tuple(values) if len(values) > 1 else values[0]
            self._step.weighed = False
            if 0 < batches.remainder < batches.pieces:
                logs = self._uncounted_if_empty(model, lambda: train_step(bare))
            else:
                logs = train_step(bare)
            if batches.remainder and batches.pieces > 1 and not self._step.weighed:
                raise UsageError(
                    f"found {batches.remainder} samples left for the last batch of an epoch, and a train_step that "
                    "does not weigh its loss",
                    f"{kind.WEIGHS} in it, as Keras' own has it",
                    f"or {batches.batch_size} x N samples",
                )
            return logs

        without_padding.with_padding = train_step  # type: ignore[attr-defined]
        model.train_step, model.train_function = without_padding, None
        if self._all and self._all[-1].remainder:
            # the compiler must know every length beforehand
            model.jit_compile = False

    def _batches(self) -> Optional[Batches]:
        if len({(each.weighted, each.batch_size, each.samples) for each in self._all}) > 1:
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
        per_sample = tf.reshape(weight, [tf.shape(weight)[0], -1])
        there = tf.math.count_nonzero(tf.reduce_any(per_sample != 0, axis=1), dtype=tf.int32)
        # a step on nothing would leave NaN in moving statistics; its share in the gradients is 0
        length = tf.maximum(there, 1)
        values = [tf.nest.map_structure(lambda tensor: tensor[:length], value) for value in values]
        share = tf.cast(there, tf.float32) * batches.pieces
        if batches.weighted:
            # the program's own weights hide those of the padding
            (total,) = self._collective.sum([tf.cast(there, tf.float32)])
            weight = weight[:length] * tf.cast(total / batches.batch_size, weight.dtype)
        else:
            # see Batches: a sample weighs batch_size / total
            total = batches.batch_size / tf.maximum(tf.reduce_max(weight), 1.0)
        self._step.share = share / total
        return values, weight

    def _uncounted_if_empty(self, model: Any, step: Any) -> Any:
        """Run a step that may be on padding alone, which then leaves the metrics as they are."""
        if not getattr(getattr(model, "compiled_loss", None), "built", True):
            # tf_keras makes its metrics in the first step, of which this is a trace
            tf.function(step).get_concrete_function()
        variables = [allreduce.inner(variable) for metric in model.metrics for variable in metric.variables]
        before = [tf.identity(variable) for variable in variables]
        logs = step()
        for variable, value in zip(variables, before):
            variable.assign(tf.where(self._step.share > 0, variable, value))
        return model.get_metrics_result() if set(logs) == {metric.name for metric in model.metrics} else logs


def samples_seen(batches: List[Batches], first: int, last: int) -> float:
    """Return how many samples this task has seen from step `first` to before `last`: what its metrics count for."""
    return float(batches[-1].real(first, last)) if batches else float(last - first)
