"""Computes shards of a batch prediction: the program of its job. For Python 3.9; imports TensorFlow.

    python -m slurm_tf.predict.shard_process OUTPUT SHARD     or "all"

A shard that is done is left as it is, and one that was begun goes on behind what it has kept, so a job that is
requeued, or submitted again, does what is missing. While the model computes a batch, one thread reads the next ones
and another writes the answers to the last ones.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, TypeVar

import numpy as np
import tensorflow as tf

from slurm_tf import files
from slurm_tf.errors import DatasetError, ModelError, SlurmTfError
from slurm_tf.models import model_versions
from slurm_tf.predict import prediction_plan, row_reader
from slurm_tf.predict.answers import Answers, Output, check_names
from slurm_tf.predict.kept_columns import KeptColumns
from slurm_tf.predict.model_inputs import ModelInputs
from slurm_tf.predict.output_files import OutputFiles
from slurm_tf.predict.prediction_plan import Plan
from slurm_tf.predict.shard_output import ShardOutput

_LONGEST_MESSAGE = 300
_OF_GRAPH = "Graph execution error"
_REPORT_SECONDS = 30.0
# Of a row that does not fit, or of what the model makes of it; not that there is no memory.
_OF_ROW = (tf.errors.InvalidArgumentError, ValueError, TypeError, KeyError)
# How many batches are read ahead, and wait to be written.
_AHEAD = 2
_Item = TypeVar("_Item")


def main() -> None:
    """Compute the shard that the command line names, or all."""
    folder, which = sys.argv[1:]
    try:
        plan = prediction_plan.read(folder)
        if plan is None:
            raise DatasetError(f"there is no {prediction_plan.NAME}", "the output folder of a prediction", where=folder)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        ended = threading.Event()
        prediction = _Prediction(folder, plan, ended)
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        for shard in range(len(plan.shards)) if which == "all" else (int(which),):
            prediction.compute(shard)
    except SlurmTfError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        explained = files.storage_error(error, "predict", folder)
        _say(str(explained))
        sys.exit(explained.exit_code)


@dataclass(frozen=True)
class _Batch:
    """Rows, and the inputs that they are for the model; None where a row does not fit."""

    rows: Any
    inputs: Optional[Dict[str, tf.Tensor]]


class _Prediction:
    """The model, loaded, and what it is to compute."""

    def __init__(self, folder: str, plan: Plan, ended: threading.Event) -> None:
        """Load the model; `ended`: is set when the process is to end. Raises ModelError, DatasetError, OSError."""
        self._folder, self._plan, self._ended = folder, plan, ended
        model_versions.check_own(os.path.dirname(plan.version), plan.version)
        self._model = tf.saved_model.load(plan.version)  # what it holds is alive as long as it is
        if plan.signature not in self._model.signatures:
            known = ", ".join(self._model.signatures) or "none"
            raise ModelError(f"it has no signature {plan.signature}", f"one of {known}", where=plan.version)
        self._function = self._model.signatures[plan.signature]
        specs: Dict[str, tf.TensorSpec] = self._function.structured_input_signature[1]
        self._columns = row_reader.columns(plan, tuple(specs))
        self._inputs = ModelInputs(plan.input_format, specs, self._columns)
        self._kept = KeptColumns(plan.input_format, plan.keep, self._columns)
        outputs = _outputs(plan.version, self._function.structured_outputs)
        check_names(plan.version, [output.name for output in outputs], plan.keep)
        self._output_files = OutputFiles(plan, outputs)

    def compute(self, shard: int) -> None:
        """Write the predictions of a shard, unless it is done. Raises DatasetError, ModelError, OSError."""
        if self._is_done(shard):
            _say(f"shard {shard} is done already")
            return
        started = time.monotonic()
        output = ShardOutput(self._folder, self._plan, shard, self._output_files)
        before = output.rows
        if before:
            _say(f"shard {shard} goes on: {before} of {self._plan.rows_of(shard)} rows were computed before")
        with contextlib.ExitStack() as stack:
            stack.callback(output.discard)
            self._write(shard, output)
            output.finish()
        prediction_plan.finish(self._folder, self._plan)
        seconds = time.monotonic() - started
        _say(
            f"shard {shard} is done: {output.rows - before} rows in {seconds:.1f} s,"
            f" {output.errors} of all {output.rows} with an error"
        )

    def _is_done(self, shard: int) -> bool:
        if not prediction_plan.shard_manifest(self._folder, self._plan, shard):
            return False
        prediction_plan.finish(self._folder, self._plan)
        return True

    def _write(self, shard: int, output: ShardOutput) -> None:
        """Write what is missing of a shard's output. If the process is to end, keep what is there and do so."""
        rows = row_reader.batches(self._plan, shard, self._columns, output.rows)
        said = time.monotonic()
        writes: Deque[Future[None]] = deque()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            for batch in _ahead(reader, map(self._read, rows)):
                writes.append(writer.submit(output.add, self._answers(batch.rows, batch.inputs)))
                if len(writes) > _AHEAD:
                    writes.popleft().result()
                if self._ended.is_set():
                    break
                if time.monotonic() - said > _REPORT_SECONDS:
                    said = time.monotonic()
                    _say(f"shard {shard}: {output.rows} of {self._plan.rows_of(shard)} rows")
            for write in writes:
                write.result()
        if self._ended.is_set():
            output.save()
            _say(f"shard {shard} ends by SIGTERM: {output.rows} of {self._plan.rows_of(shard)} rows are kept")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def _read(self, rows: Any) -> _Batch:
        try:
            return _Batch(rows, self._inputs.of(rows))
        except _OF_ROW:
            return _Batch(rows, None)

    def _answers(self, rows: Any, inputs: Optional[Dict[str, tf.Tensor]] = None) -> List[Answers]:
        """Return what the model answers for rows, and for those that fail why it does not.

        Of a batch that fails each half is computed by itself, down to the rows that fail.
        """
        try:
            return [self._answer(rows, inputs or self._inputs.of(rows))]
        except _OF_ROW as error:
            if len(rows) == 1:
                return [Answers(1, {}, self._kept.of(rows), _words(error))]
        middle = len(rows) // 2
        return [*self._answers(rows[:middle]), *self._answers(rows[middle:])]

    def _answer(self, rows: Any, inputs: Dict[str, tf.Tensor]) -> Answers:
        outputs = {name: _array(each) for name, each in self._function(**inputs).items()}
        for name, each in outputs.items():
            if each.shape[:1] != (len(rows),):
                found = f"its output {name} has the shape {list(each.shape)} for {len(rows)} rows"
                raise ModelError(found, "an output whose first dimension is that of the rows", where=self._plan.version)
        return Answers(len(rows), outputs, self._kept.of(rows))


