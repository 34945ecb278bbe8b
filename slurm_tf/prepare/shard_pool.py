"""Serialises the shards of a data set on all CPUs, each in a process of its own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.errors import SlurmTfError, StorageError
from slurm_tf.prepare import feature_columns, shards
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.row_errors import RowErrors
from slurm_tf.prepare.shard_rows import ShardRows
from slurm_tf.prepare.shards import ShardFile


@dataclass(frozen=True)
class ShardWork:
    """What a process needs to write shards. `rows`: the file of the table; `mem`: MiB of DuckDB in each process.

    `hash`: of the recipe and the inputs; `is_check`: nothing is written.
    """

    recipe: LoadedRecipe
    rows: str
    spill: str
    mem: int
    hash: str
    unreproducible: tuple[str, ...]
    is_check: bool = False

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """All shards of the data set."""
        return tuple(
            ShardFile(self.recipe.folder, split, number, self.recipe.shards(split), self.recipe.form)
            for split in self.recipe.splits
            for number in range(self.recipe.shards(split))
        )


def write(work: ShardWork, files: Sequence[ShardFile], cpus: int) -> Iterator[ShardSummary]:
    """Write shards, and yield what each is when it is written. Raises DatasetError and StorageError."""
    if cpus == 1:
        yield from (write_one(work, file) for file in files)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cpus, len(files)), context, _end_with_parent) as pool:
        waiting = [pool.submit(write_one, work, file) for file in files]
        try:
            for each in as_completed(waiting):
                yield each.result()
        except BrokenProcessPool as error:
            found, do = "a process that writes shards was ended", "give more memory, or use fewer cpus"
            raise StorageError(found, "one that runs to its end: it may have been out of memory", do) from error
        except SlurmTfError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write_one(work: ShardWork, file: ShardFile) -> ShardSummary:
    """Write one shard, or only check its rows, and return what it is. Raises DatasetError and StorageError."""
    rows = ShardRows(work.recipe, work.rows, work.spill, work.mem)
    batches = rows.batches(work.recipe.splits.index(file.split), file.number)
    if not work.is_check:
        return shards.write_shard(file, work.recipe.schema, batches, work.hash, work.unreproducible)
    count = 0
    for batch in batches:
        feature_columns.checked(work.recipe.schema, batch, RowErrors(batch, work.recipe.path, count))
        count += batch.num_rows
    return ShardSummary(file.name, file.split, file.number, file.count, count, 0, "", "", work.hash, ())


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, also by SIGKILL: nobody would read its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for, args=(parent.sentinel,), daemon=True).start()


def _wait_for(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
