"""Writes the status of an attempt to the run's folder (run/status.py), where `slurm-tf status` reads it."""

import math
import os
import time
from dataclasses import replace
from typing import Callable, List, Mapping, Optional

from slurm_tf.launch.job_context import attempt_id
from slurm_tf.run import lease, status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.program_messages import ProgressReport
from slurm_tf.run.status import AttemptState, Progress, RunStatus, StagingStatus, StragglerReport, TaskState, TaskStatus

# Seconds from a change to the write of the file, which has all changes of that time: of states, and of progress.
_STATE_SECONDS = 0.2
_PROGRESS_SECONDS = 2.0
# How many metrics of a program are kept, and how many characters of their names.
_MAX_METRICS, _MAX_NAME = 32, 64


class StatusWriter:
    """Holds the status of one attempt, and writes it to the status file a short time after each change."""

    def __init__(
        self,
        folder: RunFolder,
        run: str,
        planned: List[str],
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """`planned`: the tasks by name; `environ`: the batch script's; `say` prints that the file cannot be written."""
        self._folder, self._attempt, self._say = folder, attempt_id(environ), say
        self._due: Optional[float] = None
        self._failed = False
        self._tasks = {name: TaskStatus() for name in planned}
        self._status = RunStatus(
            run=run,
            job=environ.get("SLURM_JOB_ID", ""),
            attempt=int(environ.get("SLURM_RESTART_COUNT") or 0),
            host=os.uname().nodename,
            started=time.time(),
            state=AttemptState.REGISTERING,
        )
        self.write()

    def show(self, state: AttemptState, restarts: int, stragglers: Optional[StragglerReport]) -> None:
        """Record the state of the attempt, how many restarts it had, and which tasks are slow."""
        self._change(replace(self._status, state=state, restarts=restarts, stragglers=stragglers))

    def staging(self, status: Optional[StagingStatus]) -> None:
        """Record how far the nodes' copies are; None: they are done."""
        state = AttemptState.STAGING if status else AttemptState.REGISTERING
        self._change(replace(self._status, state=state, staging=status))

    def decided(self, code: int, reason: str, failed: str) -> None:
        """Record how the attempt is about to end; `failed`: the task that failed first, "" for none."""
        self._change(replace(self._status, code=code, reason=reason, failed=failed))

    def conclude(self, state: AttemptState, code: Optional[int], reason: str) -> None:
        """Record how the attempt ended, and write the file at once."""
        self._change(replace(self._status, state=state, code=code, reason=reason, staging=None))
        self.write()

    def task(self, name: str, state: TaskState, node: Optional[str] = None, restarts: Optional[int] = None) -> None:
        """Record a task's state; its node and the number of its restarts where they are given."""
        task = replace(self._known(name), state=state, error=None, joined=None)
        task = task if node is None else replace(task, node=node)
        self._tasks[name] = task if restarts is None else replace(task, restarts=restarts)
        self._write_in(_STATE_SECONDS)

    def task_ended(self, name: str, code: Optional[int], error: str) -> None:
        """Record that a task has ended with `code`, or for None that it is lost, and why, "" if it did not say."""
        state = TaskState.LOST if code is None else TaskState.ENDED
        self._tasks[name] = replace(self._known(name), state=state, code=code, error=error or None)
        self._write_in(_STATE_SECONDS)

    def task_joined(self, name: str, joined: bool) -> None:
        """Record that a task has joined the cluster, or that it trains alone."""
        self._tasks[name] = replace(self._known(name), joined=joined)
        self._write_in(_STATE_SECONDS)

    def progress(self, name: str, report: ProgressReport) -> None:
        """Show what the program of task `name` reported of its progress."""
        metrics = list(report.values.items())[:_MAX_METRICS]
        progress = Progress(
            step=_finite(report.step),
            steps=_finite(report.steps),
            rate=_finite(report.rate),
            values={key[:_MAX_NAME]: _finite(value) for key, value in metrics},
            at=time.time(),
        )
        self._tasks[name] = replace(self._known(name), progress=progress)
        self._write_in(_PROGRESS_SECONDS)

    def tick(self, now: float) -> None:
        """Write the file, if it is due."""
        if self._due is not None and now >= self._due:
            self.write()

    def flush(self) -> None:
        """Write the file now, if anything has changed."""
        if self._due is not None:
            self.write()

    @property
    def wakes_at(self) -> Optional[float]:
        """When the file is due, None without a change."""
        return self._due

    def write(self) -> None:
        """Write the file now, unless another attempt has the run. An error, as of a full disk, is printed once."""
        self._due = None
        if lease.is_taken_over(self._folder, self._attempt):
            return
        try:
            status.write(self._folder, replace(self._status, tasks=self._tasks, written=time.time()))
        except OSError as error:
            if not self._failed:
                self._say(f"cannot write {self._folder.status}: {error.strerror}")
            self._failed = True

    def _known(self, name: str) -> TaskStatus:
        return self._tasks.get(name, TaskStatus())

    def _change(self, changed: RunStatus) -> None:
        if changed != self._status:
            self._status = changed
            self._write_in(_STATE_SECONDS)

    def _write_in(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        self._due = due if self._due is None else min(self._due, due)


def _finite(value: Optional[float]) -> Optional[float]:
    """Return a number that JSON can hold, None for another: a loss may be NaN."""
    return value if value is not None and math.isfinite(value) else None
