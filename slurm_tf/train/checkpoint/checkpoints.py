"""Saves TensorFlow checkpoints while training continues, and restores the newest good one.

They are committed to a folder by the protocol of run/checkpoint_folder.py.
"""

import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional

import tensorflow as tf

from slurm_tf import files
from slurm_tf.errors import CheckpointError, FencedError
from slurm_tf.run import checkpoint_folder
from slurm_tf.train.checkpoint import tensor_bundle
from slurm_tf.train.checkpoint.save_interval import SaveInterval
from slurm_tf.train.train_log import log

# How soon to save again after a save that failed: the disk may have space again, and nothing since the last good
# checkpoint is safe.
_RETRY_SECONDS = 60.0
# Pauses before a checkpoint is read again after an I/O error.
_READ_PAUSES = (0.5, 2.0)
# TensorFlow's error codes for a damaged file, a missing one, and an I/O error (2.21).
_UNREADABLE = (tf.errors.DATA_LOSS, tf.errors.OUT_OF_RANGE, tf.errors.NOT_FOUND, tf.errors.UNKNOWN)


class _NoRetracingWarnings(logging.Filter):
    """Drops TensorFlow's warning about the function that it builds itself for each save (2.21)."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to keep a record."""
        return "MultiDeviceSaver.save" not in record.getMessage()


@dataclass(frozen=True)
class _Save:
    """A checkpoint that TensorFlow is writing.

    `extras`: contents of further files by name; `called`: time.monotonic() of the call of `save`; `blocked`: seconds
    that training waited for it.
    """

    checkpoint: tf.train.Checkpoint
    prefix: str
    step: int
    extras: Mapping[str, bytes]
    called: float
    blocked: float


OnCommit = Callable[[int, float, float, int], object]


class Checkpoints:
    """The checkpoints of one run in one task, which reads them and, if it is the writer, writes them."""

    def __init__(
        self,
        folder: str,
        keep: int,
        every: Optional[float] = None,
        every_steps: Optional[int] = None,
        flush: Callable[[str], None] = checkpoint_folder.flush_files,
        asynchronous: bool = True,
        on_commit: OnCommit = lambda *_: None,
        fence: checkpoint_folder.Fence = checkpoint_folder.no_fence,
        mtbf: Optional[float] = None,
    ) -> None:
        """Open a folder. Raises RunError if other users can write to it, and so decide what is trained.

        `keep`: how many checkpoints to keep; `every`, `every_steps`: seconds and steps between two saves; `mtbf`: mean
        seconds between two interruptions, if the interval is to follow from it and from what saves cost. `flush`
        flushes the files of a folder on every node that writes there.

        `on_commit(step, seconds, blocked, bytes)` is called in the committing thread when a checkpoint is on storage.
        `seconds` have passed since the call of `save`; during `blocked` of them training waited.

        `asynchronous`: training waits only until the values are copied, not until TensorFlow has written them. Must be
        False where workers run functions of a ClusterCoordinator: a save makes TensorFlow register a new function with
        other processes, which moves a table that running functions read without its lock. They then name a garbage
        device, or crash (tensorflow/core/distributed_runtime/eager/cluster_function_library_runtime.cc, Run, in 2.21).
        """
        files.check_own(folder, sticky=False)
        self._folder, self._keep, self._every, self._every_steps = folder, keep, every, every_steps
        self._flush, self._on_commit, self._fence = flush, on_commit, fence
        self._interval = None if mtbf is None else SaveInterval(mtbf)
        self._options = tf.train.CheckpointOptions(enable_async=asynchronous)
        self._saved_step = -1
        self._saved_at = time.monotonic()
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[Exception] = None
        tf.get_logger().addFilter(_NO_RETRACING_WARNINGS)

    def restore(
        self, checkpoint: tf.train.Checkpoint, step: Optional[int] = None
    ) -> Optional[checkpoint_folder.Committed]:
        """Read the newest good checkpoint, or that of `step`, into `checkpoint`; return it, or None if there is none.

        A checkpoint whose contents are damaged is passed over for the next older one. Raises CheckpointError if a good
        one does not fit what the program has built.
        """
        for found in checkpoint_folder.complete(self._folder, log):
            if step not in (None, found.step):
                continue
            try:
                _read(checkpoint, found)
            except (CheckpointError, OSError) as error:
                log(f"checkpoint {found.path} is passed over: {error}")
                continue
            except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
                raise CheckpointError(
                    f"checkpoint {found.path} does not fit what the program has built: {error}",
                    "the model and optimizer that it was written with",
                    "use another --name for a changed program",
                ) from error
            except tf.errors.OpError as error:
                if error.error_code not in _UNREADABLE:
                    raise
                log(f"checkpoint {found.path} is passed over: {error.message}")
                continue
            self._saved_step = found.step
            return found
        return None

    def due(self, step: int) -> bool:
        """Return whether to save after `step`: when the interval is over, or sooner once a save has failed."""
        if isinstance(self._error, FencedError):
            return True
        if self._every_steps and step // self._every_steps > max(self._saved_step, 0) // self._every_steps:
            return True
        every = self._interval.seconds if self._interval else self._every
        if every is None:
            return False
        if self._error is not None:
            every = min(every, _RETRY_SECONDS)
        return time.monotonic() - self._saved_at >= every

    def save(self, checkpoint: tf.train.Checkpoint, step: int, extras: Mapping[str, bytes] = {}) -> None:
        """Write `checkpoint`, and each of `extras` as a file beside it; flush and commit them in a thread.

        Waits for the previous save. A save that fails is reported, and raises at `wait`; older checkpoints are kept.
        Raises FencedError once another attempt has taken over the run.
        """
        called = time.monotonic()
        self._join()
        if step == self._saved_step and self._error is None:
            return
        if isinstance(self._error, FencedError):
            raise self._error
        failed_before, self._error = self._error is not None, None
        self._saved_step, self._saved_at = step, time.monotonic()
        prefix = self._write(checkpoint, step, failed_before)
        if prefix:
            save = _Save(checkpoint, prefix, step, dict(extras), called, time.monotonic() - called)
            self._thread = threading.Thread(target=self._commit, args=(save,))
            self._thread.start()

    def wait(self) -> None:
        """Wait until the last save is on storage. Raises CheckpointError if it failed."""
        self._join()
        if isinstance(self._error, FencedError):
            raise self._error
        if self._error is not None:
            raise CheckpointError(f"the last checkpoint was not written: {self._error}") from self._error

    def remove_unfinished(self) -> None:
        """Remove unfinished checkpoints of writers that died. The task that writes calls it before its first save.

        Raises CheckpointError.
        """
        if files.all_can_read(self._folder):
            log(f"all users can read the checkpoints; `chmod o-rwx {self._folder}` stops that")
        try:
            checkpoint_folder.remove_unfinished(self._folder, self._fence)
        except OSError as error:
            found = f"cannot remove unfinished checkpoints in {self._folder} ({error})"
            raise CheckpointError(found, "a folder of checkpoints that can be written") from error

    def _write(self, checkpoint: tf.train.Checkpoint, step: int, failed_before: bool) -> str:
        """Have TensorFlow copy the values and start writing them; return the prefix, or "" after a failure."""
        _patch_keras_copy()
        prefix = ""
        try:
            prefix = checkpoint_folder.begin(self._folder, step, self._fence)
            try:
                checkpoint.write(prefix, options=self._options)
            except tf.errors.OpError:
                if not failed_before:
                    raise
                # TensorFlow raises an error of the previous save here, before it starts this one (2.21)
                checkpoint.write(prefix, options=self._options)
        except (OSError, tf.errors.OpError) as error:
            self._fail(step, prefix, error)
            return ""
        return prefix

    def _commit(self, save: _Save) -> None:
        try:
            save.checkpoint.sync()
            _raise_failure(save.checkpoint)
            tensors = tensor_bundle.checksums(save.prefix)
            found = checkpoint_folder.finish(save.prefix, save.step, tensors, self._flush, save.extras, self._fence)
        except (OSError, tf.errors.OpError, CheckpointError) as error:
            self._fail(save.step, save.prefix, error)
            return
        seconds = time.monotonic() - save.called
        self._on_commit(save.step, seconds, save.blocked, found.size)
        report = self._interval.record_save(seconds, save.blocked, found.size) if self._interval else ""
        if report:
            log(report)
        try:
            checkpoint_folder.prune(self._folder, self._keep, self._fence)
        except FencedError as error:
            self._error = error
        except OSError as error:
            log(f"older checkpoints cannot be removed: {error}")

    def _fail(self, step: int, prefix: str, error: Exception) -> None:
        if prefix:
            checkpoint_folder.abandon(prefix)
        self._error = error
        log(f"checkpoint of step {step} was not written, older ones are kept: {error}")

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None


