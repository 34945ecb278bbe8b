"""Reports how far training is: in the output, for `slurm-tf results`, and for `slurm-tf status`."""

import atexit
import time
from typing import Any, Dict, Optional, Tuple

import numpy as np
import tensorflow as tf

from slurm_tf.run import checkpoint_folder
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.program_messages import ProgressReport
from slurm_tf.run.progress import ProgressWriter
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.task_context import TaskContext
from slurm_tf.train.train_log import log


class ProgressReports:
    """The reports of one task. `resumed_at`: the step that it continues at; None before that is known.

    `values`: the numbers that were recorded last, by name, all of one step.
    """

    def __init__(self, writer: Optional[ProgressWriter], agent: Optional[AgentConnection], prints: bool) -> None:
        """`writer`: of the run's progress; None in a task that records none, or outside of a run."""
        self._writer, self._agent, self._prints = writer, agent, prints
        self.resumed_at: Optional[int] = None
        self.values: Dict[str, float] = {}
        self._values_step = -1
        self._last: Optional[Tuple[float, int]] = None
        self._rate = 0.0
        if writer:
            atexit.register(writer.flush)

    def flush(self) -> None:
        """Write what was recorded."""
        if self._writer:
            self._writer.flush()

    def report(self, step: int, steps: int, values: Dict[str, Any], is_recorded: bool = True) -> None:
        """Print a line with the values, and record the numbers among them, in a task that prints."""
        if not self._prints:
            return
        numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
        rate = self.record(step, steps, numbers, is_recorded)
        columns = [f"step {step}/{steps}" if steps else f"step {step}"]
        columns += [f"{name} {numbers[name]:.4f}" if name in numbers else f"{name} {values[name]}" for name in values]
        print("  ".join(columns + ([f"{rate:.1f} steps/s"] if rate > 0 else [])), flush=True)

    def report_fit(self, step: int, steps: int, is_epoch: bool, below_bar: bool, **values: Any) -> None:
        """Report a step of `fit`, on a line of its own where Keras has drawn its bar, which it draws again below.

        Within an epoch Keras' metrics are means over the part of it that is done: `slurm-tf results` would compare
        means of few samples with those of whole epochs, so only these are recorded.
        """
        if below_bar and self._prints:
            print(flush=True)
        self.report(step, steps, values, is_epoch)

    def record(self, step: int, steps: int, values: Dict[str, float], is_recorded: bool = True) -> float:
        """Tell `slurm-tf status` of the progress, and record it; return the steps per second since the last report."""
        if is_recorded:
            self.values = {**(self.values if step == self._values_step else {}), **values}
            self._values_step = step
        if self._writer and is_recorded and values:
            self._writer.add(int(step), values, self.resumed_at)
        now = time.monotonic()
        if self._last is not None and step != self._last[1]:
            self._rate = (step - self._last[1]) / (now - self._last[0])
        if self._last is None or step != self._last[1]:
            self._last = (now, step)
        if self._agent:
            self._agent.send(ProgressReport(step, steps, self._rate, values))
        return self._rate


def _is_number(value: object) -> bool:
    """Whether a value is a float, also one of numpy, or a scalar tensor or variable of TensorFlow."""
    if isinstance(value, (float, np.floating)):
        return True
    return (tf.is_tensor(value) or isinstance(value, tf.Variable)) and value.shape.rank == 0 and value.dtype.is_floating  # type: ignore[attr-defined]


def opened(
    task: TaskContext, agent: Optional[AgentConnection], is_chief: bool, fence: checkpoint_folder.Fence
) -> ProgressReports:
    """Return the reports of a task: of those in a run, the chief and the evaluator record them."""
    reports = is_chief or task.role == "evaluator"
    if not task.run_folder or not reports:
        return ProgressReports(None, agent, reports)
    folder = RunFolder(task.run_folder)
    path = folder.progress if is_chief else folder.evaluator_progress
    writer = ProgressWriter(path, f"{task.attempt}/{task.restarts}", fence, log)
    return ProgressReports(writer, agent, reports)
