"""What a user's program calls: `init`, and the `Run` that it returns."""

import contextlib
import os
import sys
import time
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, Sequence, Tuple

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.run import checkpoint_folder
from slurm_tf.train import training_loop
from slurm_tf.train.agent_connection import AgentConnection, shield
from slurm_tf.train.checkpoint import local_state
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.collectives import allreduce, replica_check, strategies
from slurm_tf.train.collectives.step_clock import Clock, Clocked
from slurm_tf.train.data.batches import Batches, endless
from slurm_tf.train.task_context import TaskContext

# every task trains the same model, on its own part of each batch
_ALIKE = ("multi_worker", "horovod")
_SCOPED = ("mirrored", "ps")
_WATCH_SECONDS = 1.0


def init() -> "Run":
    """Return this task's run; collective. Workers and parameter servers of strategy ps serve here and never return."""
    place = TaskContext.from_environ(os.environ)
    control = None if place.control_fd is None else AgentConnection(place.control_fd)
    if place.strategy == "ps" and place.role in ("worker", "ps"):
        strategies.serve(place, control)
    if place.mixed_precision:
        # layers take the policy when they are made; tf.keras is that of Keras 3 or, as the user says, of tf_keras
        for keras in {tf.keras, sys.modules.get("tf_keras", tf.keras)}:
            keras.mixed_precision.set_global_policy(f"mixed_{place.mixed_precision}")
    return Run(place, control)


