"""Ends an attempt once its programs have ended: the run is over, or it goes on in another attempt."""

import signal
import time
from dataclasses import replace
from typing import Callable, Optional

from slurm_tf.errors import ProgressError, RunError
from slurm_tf.launch.decide import retry
from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.decide.termination import AT_THE_LIMIT, Termination
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.requeue import continuation
from slurm_tf.launch.transport.signal_pipe import SignalPipe
from slurm_tf.run import attempts, env, lease
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.run.status import AttemptState

# How long Slurm may take to end a job that is put back into the queue, or that it preempts.
_END_SECONDS = 120.0
# How long the nodes may be looked at.
_LOOK_SECONDS = 30.0

# Write the job's outcome and state into the run's status.
Show = Callable[[Outcome, AttemptState], None]


class Finalizer:
    """The end of one attempt."""

    def __init__(
        self,
        place: JobContext,
        settings: LaunchSettings,
        record: AttemptRecorder,
        signals: SignalPipe,
        exclusion: Exclusion,
        say: Callable[[str], None],
    ) -> None:
        self._place, self._settings, self._record = place, settings, record
        self._signals, self._exclusion, self._say = signals, exclusion, say

    def conclude(self, outcome: Outcome, termination: Termination, show: Show) -> Outcome:
        """Return how the job ends, after all has been done so that the run can go on."""
        try:
            next_one = self._next(outcome, termination)
        except ProgressError as error:
            next_one, outcome = retry.Retry(), Outcome(error.exit_code, str(error))
        except (RunError, OSError) as error:
            next_one, outcome = retry.Retry(), replace(outcome, reason=f"{outcome.reason}; {error}")
        cancelled = termination.cause is EndCause.CANCEL or self._place.is_cancelled
        cause = EndCause.CANCEL if cancelled and not next_one.cause.goes_on else next_one.cause
        self._record.ended(cause, outcome.code, outcome.reason)
        if cause is EndCause.UNKNOWN:
            show(outcome, AttemptState.WAITS_FOR_SLURM)
            self._wait_for_the_end()
        elif next_one.cause.goes_on:
            return self._go_on(outcome, termination, show, next_one.wait)
        elif outcome.code:
            self._exclusion.finish(_LOOK_SECONDS, goes_on=False)
        return outcome

    def _next(self, outcome: Outcome, termination: Termination) -> retry.Retry:
        """Return why the run goes on. Raises ProgressError, RunError or OSError."""
        settings = self._settings
        if outcome.code == 0 or not settings.goes_on or not self._place.job or self._place.is_cancelled:
            return retry.Retry()
        # cut off for a while, this may be a former incarnation of a job that runs again: not to be put back by us
        lease.check(self._place.folder, self._record.own.id)
        if termination.cause is EndCause.CANCEL or (termination.begun and termination.cause is EndCause.NONE):
            return retry.Retry()
        if outcome.cause is OutcomeCause.CANNOT_START:
            return retry.Retry()
        jobs = set(self._place.line)
        if outcome.cause is not OutcomeCause.TERMINATION:
            return retry.decide(
                settings.retry, outcome.code, outcome.cause is OutcomeCause.TASK_LOST, self._record, jobs
            )
        cause = termination.cause
        if cause not in (EndCause.PREEMPTION, EndCause.UNKNOWN) and not (termination.can_save or self._record.speaks):
            return retry.Retry()
        own = replace(self._record.own, cause=cause, ended=time.time(), reason=outcome.reason)
        attempts.check([*self._record.former, own], jobs, settings.retry.fruitless)
        return retry.Retry(cause)

    def _go_on(self, outcome: Outcome, termination: Termination, show: Show, wait: float) -> Outcome:
        is_stopped = _Stopped(self._signals, termination.ends_at)
        nodes = self._exclusion
        nodes.begin()
        if outcome.cause is not OutcomeCause.TERMINATION:  # else every second may count
            nodes.finish(_LOOK_SECONDS)
        try:
            after = continuation.arrange(self._place, termination.ends_at, wait, is_stopped, lambda: nodes.nodes)
        except (RunError, OSError) as error:
            after = continuation.Continuation(False, str(error))
        reason = f"{outcome.reason}; {after.words}"
        if after.waits:
            nodes.finish(_LOOK_SECONDS)
            reason += nodes.apply()
        if after.is_arranged:
            self._say(reason)
            show(replace(outcome, reason=reason), AttemptState.REQUEUED)
            if after.waits:  # another job waits for the end of this one
                self._wait_for_the_end()
            return Outcome(env.INTERRUPTED, "")
        if is_stopped():
            self._record.ended(EndCause.CANCEL, outcome.code, reason)
        elif outcome.cause is OutcomeCause.TERMINATION:
            # Slurm may put the job back by itself, unless its script ends first
            show(replace(outcome, reason=reason), AttemptState.WAITS_FOR_SLURM)
            self._wait_for_the_end()
        return replace(outcome, reason=reason)

    def _wait_for_the_end(self) -> None:
        continuation.wait_for_the_end(_END_SECONDS, _Stopped(self._signals, None))


class _Stopped:
    """Whether a signal has come that says: end now. Of a SIGTERM at the job's time limit nobody is to blame."""

    def __init__(self, signals: SignalPipe, ends_at: Optional[float]) -> None:
        self._signals, self._ends_at, self._stopped = signals, ends_at, False

    def __call__(self) -> bool:
        came = self._signals.read() & {signal.SIGTERM, signal.SIGINT}
        expected = self._ends_at is not None and time.monotonic() >= self._ends_at - AT_THE_LIMIT
        self._stopped = self._stopped or bool(came and not (expected and signal.SIGINT not in came))
        return self._stopped
