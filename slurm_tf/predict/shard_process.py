"""Computes shards of a batch prediction: the program of its job. For Python 3.9; imports TensorFlow.

    python -m slurm_tf.predict.shard_process OUTPUT SHARD     or "all"

A shard that is done is left as it is, so a job that is requeued, or submitted again, does what is missing. Its output
appears by one rename, and its manifest after that.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Union

import tensorflow as tf

from slurm_tf import files
from slurm_tf.errors import DatasetError, ModelError, SlurmTfError
from slurm_tf.models import model_versions
from slurm_tf.predict import prediction_plan, row_reader
from slurm_tf.predict.model_inputs import ModelInputs
from slurm_tf.predict.prediction_plan import Plan, ShardManifest

_LONGEST_MESSAGE = 300
_REPORT_SECONDS = 30.0
# Of a row that does not fit, or of what the model makes of it; not that there is no memory.
_OF_ROW = (tf.errors.InvalidArgumentError, ValueError, TypeError, KeyError)
# What a model answers for a row, by the names of its outputs.
_Answer = Dict[str, Any]


def main() -> None:
    """Compute the shard that the command line names, or all."""
    folder, which = sys.argv[1:]
    try:
        plan = prediction_plan.read(folder)
        if plan is None:
            raise DatasetError(f"there is no {prediction_plan.NAME}", "the output folder of a prediction", where=folder)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        prediction = _Prediction(folder, plan)
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
class _RowError:
    """Why there is no answer for a row."""

    error: str


class _Prediction:
    """The model, loaded, and what it is to compute."""

    def __init__(self, folder: str, plan: Plan) -> None:
        """Load the model. Raises ModelError, DatasetError, OSError."""
        self._folder, self._plan = folder, plan
        model_versions.check_own(os.path.dirname(plan.version), plan.version)
        self._model = tf.saved_model.load(plan.version)  # what it holds is alive as long as it is
        if plan.signature not in self._model.signatures:
            known = ", ".join(self._model.signatures) or "none"
            raise ModelError(f"it has no signature {plan.signature}", f"one of {known}", where=plan.version)
        self._function = self._model.signatures[plan.signature]
        specs: Dict[str, tf.TensorSpec] = self._function.structured_input_signature[1]
        self._columns = row_reader.columns(plan, tuple(specs))
        self._inputs = ModelInputs(plan.input_format, specs, self._columns)

    def compute(self, shard: int) -> None:
        """Write the predictions of a shard, unless it is done. Raises DatasetError, ModelError, OSError."""
        plan, started = self._plan, time.monotonic()
        if prediction_plan.shard_manifest(self._folder, plan, shard):
            prediction_plan.finish(self._folder, plan)
            _say(f"shard {shard} is done already")
            return
        self._remove_left(shard)
        path = os.path.join(self._folder, plan.output(shard))
        written = _Written(shard, plan)
        with files.whole_file(path, prefix=plan.temporary(shard)) as file:
            rows = row_reader.rows(plan, shard, self._columns)
            for lines in map(self._lines, _ahead(_batches(rows, plan.batch_size))):
                file.write(written.add(lines))
        prediction_plan.write_shard_manifest(self._folder, plan, shard, written.manifest())
        prediction_plan.finish(self._folder, plan)
        seconds = time.monotonic() - started
        _say(f"shard {shard} is done: {written.rows} rows in {seconds:.1f} s, {written.errors} of them with an error")

    def _remove_left(self, shard: int) -> None:
        """Remove what attempts of this shard left when they were killed."""
        for name in os.listdir(self._folder):
            if name.startswith(self._plan.temporary(shard)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._folder, name))

    def _lines(self, rows: Sequence[Any]) -> "List[Union[_Answer, _RowError]]":
        """Return what the model answers for each row, or why it does not."""
        try:
            return [*self._answers(rows)]
        except _OF_ROW as error:
            if len(rows) == 1:
                return [_RowError(_words(error))]
        return [line for row in rows for line in self._lines([row])]

    def _answers(self, rows: Sequence[Any]) -> List[_Answer]:
        outputs = {name: each.numpy() for name, each in self._function(**self._inputs.of(rows)).items()}
        for name, each in outputs.items():
            if each.shape[:1] != (len(rows),):
                found = f"its output {name} has the shape {list(each.shape)} for {len(rows)} rows"
                raise ModelError(found, "an output whose first dimension is that of the rows", where=self._plan.version)
        names = list(outputs)
        return [dict(zip(names, values)) for values in zip(*(each.tolist() for each in outputs.values()))]


class _Written:
    """What a shard has written so far."""

    def __init__(self, shard: int, plan: Plan) -> None:
        self._shard, self._plan = shard, plan
        self.rows = self.errors = self._bytes = 0
        self._digest = hashlib.sha256()
        self._said = time.monotonic()

    def add(self, lines: "Sequence[Union[_Answer, _RowError]]") -> bytes:
        """Return the bytes of lines. Raises DatasetError if too many rows have failed."""
        failed = [line.error for line in lines if isinstance(line, _RowError)]
        values = [{"error": line.error} if isinstance(line, _RowError) else line for line in lines]
        data = "".join(f"{_ENCODER.encode(each)}\n" for each in values).encode()
        self.rows, self.errors, self._bytes = self.rows + len(lines), self.errors + len(failed), self._bytes + len(data)
        self._digest.update(data)
        if self.errors > self._plan.max_errors:
            found = f"{self.errors} of the first {self.rows} rows of shard {self._shard} failed, the last: {failed[-1]}"
            raise DatasetError(found, f"at most {self._plan.max_errors}", "--max-errors allows more")
        if time.monotonic() - self._said > _REPORT_SECONDS:
            self._said = time.monotonic()
            _say(f"shard {self._shard}: {self.rows} of {self._plan.rows_of(self._shard)} rows")
        return data

    def manifest(self) -> ShardManifest:
        """Return the manifest of what was written."""
        output = self._plan.output(self._shard)
        return ShardManifest(output, self.rows, self.errors, self._bytes, self._digest.hexdigest())


def _batches(rows: Iterator[Any], size: int) -> Iterator[List[Any]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _ahead(batches: Iterator[List[Any]]) -> Iterable[List[Any]]:
    """Yield batches, of which the next one is read in a thread while the model computes the last one."""
    following: Callable[[], List[Any] | None] = lambda: next(batches, None)  # noqa: E731
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(following)
        while (batch := waiting.result()) is not None:
            waiting = reader.submit(following)
            yield batch


def _as_json(value: object) -> object:
    """Return bytes as text, or as TensorFlow Serving writes those that are none."""
    if not isinstance(value, bytes):
        raise TypeError(f"the model's output has a {type(value).__name__}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


# json.dumps makes one for each call that has a `default`
_ENCODER = json.JSONEncoder(default=_as_json)


def _words(error: Exception) -> str:
    """Return the first line of an error: those of TensorFlow go on with a graph."""
    text = str(getattr(error, "message", error)).strip() or type(error).__name__
    return text.splitlines()[0][:_LONGEST_MESSAGE]


def _say(text: str) -> None:
    sys.stderr.write(f"slurm-tf: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
