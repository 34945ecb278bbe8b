"""What a user's program calls: `init`, and the `Run` that it returns."""

import contextlib
import functools
import os
import sys
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import tensorflow as tf

from slurm_tf.errors import CheckpointError, UsageError
from slurm_tf.run import checkpoint_folder
from slurm_tf.run.program_messages import CheckpointCommitted, Phase, TensorFlowVersion
from slurm_tf.train import devices, hparams, progress_reports, training_loop
from slurm_tf.train.agent_connection import AgentConnection, ignore_slurm_signals
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.checkpoint import evaluator_steps, local_state, parameter_servers
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.collectives import allreduce, replica_check, strategies
from slurm_tf.train.collectives.step_clock import StepClock, TimedCollective
from slurm_tf.train.data import iterator_positions
from slurm_tf.train.data.task_data import TaskData
from slurm_tf.train.keras import image_bytes, one_task
from slurm_tf.train.keras.model_files import ModelFiles
from slurm_tf.train.model_exports import ModelExports
from slurm_tf.train.task_context import TaskContext
from slurm_tf.train.train_log import log

# Strategies whose tasks train the same model in lockstep, each on its own part of every batch.
_LOCKSTEP = ("multi_worker", "horovod")
# Strategies under which variables must be created in the scope of the tf.distribute strategy.
_SCOPED = ("mirrored", "ps")


def init() -> "Run":
    """Return this task's run. Collective. Workers and parameter servers of strategy ps serve here and never return.

    Exits with 65 if the role of this task asked for GPUs and TensorFlow has none, unless the job says gpus-optional.
    """
    task = TaskContext.from_environ(os.environ)
    devices.check(task)
    agent = None if task.agent_fd is None else AgentConnection(task.agent_fd)
    if task.strategy == "ps" and task.role in ("worker", "ps"):
        strategies.run_server(task, agent, parameter_servers.handle_flush)
    if task.settings.mixed_precision:
        # Layers take the policy when they are created. tf.keras is Keras 3 or tf_keras, whichever the user has chosen.
        for keras in {tf.keras, sys.modules.get("tf_keras", tf.keras)}:
            keras.mixed_precision.set_global_policy(f"mixed_{task.settings.mixed_precision}")
    return Run(task, agent)


