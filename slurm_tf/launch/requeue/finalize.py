"""Ends an attempt once its programs have ended: decides whether the run goes on in another one, and arranges that."""

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

# How long Slurm may take to end a job that is requeued, or that it preempts.
_END_SECONDS = 120.0
# How long the search for bad nodes may take (launch/nodes/exclusion.py).
_SEARCH_SECONDS = 30.0

# Writes the attempt's outcome and state to status.json.
Show = Callable[[Outcome, AttemptState], None]


class Finalizer:
    """Ends one attempt: records its cause, requeues the job or submits another one, and waits for its end."""

    def __init__(
        self,
        context: JobContext,
        settings: LaunchSettings,
        record: AttemptRecorder,
        signals: SignalPipe,
        exclusion: Exclusion,
        say: Callable[[str], None],
    ) -> None:
        self._context, self._settings, self._record = context, settings, record
        self._signals, self._exclusion, self._say = signals, exclusion, say

    def is_over(self, outcome: Outcome, termination: Termination) -> bool:
        """Return whether no attempt follows, as far as that is certain while the agents still are there."""
        try:
            lease.check(self._context.folder, self._record.attempt.id)
            return self._decide(outcome, termination).cause is EndCause.NONE
        except ProgressError:
            return True
        except (RunError, OSError):
            return False

    def conclude(self, outcome: Outcome, termination: Termination, show: Show) -> Outcome:
        """Record how the attempt ended, and have the run go on if it is to; return how the job ends."""
        why_not = self._why_it_does_not_go_on()
        try:
            retried = self._decide(outcome, termination)
        except ProgressError as error:
            retried, outcome = retry.Retry(), Outcome(error.exit_code, str(error))
        except (RunError, OSError) as error:
            retried, outcome, why_not = retry.Retry(), replace(outcome, reason=f"{outcome.reason}; {error}"), ""
        cancelled = termination.cause is EndCause.CANCEL or self._context.is_cancelled
        cause, goes_on = retried.cause, retried.cause.goes_on
        if not goes_on and cancelled:
            cause = EndCause.CANCEL
        elif not goes_on and outcome.cause is OutcomeCause.TERMINATION and termination.cause.is_interruption:
            cause = termination.cause
            outcome = replace(outcome, reason=outcome.reason + why_not)
        elif outcome.cause is OutcomeCause.TASK_LOST and not self._settings.goes_on:
            outcome = replace(outcome, reason=outcome.reason + why_not)
        self._record.ended(cause, outcome.code, outcome.reason, is_last=not goes_on)
        if cause is EndCause.UNKNOWN:
            show(outcome, AttemptState.WAITS_FOR_SLURM)
            self._wait_for_the_end()
        elif goes_on:
            return self._go_on(outcome, termination, show, retried.wait)
        elif outcome.code:
            self._exclusion.finish(_SEARCH_SECONDS, goes_on=False)
        return outcome

    def _decide(self, outcome: Outcome, termination: Termination) -> retry.Retry:
        """Return whether and why the run goes on. Raises ProgressError, RunError or OSError."""
        settings = self._settings
        if outcome.code == 0 or not settings.goes_on or not self._context.job or self._context.is_cancelled:
            return retry.Retry()
        # on a node that was cut off, this may be a former attempt of a job that runs again: it must not requeue the job
        lease.check(self._context.folder, self._record.attempt.id)
        if termination.cause is EndCause.CANCEL or (termination.begun and termination.cause is EndCause.NONE):
            return retry.Retry()
        if outcome.cause is OutcomeCause.CANNOT_START:
            return retry.Retry()
        jobs = set(self._context.line)
        if outcome.cause is not OutcomeCause.TERMINATION:
            return retry.decide(
                settings.retry, outcome.code, outcome.cause is OutcomeCause.TASK_LOST, self._record, jobs
            )
        cause = termination.cause
        loses_work = not (termination.can_save or self._record.speaks or self._record.attempt.only_staged)
        if cause not in (EndCause.PREEMPTION, EndCause.UNKNOWN) and loses_work:
            return retry.Retry()
        attempt = replace(self._record.attempt, cause=cause, ended=time.time(), reason=outcome.reason)
        attempts.check([*self._record.former, attempt], jobs, settings.retry.fruitless)
        return retry.Retry(cause)

    def _go_on(self, outcome: Outcome, termination: Termination, show: Show, wait: float) -> Outcome:
        is_stopped = _Stopped(self._signals, termination.ends_at)
        exclusion = self._exclusion
        exclusion.begin()
        if outcome.cause is not OutcomeCause.TERMINATION:  # in a termination Slurm may kill this process soon
            exclusion.finish(_SEARCH_SECONDS)
        try:
            arranged = continuation.arrange(
                self._context, termination.ends_at, wait, is_stopped, lambda: exclusion.nodes
            )
        except (RunError, OSError) as error:
            arranged = continuation.Continuation(False, str(error))
        reason = f"{outcome.reason}; {arranged.description}"
        if arranged.waits:
            exclusion.finish(_SEARCH_SECONDS)
            reason += exclusion.apply()
        if arranged.is_arranged:
            reason += self._what_is_lost()
            self._say(reason)
            show(replace(outcome, reason=reason), AttemptState.REQUEUED)
            if arranged.waits:  # a job that follows starts only when this one has ended
                self._wait_for_the_end()
            return Outcome(env.INTERRUPTED, "")
        if is_stopped():
            self._record.ended(EndCause.CANCEL, outcome.code, reason)
        elif outcome.cause is OutcomeCause.TERMINATION:
            # Slurm may requeue the job by itself, unless its script ends first
            show(replace(outcome, reason=reason), AttemptState.WAITS_FOR_SLURM)
            self._wait_for_the_end()
        return replace(outcome, reason=reason)

    def _why_it_does_not_go_on(self) -> str:
        """Return a clause that says why no attempt follows an interruption after which one could."""
        if not self._context.job:
            return ""
        if self._settings.serve:
            return "; the next job of the service takes over"
        if not self._settings.goes_on:
            return "; the run does not go on, as it was submitted with no-requeue"
        return "; the run does not go on: it has told of no checkpoint, and would start over"

    def _what_is_lost(self) -> str:
        """Return a clause for a program of which nothing is known to be saved, "" for another, or if none has run."""
        if self._record.speaks or self._settings.checkpoint_signal or self._record.attempt.only_staged:
            return ""
        return "; it has told of no checkpoint: unless the program saves by itself, it starts over"

    def _wait_for_the_end(self) -> None:
        continuation.wait_for_the_end(_END_SECONDS, _Stopped(self._signals, None))


class _Stopped:
    """Whether a SIGTERM or SIGINT has come since; a SIGTERM at the job's time limit, `ends_at`, does not count."""

    def __init__(self, signals: SignalPipe, ends_at: Optional[float]) -> None:
        self._signals, self._ends_at, self._stopped = signals, ends_at, False

    def __call__(self) -> bool:
        received = self._signals.read() & {signal.SIGTERM, signal.SIGINT}
        expected = self._ends_at is not None and time.monotonic() >= self._ends_at - AT_THE_LIMIT
        self._stopped = self._stopped or bool(received and not (expected and signal.SIGINT not in received))
        return self._stopped
