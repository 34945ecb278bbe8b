"""Inside the user's program: strategy, data, checkpoints, resume and progress for whatever role this task has.

    import slurm_tf.train as train

    run = train.init()
    with run.scope():
        model = ...
    model.fit(run.batches((x, y), batch_size=64), epochs=10, callbacks=run.callbacks(model))

Runs on Python 3.9, and without slurm-tf around it (`python program.py`): then alone, without checkpoints.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm_tf.train.training_run import Run, init

__all__ = ["Run", "init"]


def __getattr__(name: str) -> Any:
    """Import TensorFlow when it is first needed: who only reads a folder of checkpoints (commit.py) does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slurm_tf.train import training_run

    return getattr(training_run, name)