class Run(TaskData):
    """One task's view of the run; the methods that make its data sets are those of TaskData.

    `role`, `index`: its task in the cluster. `rank` of `size`: its number among the tasks that train in lockstep.
    `is_chief`: it reports, writes checkpoints and exports. `step`: where training starts, from the checkpoint.
    `strategy`: the tf.distribute strategy, for programs that use it directly. `params`: the values of the job's params.
    """

    def __init__(self, task: TaskContext, agent: Optional[AgentConnection]) -> None:
        self.role, self.index, self.params = task.role, task.index, task.params
        rank, size = (task.rank, task.size) if task.strategy in _LOCKSTEP else (0, 1)
        self.step = 0
        is_evaluator = self.role == "evaluator"
        self.is_chief = rank == 0 and not is_evaluator
        in_lockstep = task.strategy in _LOCKSTEP and size > 1
        self._boundary = StepBoundary(agent, self.is_chief, in_lockstep, saves_in_pauses=task.strategy != "ps")
        if agent:
            agent.start(self.is_chief, self._boundary.handle_sync_request, self._boundary.interrupt)
            agent.send(TensorFlowVersion(tf.__version__))
        strategy = tf.distribute.get_strategy() if is_evaluator else strategies.create_strategy(task)
        self._collective: allreduce.Collective = allreduce.SingleTaskCollective()
        if not is_evaluator:
            self._collective = strategies.create_collective(task, strategy)
        if agent and in_lockstep and not is_evaluator:
            self._boundary.clock = StepClock()
            self._collective = TimedCollective(self._collective, self._boundary.clock)
        coordinator: Any = None
        if task.strategy == "ps" and not is_evaluator:
            coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        if agent:
            ignore_slurm_signals()
        fence = checkpoint_folder.fence(task.run_folder, task.attempt, task.slurm_step)
        self._progress = progress_reports.opened(task, agent, self.is_chief, fence)
        self._exports = ModelExports(task, self.is_chief, fence, self._boundary, self._progress)
        super().__init__(task, agent, rank, size, strategy, coordinator, self._exports.add_data_set)
        self._saved = ModelFiles(task.export_folder, self.is_chief, fence)
        self._adopt_keras()
        self._tracked: List[Any] = []
        self._iterators: List[Any] = []
        self._has_position = False
        self._checkpoint: Optional[tf.train.Checkpoint] = None
        self._checkpoints = self._open_checkpoints(fence)
        self._is_between_steps = False
        if self.is_chief and task.tensorboard_folder and task.params:
            hparams.write(task.tensorboard_folder, task.params)

    def _adopt_keras(self) -> None:
        """Have Keras save models in one task, and draw bars in rank 0; a program alone and outside of a run is left."""
        if self._task.export_folder or self.size > 1 or not self.is_chief:
            one_task.adopt(self._saved, shows_bars=self.rank == 0)

    def scope(self) -> ContextManager[Any]:
        """Return the scope to create the model and its optimizer in."""
        self._adopt_keras()
        if self._task.strategy in _SCOPED and self.role != "evaluator":
            scope: ContextManager[Any] = self.strategy.scope()
            return scope
        return contextlib.nullcontext()

    # --- collectives ---

    @without_autograph
    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor, dense, over the tasks and replicas that train in lockstep. Collective.

        For the gradients of a loop of the program's own. Under ps it returns the tensors of the calling worker, as
        workers do not wait for each other.
        """
        if self._coordinator is not None:
            return [tf.convert_to_tensor(tensor) for tensor in tensors]
        return self._collective.mean(tensors)

    def check_replicas(self, variables: Sequence[Any]) -> None:
        """Raise ReplicaError unless `variables` have the same bits in all tasks that train. Collective.

        `loop` and `callbacks` do this after the first steps, with the variables that are trained.
        """
        replica_check.compare(self._collective, variables)

    def _replica_check(self) -> replica_check.ReplicaCheck:
        return replica_check.ReplicaCheck(self._collective, lambda: replica_check.trainable_variables(self._tracked))

    # --- checkpoints ---

    def checkpoint(self, **tracked: Any) -> None:
        """Have `loop` save `tracked` (models, optimizers, variables), and restore the newest checkpoint now.

        Collective: afterwards every task has rank 0's variables. Sets `step`. Of an iterator of tf.data, which is then
        the data of `loop`, each task's position is saved. Raises UsageError for one whose position cannot be.
        """
        self._adopt_keras()
        kept, self._iterators = iterator_positions.separated(tracked, self._task.strategy)
        self._tracked = tf.nest.flatten(kept)
        self._checkpoint = tf.train.Checkpoint(**kept)
        if self.role == "evaluator":
            return
        local_variables = local_state.variables(self._tracked, self.size)
        found = self._restore(local_variables)
        self._progress.resumed_at = self.step
        if found and self.is_chief:
            log(f"resumed at step {found.step} from {found.path}")
        what = self._checkpoint, local_variables, self._iterators
        self._boundary.track(self.step, self._collective, self._checkpoints, *what)

    def _restore(self, local_variables: Sequence[Any]) -> Optional[checkpoint_folder.Committed]:
        """Restore the newest checkpoint that rank 0 can read, in all tasks, and set `step`. Collective."""
        checkpoints, checkpoint = self._checkpoints, self._checkpoint
        found = None
        if checkpoints and checkpoint and self.is_chief:
            found = checkpoints.restore(checkpoint, self._task.export_step)
            if found is None and self._task.export_step is not None:
                raise CheckpointError(f"the checkpoint of step {self._task.export_step} cannot be read")
        self.step = found.step if found else 0
        if self.size > 1:
            (step,) = self._collective.sum([tf.constant(found.step if found else -1 * self.is_chief, tf.int64)])
            if checkpoints and checkpoint and step >= 0 and not self.is_chief:
                # For variables that are created later. It restores nothing on an NFS client that does not see the
                # new files yet.
                checkpoints.restore(checkpoint, int(step))
            self.step = max(int(step), 0)
            allreduce.broadcast(self._collective, replica_check.shared_variables(self._tracked))
        local_state.restore(self._collective, found.read(local_state.FILE) if found else None, local_variables)
        positions = found.read(iterator_positions.FILE) if found else None
        self._has_position = iterator_positions.restore(self._collective, positions, self._iterators)
        return found

    def _open_checkpoints(self, fence: checkpoint_folder.Fence) -> Optional[Checkpoints]:
        task, folder, agent = self._task, self._task.checkpoint_folder, self._agent
        if not folder:
            return None
        flush: Callable[[str], None] = checkpoint_folder.flush_files
        if self._coordinator is not None:
            parameter_servers.check_shared(folder, task.parameter_servers)
            if agent:
                flush = functools.partial(parameter_servers.flush_everywhere, agent=agent)
        of = task.settings
        checkpoints = Checkpoints(
            folder, of.checkpoint_keep, of.checkpoint_every, of.checkpoint_every_steps, flush,
            asynchronous=self._coordinator is None, on_commit=self._on_commit, fence=fence, mtbf=of.mtbf,
        )  # fmt: skip
        if self.is_chief and task.export_step is None:
            checkpoints.remove_unfinished()
        return checkpoints

    def _on_commit(self, step: int, *_: object) -> None:
        self._progress.flush()
        if self._agent:
            self._agent.send(CheckpointCommitted(step))

    # --- training ---

    def loop(
        self, step: Callable[[Any], Dict[str, Any]], data: Any, steps: int, every: int = 100
    ) -> Iterator[Tuple[int, Dict[str, float]]]:
        """Train: run `step(batch)`, which returns named scalars, from the step of the checkpoint up to `steps`.

        Yields the number of steps done and the means of the scalars after each `every` steps, and saves when due. An
        evaluator does not train: it restores each new checkpoint and yields its step, up to that of the last one.
        """
        if self.role == "evaluator":
            for done in evaluator_steps.restore_each(self._checkpoint, self._task.checkpoint_folder, steps):
                yield done, {}
            return
        if (accumulate := self._task.settings.accumulate) > 1:
            raise UsageError(f"found train.accumulate={accumulate} and run.loop", "model.fit for it")
        if self._task.export_step is not None:
            return
        if self._iterators and not any(data is each for each in self._iterators):
            raise UsageError("found other data in run.loop", "the iterator that run.checkpoint has got")
        self._log_if_data_starts_anew()
        boundary, checks = self._boundary, (self._replica_check(), self._boundary, self._check_data)
        loop = (
            training_loop.ParameterServerLoop(step, data, self._coordinator, self._task.workers, boundary)
            if self._coordinator is not None
            else training_loop.LockstepLoop(step, data, self._batches, self._collective, self.strategy, *checks)
        )
        boundary.enter_phase(Phase.COMPILE)
        while self.step < steps:
            # yields at the same steps after a resume as without one
            self.step, logs = loop.run(self.step, min(self.step - self.step % every + every, steps), steps)
            self._progress.record(self.step, steps, logs)
            with self._boundary.pause():
                self._is_between_steps = True
                yield self.step, logs
                self._is_between_steps = False

    def _log_if_data_starts_anew(self) -> None:
        is_positioned = self._has_position if self._iterators else self._batches
        if self.step and not is_positioned and self.is_chief:
            which = "the samples of each worker" if self._coordinator else "a data set that is not of run.batches"
            log(f"the checkpoint has no position in the data: {which} starts anew")

    def callbacks(self, model: Any, max_pixel: Optional[float] = None) -> List[Any]:
        """Return the callbacks for `model.fit`, and prepare the compiled model for it. Collective.

        A model without variables is built for the newest data of `batches` or `dataset`. Put the callbacks before your
        own, which then see the metrics of all tasks. `max_pixel`: as `export` has it, for the versions that `[export]
        every` has `model.fit` export. Raises ModelError if the model is none of images then.
        """
        from slurm_tf.train.keras import fit

        if self._coordinator is not None:
            raise UsageError("model.fit under strategy ps", "run.loop", "Keras 3 cannot fit on parameter servers")
        with self.scope():
            fit.prepare(model, self._collective, self._batches, self._task.settings.accumulate, self._inputs)
        if max_pixel is not None:
            image_bytes.check(model)
        position = {"data": self._passes.iterator} if self._passes else {}
        self.checkpoint(model=model, optimizer=model.optimizer, **position)
        self._log_if_data_starts_anew()
        state = (self._collective, self._batches, self._boundary, self._progress.report_fit, self._check_data)
        after_epoch = functools.partial(self._exports.export_if_due, model, max_pixel)
        return [fit.callback(model, *state, after_epoch, self._task.export_step is None, self._passes)]

    # --- progress and results ---

    def report(self, step: int, steps: int = 0, **values: Any) -> None:
        """Print a line of progress, and record the numbers among `values` for `slurm-tf results`.

        Only the chief and the evaluator do; in other tasks it does nothing.
        """
        self._progress.report(step, steps, values)

    def model_path(self, name: str = "model.keras") -> str:
        """Return the path of the run's model `name`, for `model.save` in every task: one writes. Raises UsageError."""
        return self._saved.path(name)

    def export(
        self,
        model: Any,
        metrics: Optional[Mapping[str, float]] = None,
        signatures: Any = None,
        check: Optional[Mapping[str, Any]] = None,
        max_pixel: Optional[float] = None,
    ) -> str:
        """Export `model`, a tf.Module or a Keras model, as the next version; return its path, "" in all but the chief.

        It is checked in a process of its own. One that fails, or is worse than the served version by [export] of the
        job file, is kept aside. Between two steps of `loop` that is in the background, once `[export] every` is over.

        `metrics`: of this model, by name; default: what was reported last. `signatures`: as tf.saved_model.save takes
        them. `check`: inputs of a signature by name, as arrays; default: made-up ones. `max_pixel`: the value of white
        in a Keras model of images, which takes files of PNG and JPEG as well then. Raises ModelError and StorageError.
        """
        return self._exports.export(model, metrics, signatures, max_pixel, check or {}, self._is_between_steps)