_NO_RETRACING_WARNINGS = _NoRetracingWarnings()


def _patch_keras_copy() -> None:
    """Let TensorFlow copy Keras 3 variables for more than one save.

    Keras makes a new tf.Variable for each copy, which a tf.function may do in its first call only, so that the second
    asynchronous save of any model fails (Keras 3.15.1, keras/src/backend/tensorflow/core.py). Copying the TensorFlow
    variable inside the Keras variable works each time.
    """
    keras = sys.modules.get("keras")
    if keras is None:
        return

    def copy(self: Any, object_map: Any) -> None:
        self.value._copy_trackable_to_cpu(object_map)
        object_map[self] = object_map[self.value]

    keras.Variable._copy_trackable_to_cpu = copy


def _raise_failure(checkpoint: tf.train.Checkpoint) -> None:
    """Raise the error of TensorFlow's writing thread, if any, which TensorFlow keeps for the next save (2.21)."""
    helper: Any = getattr(checkpoint, "_async_checkpointer_impl", None)
    error = getattr(helper, "_async_error", None)
    if error is not None:
        helper._async_error = None
        raise error


def _read(checkpoint: tf.train.Checkpoint, found: checkpoint_folder.Committed) -> None:
    """Read a checkpoint, after an I/O error up to two more times: going back to an older one would lose steps."""
    for pause in (*_READ_PAUSES, None):
        try:
            found.check_extras()
            checkpoint.read(found.prefix).assert_existing_objects_matched().expect_partial()
        except (OSError, tf.errors.OpError) as error:
            io_error = isinstance(error, OSError) or error.error_code == tf.errors.UNKNOWN
            if pause is None or not io_error:
                raise
            log(f"checkpoint {found.path} cannot be read, trying again: {error}")
            time.sleep(pause)
        else:
            return


def verify(found: checkpoint_folder.Committed) -> None:
    """Compare every byte of a checkpoint with its checksums. Raises CheckpointError or OSError."""
    found.check_extras()
    if tensor_bundle.checksums(found.prefix) != found.manifest["crc32c"]:
        raise CheckpointError(f"the index of {found.path} is not the one that was committed")
    reader = tf.train.load_checkpoint(found.prefix)
    for name in reader.get_variable_to_shape_map():
        try:
            reader.get_tensor(name)
        except tf.errors.OpError as error:
            raise CheckpointError(f"{name} of {found.path} is damaged: {error.message}") from error
