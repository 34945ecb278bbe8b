"""Opens and joins the files of a prediction's output, in its format. For Python 3.9."""

import shutil
from typing import Any, Protocol, Sequence

from slurm_tf.predict import parquet_rows, parquet_writer
from slurm_tf.predict.answers import Answers, Output
from slurm_tf.predict.prediction_plan import InputFormat, OutputFormat, Plan
from slurm_tf.predict.row_writers import CsvWriter, JsonLinesWriter

# What is copied at once, in bytes.
_BLOCK = 1 << 20


class Writer(Protocol):
    """Writes rows to a file that was empty. Its methods raise OSError."""

    def write(self, answers: Answers) -> None:
        """Write some rows."""

    def close(self) -> None:
        """Write the end of the file, and hand over all to the system."""


class OutputFiles:
    """The files of one prediction's output, for a model with the outputs `outputs`."""

    def __init__(self, plan: Plan, outputs: Sequence[Output]) -> None:
        """Raises ModelError for outputs that the format cannot hold, DatasetError, OSError."""
        self._plan, self._outputs = plan, outputs
        if plan.output_format is OutputFormat.TFRECORD:
            from slurm_tf.predict import record_writer

            record_writer.check(plan.version, outputs)
        if plan.output_format is OutputFormat.PARQUET:
            is_parquet = plan.input_format is InputFormat.PARQUET
            types = parquet_rows.types(plan.files[0].path, plan.keep) if is_parquet else {}
            self._schema: Any = parquet_writer.schema(plan.version, outputs, plan.keep, types)

    def open(self, path: str, is_first: bool) -> Writer:
        """Open an empty file; `is_first`: its rows are the first of a shard's output. Raises OSError."""
        form = self._plan.output_format
        if form is OutputFormat.JSONL:
            return JsonLinesWriter(path)
        if form is OutputFormat.CSV:
            return CsvWriter(path, self._outputs, self._plan.keep, has_header=is_first)
        if form is OutputFormat.PARQUET:
            return parquet_writer.ParquetWriter(path, self._schema)
        from slurm_tf.predict.record_writer import RecordWriter

        return RecordWriter(path)

    def join(self, paths: Sequence[str], target: str) -> None:
        """Write the rows of files, which `open` has made, to another one, which is empty. Raises OSError."""
        if self._plan.output_format is OutputFormat.PARQUET:
            parquet_writer.join(paths, target, self._schema)
            return
        with open(target, "wb") as output:
            for path in paths:
                with open(path, "rb") as file:
                    shutil.copyfileobj(file, output, _BLOCK)
