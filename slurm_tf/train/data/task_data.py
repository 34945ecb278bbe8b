"""Makes the data sets of a task: its part of the batches that all tasks train on."""

import functools
from typing import Any, Callable, List, Optional

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.data import distribution
from slurm_tf.train.data.arrays import Arrays
from slurm_tf.train.data.batches import Batches, Source, inputs_of, repeated_batches
from slurm_tf.train.data.passes import Passes
from slurm_tf.train.data.prepared_records import Map, Records, validation_dataset
from slurm_tf.train.task_context import TaskContext

_Make = Callable[[tf.distribute.InputContext], tf.data.Dataset]


class TaskData:
    """The data of one task, of which a run's methods are. `rank` of `size`: its number among the tasks in lockstep."""

    def __init__(
        self,
        task: TaskContext,
        agent: Optional[AgentConnection],
        rank: int,
        size: int,
        strategy: tf.distribute.Strategy,
        coordinator: Any,
        add_data_set: Callable[[str], None],
    ) -> None:
        """`coordinator`: of strategy ps, else None. `add_data_set` is called with the folder of each prepared one."""
        self._task, self._agent = task, agent
        self.rank, self.size, self.strategy = rank, size, strategy
        self._coordinator, self._add_data_set = coordinator, add_data_set
        self._batches: List[Batches] = []
        self._inputs: Optional[Any] = None
        self._check_data: Callable[[], None] = lambda: None
        self._passes: Optional[Passes] = None

    def batches(self, arrays: Any, batch_size: int, seed: int = 0) -> Any:
        """Return this task's part of global batches of `batch_size` samples of `arrays`, in a new order each epoch.

        Each batch ends with the samples' weights, whose mean over the global batch is 1: (x, y) becomes (x, y, weight).
        The weight 0 marks padding of the last batch of an epoch. The weights of (x, y, weight) are multiplied by them.

        Under ps each worker goes through all samples in its own order, as any worker may die while others continue; the
        result is for `loop`.
        """
        if self._coordinator is not None:
            return self._per_worker(
                without_autograph(
                    lambda context: repeated_batches(arrays, batch_size, seed + 1 + context.input_pipeline_id)
                )
            )
        return self._batches_of(Arrays(arrays, seed), batch_size)

    def records(
        self,
        folder: str,
        batch_size: int,
        split: str = "train",
        map: Map = None,  # noqa: A002 - as tf.data names it
        seed: int = 0,
        shuffle: Optional[str] = None,
    ) -> Any:
        """Return this task's part of global batches of a prepared data set, as `batches` does of arrays.

        A batch is parsed by the data set's schema: a dict of its features, or what `map` makes of it, x, (x, y) or
        (x, y, weights), in TensorFlow operations. `shuffle`: "records", or "blocks" for more data than memory; None
        chooses by the size of the split. Under ps the result is for `loop`. Raises DatasetError and UsageError.
        """
        self._add_data_set(folder)
        return self._batches_of(Records(folder, split, seed, shuffle, map), batch_size)

    def validation_records(
        self,
        folder: str,
        batch_size: int,
        split: str = "test",
        map: Map = None,  # noqa: A002 - as tf.data names it
    ) -> tf.data.Dataset:
        """Return all records of a split in each task, in their order, without weights: for `validation_data` of `fit`.

        `map` is that of `records`. Raises DatasetError.
        """
        return validation_dataset(folder, batch_size, split, map)

    def _batches_of(self, source: Source, batch_size: int) -> Any:
        """Return the data set of this task's parts; under ps the batches themselves, for `loop`."""
        replicas = self.strategy.num_replicas_in_sync if self._task.strategy == "mirrored" else 1
        self._batches.append(Batches(source, batch_size, self.rank, self.size, replicas))
        if self._coordinator is not None:
            return self._batches[-1]
        self._inputs = inputs_of(self._batches[-1].dataset)
        return self._batches[-1].dataset

    def dataset(self, make: _Make, steps_per_epoch: Optional[int] = None) -> Any:
        """Return the data set that `make(context)` makes for this task, from a tf.distribute.InputContext.

        `context.num_input_pipelines` and `context.input_pipeline_id` say how to shard. A resumed run starts the data
        set anew. With `steps_per_epoch`, for `model.fit`, its position is in checkpoints, and each pass has the next so
        many elements. Raises UsageError.
        """
        if self._coordinator is not None and steps_per_epoch is not None:
            raise UsageError("found steps_per_epoch under strategy ps", "run.loop, which counts steps")
        if self._coordinator is not None:
            return self._per_worker(make)
        made = make(tf.distribute.InputContext(self.size, self.rank, self.strategy.num_replicas_in_sync))
        self._inputs = inputs_of(made)
        if steps_per_epoch is None:
            return made
        self._passes = Passes(made, steps_per_epoch)
        return self._passes.dataset

    def distribute(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return `dataset` as the job's data workers compute it: each of its elements once, in any order.

        `dataset`: this task's part of the data, for one pass; docs/data.md says what it may be made of. The end of a
        pass fails unless all data workers are still there. The position in it is not part of a checkpoint: a resumed
        run starts a new pass. Raises UsageError.
        """
        made = distribution.distribute(dataset, self._task.data_dispatcher, self._task.data_workers, self._agent)
        self._inputs = inputs_of(made)
        self._check_data = functools.partial(distribution.check_workers, self._agent, self._task.data_workers)
        return made

    def _per_worker(self, make: _Make) -> Any:
        def on_worker() -> tf.data.Dataset:
            index = tf.cast(tf.distribute.coordinator.experimental_get_current_worker_index(), tf.int64)
            return make(tf.distribute.InputContext(self._task.workers, index, 1))

        return iter(self._coordinator.create_per_worker_dataset(on_worker))