class Run:
    """One task's view of the run.

    `rank` of `size`: its number among the tasks that train. `step`: where training starts, from the checkpoint.
    `strategy`: the tf.distribute strategy, for programs that use it directly.
    """

    def __init__(self, place: TaskContext, control: Optional[AgentConnection]) -> None:
        self._place, self._control = place, control
        self.role, self.index = place.role, place.index
        self.rank, self.size = (place.rank, place.size) if place.strategy in _ALIKE else (0, 1)
        self.step = 0
        self.is_chief = self.rank == 0 and self.role != "evaluator"
        alike = place.strategy in _ALIKE and self.size > 1
        self._boundary = StepBoundary(control, self.is_chief, alike, pauses=place.strategy != "ps")
        if control:
            control.begin(self.is_chief, self._boundary.agree, self._boundary.interrupt)
        single = self.role == "evaluator"
        self.strategy = tf.distribute.get_strategy() if single else strategies.make(place)
        self._collective = allreduce.SingleTask() if single else strategies.collective(place, self.strategy)
        if control and alike and not single:
            self._boundary.clock = Clock()
            self._collective = Clocked(self._collective, self._boundary.clock)
        self._coordinator: Any = None
        if place.strategy == "ps" and not single:
            self._coordinator = tf.distribute.coordinator.ClusterCoordinator(self.strategy)
        if control:
            shield()
        self._batches: List[Batches] = []
        self._tracked: List[Any] = []
        self._checkpoint: Optional[tf.train.Checkpoint] = None
        self._checkpoints = self._open_checkpoints()
        self._reported: Optional[Tuple[float, int]] = None
        self._rate = 0.0

    def scope(self) -> ContextManager[Any]:
        """Return the scope to create the model and its optimizer in."""
        if self._place.strategy in _SCOPED and self.role != "evaluator":
            scope: ContextManager[Any] = self.strategy.scope()
            return scope
        return contextlib.nullcontext()

    # --- data ---

    def batches(self, arrays: Any, batch_size: int, seed: int = 0) -> Any:
        """Return this task's part of global batches of `batch_size` samples of `arrays`, in a new order each epoch.

        Each batch ends with the samples' weights, whose mean over the global batch is 1: (x, y) becomes (x, y, weight),
        where 0 marks what fills up the last batch of an epoch. They are multiplied into those of (x, y, weight).

        Under ps each worker goes through all samples in an order of its own, as it may die and others go on: the
        result is for `loop`.
        """
        if self._coordinator is not None:
            return self._per_worker(
                lambda context: endless(arrays, batch_size, seed + 1 + context.input_pipeline_id),
            )
        replicas = self.strategy.num_replicas_in_sync if self._place.strategy == "mirrored" else 1
        self._batches.append(Batches(arrays, batch_size, seed, self.rank, self.size, replicas))
        return self._batches[-1].dataset

    def dataset(self, make: Callable[[tf.distribute.InputContext], tf.data.Dataset]) -> Any:
        """Return the data set that `make` makes for this task, from TensorFlow's own kind of context.

        `context.num_input_pipelines` and `context.input_pipeline_id` say how to shard. The position in it is not part
        of a checkpoint: a resumed run starts it anew.
        """
        if self._coordinator is not None:
            return self._per_worker(make)
        return make(tf.distribute.InputContext(self.size, self.rank, self.strategy.num_replicas_in_sync))

    def _per_worker(self, make: Callable[[tf.distribute.InputContext], tf.data.Dataset]) -> Any:
        def on_worker() -> tf.data.Dataset:
            index = tf.cast(tf.distribute.coordinator.experimental_get_current_worker_index(), tf.int64)
            return make(tf.distribute.InputContext(self._place.workers, index, 1))

        return iter(self._coordinator.create_per_worker_dataset(on_worker))

    # --- what tasks do together ---

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor, dense, over the tasks and replicas that train together; collective.

        For the gradients of a loop of the program's own. Under ps workers do not wait for each other: their own.
        """
        if self._coordinator is not None:
            return [tf.convert_to_tensor(tensor) for tensor in tensors]
        return self._collective.mean(tensors)

    def check_replicas(self, variables: Sequence[Any]) -> None:
        """Raise ReplicaError unless `variables` have the same bits in every task that trains; collective.

        `loop` and `callbacks` do this after the first steps, with what is trained.
        """
        replica_check.compare(self._collective, variables)

    def _check(self) -> replica_check.ReplicaCheck:
        return replica_check.ReplicaCheck(self._collective, lambda: replica_check.trainable(self._tracked))

    # --- checkpoints ---

    def checkpoint(self, **tracked: Any) -> None:
        """Have `loop` keep `tracked` (models, optimizers, variables) in checkpoints, and restore the newest now.

        Collective: every task then has rank 0's variables. Sets `step`.
        """
        self._tracked = tf.nest.flatten(tracked)
        self._checkpoint = tf.train.Checkpoint(**tracked)
        if self.role == "evaluator":
            return
        kept = local_state.variables(self._tracked, self.size)
        found = self._restore(kept)
        if found and self.is_chief:
            _say(f"resumed at step {found.step} from {found.path}")
        self._boundary.begin(self.step, self._collective, self._checkpoints, self._checkpoint, kept)

    def _restore(self, kept: Sequence[Any]) -> Optional[checkpoint_folder.Committed]:
        """Begin at the newest checkpoint that rank 0 can read, with the values that this task alone had; collective."""
        checkpoints, checkpoint = self._checkpoints, self._checkpoint
        found = checkpoints.restore(checkpoint) if checkpoints and checkpoint and self.is_chief else None
        self.step = found.step if found else 0
        if self.size > 1:
            (step,) = self._collective.sum([tf.constant(found.step if found else -1 * self.is_chief, tf.int64)])
            if checkpoints and checkpoint and step >= 0 and not self.is_chief:
                # for variables that are made later; an NFS client may not see yet what rank 0 has just written
                checkpoints.restore(checkpoint, int(step))
            self.step = max(int(step), 0)
            allreduce.broadcast(self._collective, replica_check.shared(self._tracked))
        local_state.restore(self._collective, found.read(local_state.FILE) if found else None, kept)
        return found

    def _open_checkpoints(self) -> Optional[Checkpoints]:
        place, folder = self._place, self._place.checkpoints
        if not folder:
            return None
        if self._coordinator is not None:
            strategies.prove_shared(folder, place.servers)

        def flush(path: str) -> None:
            strategies.flush_everywhere(path, self._control if self._coordinator else None)

        asynchronous = self._coordinator is None
        fence = checkpoint_folder.fence(place.run, place.attempt, place.step)
        checkpoints = Checkpoints(
            folder,
            place.keep,
            place.save_every,
            place.save_every_steps,
            flush,
            asynchronous,
            self._committed,
            fence,
            place.mtbf,
        )
        if self.is_chief:
            checkpoints.sweep()
        return checkpoints

    def _committed(self, step: int, seconds: float, blocked: float, size: int) -> None:
        if self._control:
            self._control.tell(
                {"committed": {"step": step, "seconds": seconds, "blocked": blocked, "bytes": size}},
            )

    # --- training ---

    def loop(
        self, step: Callable[[Any], Dict[str, Any]], data: Any, steps: int, every: int = 100
    ) -> Iterator[Tuple[int, Dict[str, float]]]:
        """Train: run `step(batch)`, which returns named scalars, from where the checkpoint was to `steps` in all.

        Yields the number of steps done and the means of the scalars after each `every` steps, and saves when due. In an
        evaluator nothing is trained: it restores each new checkpoint and yields its step, until that of the last.
        """
        if self.role == "evaluator":
            yield from ((done, {}) for done in self._watch(steps))
            return
        if self._place.accumulate > 1:
            raise UsageError(f"found train.accumulate={self._place.accumulate} and run.loop", "model.fit for it")
        self._say_if_data_starts_anew()
        runner = (
            training_loop.Closures(step, data, self._coordinator, self._place.workers, self._boundary)
            if self._coordinator is not None
            else training_loop.Steps(
                step, data, self._batches, self._collective, self.strategy, self._check(), self._boundary
            )
        )
        self._boundary.phase("compile")
        while self.step < steps:
            # at the same steps after a resume as without it
            self.step, logs = runner.run(self.step, min(self.step - self.step % every + every, steps), steps)
            self._progress(self.step, steps, logs)
            with self._boundary.pause():
                yield self.step, logs

    def _watch(self, steps: int) -> Iterator[int]:
        """Restore each new checkpoint; yield its step; end at that of `steps`."""
        seen = -1
        while seen < steps:
            newest = next(checkpoint_folder.complete(self._place.checkpoints), None)
            if newest is None or newest.step == seen or self._checkpoint is None:
                time.sleep(_WATCH_SECONDS)
                continue
            # it may have been pruned since: then there is a newer one
            with contextlib.suppress(tf.errors.NotFoundError, tf.errors.DataLossError):
                self._checkpoint.read(newest.prefix).expect_partial()
                seen = newest.step
                yield seen

    def _say_if_data_starts_anew(self) -> None:
        if self.step and not self._batches and self.is_chief:
            where = "under ps each worker goes" if self._coordinator else "a data set that is not of run.batches goes"
            _say(f"position not saved: {where} through the samples anew")

    def callbacks(self, model: Any) -> List[Any]:
        """Return the callbacks for `model.fit`, and prepare the compiled model for it; collective.

        Put them before others of your own: those then see the metrics of all tasks.
        """
        from slurm_tf.train.keras import fit

        if self._coordinator is not None:
            raise UsageError("model.fit under strategy ps", "run.loop", "Keras 3 cannot fit on parameter servers")
        with self.scope():
            fit.prepare(model, self._collective, self._batches, self._place.accumulate)
        self.checkpoint(model=model, optimizer=model.optimizer)
        self._say_if_data_starts_anew()
        return [fit.callback(model, self._collective, self._batches, self._boundary, self.report)]

    # --- telling ---

    def report(self, step: int, steps: int = 0, **values: Any) -> None:
        """Print a line of progress; only the chief and the evaluator do."""
        if not self.is_chief and self.role != "evaluator":
            return
        rate = self._progress(step, steps, {name: value for name, value in values.items() if isinstance(value, float)})
        words = [f"step {step}/{steps}" if steps else f"step {step}"]
        words += [
            f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        ]
        print("  ".join(words + ([f"{rate:.1f} steps/s"] if rate > 0 else [])), flush=True)

    def _progress(self, step: int, steps: int, values: Dict[str, float]) -> float:
        """Tell `slurm-tf status`; return the steps a second since the last time."""
        now = time.monotonic()
        if self._reported is not None and step != self._reported[1]:
            self._rate = (step - self._reported[1]) / (now - self._reported[0])
        if self._reported is None or step != self._reported[1]:
            self._reported = (now, step)
        if self._control:
            self._control.progress(step, steps, self._rate, values)
        return self._rate

    def export_path(self) -> str:
        """Return a new folder's name for a SavedModel of this run: its versions are numbers, as servers want them."""
        folder = self._place.exports or "export"
        os.makedirs(folder, exist_ok=True)
        versions = [int(name) for name in os.listdir(folder) if name.isdecimal()]
        return os.path.join(folder, str(max(versions, default=0) + 1))


def _say(text: str) -> None:
    sys.stderr.write(f"slurm_tf.train: {text}\n")
    sys.stderr.flush()