def _outputs(version: str, specs: Mapping[str, tf.TensorSpec]) -> List[Output]:
    """Return what the outputs of a signature are. Raises ModelError for one that has neither numbers nor text."""
    found = []
    for name, spec in sorted(specs.items()):
        dtype = _type(spec.dtype)
        if dtype.kind not in "biufO" or spec.dtype in (tf.resource, tf.variant):
            raise ModelError(f"its output {name!r} is of {spec.dtype.name}", "numbers or text", where=version)
        found.append(Output(name, dtype, spec.shape.rank))
    return found


def _type(dtype: tf.DType) -> "np.dtype[Any]":
    """Return the type of numpy in which values are written: numpy itself has no floats of fewer than 16 bits."""
    return np.dtype(
        np.float32 if dtype.is_floating and dtype.as_numpy_dtype().dtype.kind == "V" else dtype.as_numpy_dtype
    )


def _array(tensor: tf.Tensor) -> "np.ndarray[Any, Any]":
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _ahead(reader: ThreadPoolExecutor, items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield items, of which the next ones are made in a thread meanwhile."""
    following: Callable[[], Optional[_Item]] = lambda: next(items, None)  # noqa: E731
    waiting = deque(reader.submit(following) for _ in range(_AHEAD))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(reader.submit(following))
        yield item


def _words(error: Exception) -> str:
    """Return the line of an error that says what is wrong: the first one, but the last one of an error in a graph.

    TensorFlow writes there first where the operation was defined, and at the end its name.
    """
    text = str(getattr(error, "message", error)).partition("\n\t [[{{node ")[0].strip() or type(error).__name__
    lines = text.splitlines()
    return lines[-1 if text.startswith(_OF_GRAPH) else 0].strip()[:_LONGEST_MESSAGE]


def _say(text: str) -> None:
    sys.stderr.write(f"slurm-tf: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
