"""Serialises the shards of a data set on all CPUs, each in a process of its own."""

import contextlib
import dataclasses
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.errors import MemoryLimitError
from slurm_tf.prepare import feature_columns, memory, shards
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.row_errors import RowErrors
from slurm_tf.prepare.shard_rows import ShardRows
from slurm_tf.prepare.shards import ShardFile
from slurm_tf.prepare.worker_process import WorkerProcess


@dataclass(frozen=True)
class ShardWork:
    """What a process needs to write shards. `rows`: the file of the table; `mem`: MiB of DuckDB.

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
    """Write shards, and yield what each is when it is written. Raises DatasetError and StorageError.

    Each of the processes has its part of half the memory, as it needs some outside of DuckDB. Shards that need more are
    written at last, one after another.
    """
    processes = min(memory.threads(work.mem, cpus), len(files))
    if processes == 1:
        yield from (write_one(work, file) for file in files)
        return
    part, large = dataclasses.replace(work, mem=work.mem // (2 * processes)), []
    with contextlib.ExitStack() as stack:
        free: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        for _ in range(processes):
            free.put(stack.enter_context(WorkerProcess()))
        waiting = {pool.submit(_write_elsewhere, free, part, file): file for file in files}
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for each in as_completed(waiting):
            if isinstance(each.exception(), MemoryLimitError):
                large.append(waiting[each])
            else:
                yield each.result()
    yield from (write_one(work, file) for file in large)


def _write_elsewhere(free: "queue.SimpleQueue[WorkerProcess]", work: ShardWork, file: ShardFile) -> ShardSummary:
    worker = free.get()
    try:
        return worker.call(write_one, work, file)
    finally:
        free.put(worker)


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
