"""The library inside the user's program: strategy, data, checkpoints, resume and progress for the role of this task.

    import slurm_tf.train as train

    run = train.init()
    with run.scope():
        model = ...
    model.fit(run.batches((x, y), batch_size=64), epochs=10, callbacks=run.callbacks(model))

Runs on Python 3.9. Without slurm-tf around it (`python program.py`) it trains as a single task, without checkpoints.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm_tf.train.training_run import Run, init

__all__ = ["Run", "init"]


def __getattr__(name: str) -> Any:
    """Import TensorFlow only when `Run` or `init` is used, as checkpoint/verify.py must start without TensorFlow."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slurm_tf.train import training_run

    return getattr(training_run, name)
