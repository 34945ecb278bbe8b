"""What a batch prediction does: plan.json in its output folder, and what each shard has written.

    OUTPUT/
      plan.json                          the model's version, the inputs, the rows of each shard
      predict.toml                       the job file
      part-00003-of-00020.jsonl          the predictions of a shard, in the order of the input; or .csv, ...
      part-00003-of-00020.json           its manifest: it is written last, so the shard is done
      manifest.json                      all shards are done
      .part-00003-of-00020.jsonl-...     what a shard that is not done has written: see `pieces`

Standard library, Python 3.9.
"""

import os
from dataclasses import dataclass
from enum import Enum
from typing import Optional, Tuple

from slurm_tf.dataset import shard_index
from slurm_tf.errors import DatasetError
from slurm_tf.run.json_format import JsonFormat

FORMAT = "1.0"
_JSON = JsonFormat("batch prediction", FORMAT, DatasetError, "predict into another folder")
NAME, MANIFEST, JOB = "plan.json", "manifest.json", "predict.toml"


class InputFormat(str, Enum):
    """How rows are written: an image is one row."""

    TFRECORD = "tfrecord"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    IMAGES = "images"


class OutputFormat(str, Enum):
    """How predictions are written; the value is the end of the names of files."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TFRECORD = "tfrecord"


@dataclass(frozen=True)
class InputFile:
    """A file of rows; `bytes` and `changed`, in nanoseconds, tell one that was changed since the plan was made."""

    path: str
    rows: int
    bytes: int
    changed: int


@dataclass(frozen=True)
class Part:
    """Rows of one file, for a shard: `rows` from `start` on.

    `start` is a byte of CSV and JSON lines, of their text where they are compressed, else the number of a row.
    """

    file: int
    start: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """A batch prediction. `version`: the folder of the model's version, `signature`: of it.

    `shards`: the parts of each shard. Rows are computed in batches of `batch_size`, which begin at the same rows
    whatever the shards are, as the last bits of a result may depend on the batch. `max_errors`: with more rows that
    fail, a shard fails. `save_every`: after so many seconds what a shard has computed is kept for its next attempt.
    `keep`: columns of the input that are in the output too.
    """

    version: str
    signature: str
    input_format: InputFormat
    files: Tuple[InputFile, ...]
    shards: Tuple[Tuple[Part, ...], ...]
    batch_size: int
    max_errors: int
    save_every: float
    output_format: OutputFormat
    keep: Tuple[str, ...]

    @property
    def rows(self) -> int:
        """The rows of all files."""
        return sum(file.rows for file in self.files)

    def rows_of(self, shard: int) -> int:
        """Return the rows of a shard."""
        return sum(part.rows for part in self.shards[shard])

    def output(self, shard: int) -> str:
        """Return the name of a shard's output."""
        return f"{shard_index.shard_name('part', shard, len(self.shards))}.{self.output_format.value}"

    def manifest(self, shard: int) -> str:
        """Return the name of a shard's manifest."""
        return f"{shard_index.shard_name('part', shard, len(self.shards))}.json"

    def temporary(self, shard: int) -> str:
        """Return how the names of files begin that a shard writes until it is done."""
        return f".{self.output(shard)}-"


@dataclass(frozen=True)
class ShardManifest:
    """What a shard has written: `errors` of its rows have an error in place of a prediction."""

    output: str
    rows: int
    errors: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a prediction has written, once all shards are done."""

    version: str
    rows: int
    errors: int
    shards: Tuple[ShardManifest, ...]


def read(folder: str) -> Optional[Plan]:
    """Return the plan in the folder, None for none. Raises DatasetError, OSError."""
    try:
        return _JSON.read(os.path.join(folder, NAME), Plan)
    except FileNotFoundError:
        return None


def write(folder: str, plan: Plan) -> None:
    """Write the plan. Raises OSError."""
    _JSON.write(os.path.join(folder, NAME), plan)


def shard_manifest(folder: str, plan: Plan, shard: int) -> Optional[ShardManifest]:
    """Return what a shard has written, None for one that is not done. Raises DatasetError, OSError."""
    try:
        return _JSON.read(os.path.join(folder, plan.manifest(shard)), ShardManifest)
    except FileNotFoundError:
        return None


def write_shard_manifest(folder: str, plan: Plan, shard: int, manifest: ShardManifest) -> None:
    """Write that a shard is done. Raises OSError."""
    _JSON.write(os.path.join(folder, plan.manifest(shard)), manifest, prefix=plan.temporary(shard))


def finish(folder: str, plan: Plan) -> None:
    """Write the manifest of the prediction if all shards are done. Raises DatasetError, OSError.

    Two shards that end at once on two nodes may not see each other's yet: then any shard that is asked for again does
    it.
    """
    found = [shard_manifest(folder, plan, each) for each in range(len(plan.shards))]
    done = tuple(each for each in found if each)
    if len(done) == len(found):
        rows, errors = sum(each.rows for each in done), sum(each.errors for each in done)
        _JSON.write(os.path.join(folder, MANIFEST), Manifest(plan.version, rows, errors, done))


def read_manifest(folder: str) -> Optional[Manifest]:
    """Return the manifest of a prediction, None while shards are missing. Raises DatasetError, OSError."""
    try:
        return _JSON.read(os.path.join(folder, MANIFEST), Manifest)
    except FileNotFoundError:
        return None
