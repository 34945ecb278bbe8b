"""Writes the output of a shard: in pieces, of which the next attempt goes on, and at the end as one file.

For Python 3.9.
"""

import os
import time
from typing import Optional, Sequence

from slurm_tf import files
from slurm_tf.errors import DatasetError
from slurm_tf.predict import pieces, prediction_plan
from slurm_tf.predict.answers import Answers
from slurm_tf.predict.output_files import OutputFiles, Writer
from slurm_tf.predict.prediction_plan import Plan, ShardManifest


class ShardOutput:
    """The output of one shard, which has one writer at a time.

    `rows`, `errors`: how many rows were written, by earlier attempts as well, and how many of them have an error.
    """

    def __init__(self, folder: str, plan: Plan, shard: int, output_files: OutputFiles) -> None:
        """Find what earlier attempts have written, and remove what none can go on with. Raises OSError."""
        self._folder, self._plan, self._shard, self._files = folder, plan, shard, output_files
        files.remove_temporary(folder, plan.temporary(shard))
        self._pieces = pieces.written(folder, plan, shard)
        self.rows = self._pieces[-1].end if self._pieces else 0
        self.errors = sum(piece.errors for piece in self._pieces)
        self._begun: Optional[_Begun] = None

    def add(self, batch: Sequence[Answers]) -> None:
        """Write some rows. Raises DatasetError if too many have failed, OSError."""
        begun = self._begun = self._begun or self._begin()
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
        self._join(path)
        manifest = ShardManifest(output, self.rows, self.errors, os.path.getsize(path), files.sha256(path))
        prediction_plan.write_shard_manifest(self._folder, self._plan, self._shard, manifest)
        pieces.remove(self._folder, self._plan, self._shard)

    def _begin(self) -> "_Begun":
        path = pieces.begin(self._folder, self._plan, self._shard)
        return _Begun(path, self._files.open(path, is_first=self.rows == 0))

    def _join(self, path: str) -> None:
        """Make the pieces one file. Raises OSError."""
        joined = self._pieces[0].path
        if len(self._pieces) > 1:
            joined = pieces.begin(self._folder, self._plan, self._shard)
            self._files.join([piece.path for piece in self._pieces], joined)
            files.sync(joined)
        os.rename(joined, path)
        files.sync(self._folder)


class _Begun:
    """A piece that is being written."""

    def __init__(self, path: str, writer: Writer) -> None:
        self.path, self.writer = path, writer
        self.rows, self.errors, self.started = 0, 0, time.monotonic()

    def write(self, answers: Answers) -> None:
        self.writer.write(answers)
        self.rows += answers.rows
        self.errors += bool(answers.error)
