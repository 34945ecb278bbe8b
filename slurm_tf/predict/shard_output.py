"""Writes the output of a shard: in pieces, of which the next attempt goes on, and at the end as one file.

For Python 3.9.
"""

import hashlib
import os
import shutil
import time
from typing import List, Optional, Sequence

from slurm_tf import files
from slurm_tf.errors import DatasetError
from slurm_tf.predict import pieces, prediction_plan
from slurm_tf.predict.answers import Answers
from slurm_tf.predict.prediction_plan import Plan, ShardManifest
from slurm_tf.predict.row_writers import JsonLinesWriter

# What is read of a file at once, in bytes.
_BLOCK = 1 << 20


class ShardOutput:
    """The output of one shard, which has one writer at a time.

    `rows`, `errors`: how many rows were written, by earlier attempts as well, and how many of them have an error.
    """

    def __init__(self, folder: str, plan: Plan, shard: int) -> None:
        """Find what earlier attempts have written, and remove what none can go on with. Raises OSError."""
        self._folder, self._plan, self._shard = folder, plan, shard
        pieces.remove(folder, plan, shard, only_begun=True)
        self._pieces = pieces.written(folder, plan, shard)
        self.rows = self._pieces[-1].end if self._pieces else 0
        self.errors = sum(piece.errors for piece in self._pieces)
        self._begun: Optional[_Begun] = None

    def add(self, batch: Sequence[Answers]) -> None:
        """Write some rows. Raises DatasetError if too many have failed, OSError."""
        begun = self._begun = self._begun or _Begun(pieces.begin(self._folder, self._plan, self._shard))
        for answers in batch:
            begun.write(answers)
            self.rows += answers.rows
            self.errors += bool(answers.error)
        if self.errors > self._plan.max_errors:
            last = [answers.error for answers in batch if answers.error][-1]
            found = f"{self.errors} of the first {self.rows} rows of shard {self._shard} failed, the last: {last}"
            raise DatasetError(found, f"at most {self._plan.max_errors}", "--max-errors allows more")
        if time.monotonic() - begun.started >= self._plan.save_every:
            self.save()

    def save(self) -> None:
        """Keep what was written for the next attempt. Raises OSError."""
        if begun := self._begun:
            begun.writer.close()
            first = self.rows - begun.rows
            args = (begun.path, first, begun.rows, begun.errors)
            self._pieces.append(pieces.end(self._folder, self._plan, self._shard, *args))
            self._begun = None

    def discard(self) -> None:
        """Remove what no attempt can go on with: what was written since the last piece. Raises OSError."""
        if begun := self._begun:
            begun.writer.close()
            os.unlink(begun.path)
            self._begun = None

    def finish(self) -> None:
        """Make the pieces the output, and write its manifest. Raises OSError."""
        self.save()
        output = self._plan.output(self._shard)
        path = os.path.join(self._folder, output)
        _join([piece.path for piece in self._pieces], path, self._plan.temporary(self._shard))
        manifest = ShardManifest(output, self.rows, self.errors, os.path.getsize(path), _sha256(path))
        prediction_plan.write_shard_manifest(self._folder, self._plan, self._shard, manifest)
        pieces.remove(self._folder, self._plan, self._shard, only_begun=False)


class _Begun:
    """A piece that is being written."""

    def __init__(self, path: str) -> None:
        self.path, self.rows, self.errors, self.started = path, 0, 0, time.monotonic()
        self.writer = JsonLinesWriter(path)

    def write(self, answers: Answers) -> None:
        self.writer.write(answers)
        self.rows += answers.rows
        self.errors += bool(answers.error)


def _join(paths: List[str], target: str, prefix: str) -> None:
    """Make files one, `target`. Raises OSError."""
    if len(paths) == 1:
        os.rename(paths[0], target)
        files.sync(os.path.dirname(target))
        return
    with files.whole_file(target, prefix=prefix) as output:
        for path in paths:
            with open(path, "rb") as file:
                shutil.copyfileobj(file, output, _BLOCK)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
