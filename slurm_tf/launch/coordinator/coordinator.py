"""The coordinator of a job, on the batch host: starts the step, sees its tasks through, decides the job's exit code."""

import os
import secrets
import selectors
import signal
import time
from dataclasses import replace
from typing import FrozenSet, List, Optional, Sequence

from slurm_tf.errors import ContainerError, SlurmTfError, StepError, StoppedError
from slurm_tf.launch.coordinator import oci_containers
from slurm_tf.launch.coordinator.registration_phase import RegistrationPhase
from slurm_tf.launch.coordinator.signal_monitor import SignalMonitor
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.launch.coordinator.step import Step
from slurm_tf.launch.coordinator.task_connections import TaskConnections
from slurm_tf.launch.coordinator.training_phase import TrainingPhase
from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause, RestartPolicy
from slurm_tf.launch.decide.termination import Termination, TerminationAction
from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.log import say
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.requeue.finalize import Finalizer
from slurm_tf.launch.requeue.successor import Successor
from slurm_tf.launch.transport import connections, ports
from slurm_tf.launch.transport.connections import Connection
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    HeartbeatReply,
    HeartbeatRequest,
)
from slurm_tf.launch.transport.signal_pipe import REPORTED, SignalPipe
from slurm_tf.run import lease
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.settings import ENGINE, LaunchSettings
from slurm_tf.run.status import AttemptState, TaskState
from slurm_tf.slurm import in_job, out_of_memory

# Connections that never prove the secret are ended without a wake-up of their own.
_LOOK_SECONDS = 10.0
# How long the machine of a lost agent may take to answer.
_ANSWER_SECONDS = 3.0


class Coordinator:
    """One attempt of a run: its steps one after the other, each with a registration and a training phase."""

    def __init__(
        self,
        context: JobContext,
        settings: LaunchSettings,
        launchers: Sequence[Sequence[str]],
        record: Optional[AttemptRecorder],
    ) -> None:
        """`launchers`: the commands that start one agent a task: srun, several where roles with different needs share
        nodes, or launch/direct/local_tasks.py.

        `record`: None for a preflight alone.
        """
        self._context, self._settings, self._launchers, self._record = context, settings, list(launchers), record
        self._selector = selectors.DefaultSelector()
        self._signals = SignalPipe(self._selector, (*REPORTED, signal.SIGCHLD))
        self._of_images: FrozenSet[str] = frozenset()
        self._secret = secrets.token_bytes(32)
        self._server = connections.Server(self._selector, self._secret, say, settings.coordinator_ports, settings.local)
        self._tasks = TaskConnections(self._server)
        self._planned = [f"{role}:{index}" for role, index in settings.tasks]
        self._status = StatusWriter(context.folder, settings.run, self._planned, os.environ, say)
        self._policy = RestartPolicy(settings)
        self._termination = Termination(settings)
        self._exclusion = Exclusion(context, say)
        self._signal_monitor = SignalMonitor(context, self._termination, record, settings.local, say)
        self._successor = Successor(context, settings.serve.overlap, say) if settings.serve and record else None
        self._training = TrainingPhase(
            context,
            settings,
            self._tasks,
            self._status,
            self._policy,
            self._termination,
            self._signal_monitor,
            self._exclusion,
            record,
        )

    def run(self) -> int:
        """Run the job; return the exit code that is the job's."""
        connections.raise_file_limit()
        try:
            self._of_images = oci_containers.prepare(self._context, self._settings)
        except ContainerError as error:
            return self._conclude(Outcome(error.exit_code, str(error), OutcomeCause.CANNOT_START))
        self._start_step()
        try:
            outcome = self._training.judge(self._loop())
        except StoppedError as error:
            outcome = Outcome(error.exit_code, str(error), OutcomeCause.TERMINATION)
            if self._record and self._termination.is_staging:
                self._record.only_stages()
        except (ContainerError, StepError) as error:
            outcome = Outcome(error.exit_code, str(error), OutcomeCause.CANNOT_START)
        except (SlurmTfError, OSError) as error:
            outcome = Outcome(error.exit_code if isinstance(error, SlurmTfError) else os.EX_IOERR, str(error))
        if self._settings.stage and self._record and self._finalizer(self._record).is_over(outcome, self._termination):
            self._registration.unstage()
        self._leave()
        return self._conclude(self._with_memory(self._with_cause_of_loss(outcome)))

    def _conclude(self, outcome: Outcome) -> int:
        """Record how the attempt ended, have the run go on if it is to, and say why not; return the job's exit code."""
        if self._successor and not self._service_goes_on(outcome):
            self._successor.cancel()
        if self._record:
            outcome = self._finalizer(self._record).conclude(outcome, self._termination, self._show)
        if outcome.reason or not outcome.code:  # else another attempt goes on
            self._show(outcome, AttemptState.ENDED)
        if outcome.reason:
            say(f"the job {'ends' if outcome.cause is OutcomeCause.TERMINATION else 'failed'}: {outcome.reason}")
        return outcome.code

    def _service_goes_on(self, outcome: Outcome) -> bool:
        """Whether another job of the service is to follow: not after a cancel, nor where no replica can answer."""
        if self._context.is_cancelled:
            return False
        if self._termination.cause is EndCause.CANCEL:
            # the job also gets its signal where another node of it has failed
            answer = in_job.ask(in_job.loss_command(self._context.job), self._context.environ)
            return in_job.has_lost_node(answer)
        is_permanent = outcome.cause is OutcomeCause.PROGRAM and outcome.code in self._settings.retry.permanent
        return outcome.cause is not OutcomeCause.CANNOT_START and not is_permanent

    def _finalizer(self, record: AttemptRecorder) -> Finalizer:
        return Finalizer(self._context, self._settings, record, self._signals, self._exclusion, say)

    def _with_cause_of_loss(self, outcome: Outcome) -> Outcome:
        """Return `outcome`; if a task is lost whose node answers, it is the program's doing: it would happen again."""
        host = self._training.lost_host
        if outcome.cause is not OutcomeCause.TASK_LOST or not host:
            return outcome
        if ports.is_there(host, _ANSWER_SECONDS):
            return replace(outcome, cause=OutcomeCause.PROGRAM)
        return replace(outcome, reason=f"{outcome.reason}, and its node does not answer")

    def _with_memory(self, outcome: Outcome) -> Outcome:
        """Return `outcome`, with Slurm's word where a task ran out of memory and its agent could not say so."""
        is_failure = outcome.cause in (OutcomeCause.PROGRAM, OutcomeCause.TASK_LOST) and outcome.code
        if not is_failure or out_of_memory.START in outcome.reason:
            return outcome
        if not out_of_memory.is_printed(self._step.last_printed):
            return outcome
        role = self._policy.failed_task.partition(":")[0] if self._settings.strategy == ENGINE else ""
        asked = {} if role else out_of_memory.asked_in(self._context.environ)
        words = out_of_memory.words(asked, None, None, role)
        return replace(outcome, reason=f"{outcome.reason}; {words}")

    def _show(self, outcome: Outcome, state: AttemptState) -> None:
        """Write into the run's status how the attempt ended."""
        self._status.conclude(state, outcome.code, outcome.reason)

    def _start_step(self) -> None:
        settings, preflight_only = self._settings, self._record is None
        self._step = Step(self._launchers, settings, self._server.port, self._secret, self._of_images)
        self._registration = RegistrationPhase(
            self._context,
            settings,
            self._server,
            self._tasks,
            self._status,
            printed=lambda: self._step.printed,
            with_preflight=(settings.preflight or preflight_only) and not self._policy.restarts,
            with_staging=not preflight_only,
            goes_on=not preflight_only,
            cause=self._policy.restart_reason,
            steps=len(self._launchers),
        )

    def _loop(self) -> Outcome:
        """Handle whatever happens until the outcome is known and no task runs; return the outcome."""
        while True:
            outcome = self._turn()
            if outcome:
                return outcome

    def _turn(self) -> Optional[Outcome]:
        """Wait until something happens or is due, and see to it; return the outcome once the job is over."""
        for key, events in self._selector.select(self._seconds_until_due()):
            self._on_event(key.data, events)
        now = time.monotonic()
        self._server.tick(now)
        while lost := self._server.next_lost():
            self._on_lost(*lost)
        self._status.tick(now)
        self._step.tick(now)
        if self._successor:
            self._successor.tick(now)
        return self._tick(now)

    def _seconds_until_due(self) -> float:
        due = [
            time.monotonic() + _LOOK_SECONDS,
            self._server.wakes_at,
            self._status.wakes_at,
            self._signal_monitor.wakes_at,
            self._successor.wakes_at if self._successor else None,
        ]
        if self._policy.state is AttemptState.REGISTERING:
            due.append(self._registration.wakes_at)
        else:
            due.append(self._training.wakes_at)
        if self._policy.state is AttemptState.RENEWING:
            due.append(self._step.wakes_at or 0.0)
        return max(0.0, min(when for when in due if when is not None) - time.monotonic())

    def _on_event(self, source: object, events: int) -> None:
        if source is self._server:
            self._server.accept()
        elif source is self._signals:
            self._on_signals()
        elif isinstance(source, Connection) and events & selectors.EVENT_READ:
            self._on_messages(source, self._server.read(source))
        elif isinstance(source, Connection):
            self._server.flush(source)

    def _on_signals(self) -> None:
        for number in self._signals.read() - {signal.SIGCHLD}:
            self._signal_monitor.signal(number, "the coordinator", direct=True)

    def _on_messages(self, connection: Connection, messages: List[Message]) -> None:
        for message in messages:
            kind = type(message)
            if kind in self._registration.handlers:
                self._registration.handlers[kind](connection, message)
            elif self._policy.state is AttemptState.REGISTERING or not self._tasks.is_task(connection):
                say(f"refused {connection.peer}: {kind.__name__} came from an agent that has no assignment")
                self._server.close(connection)
            elif kind is HeartbeatRequest:
                self._server.send(connection, HeartbeatReply())
            else:
                self._training.handlers[kind](connection, message)

    def _on_lost(self, connection: Connection, reason: str) -> None:
        if not self._tasks.remove(connection):
            return  # it had not registered, or is of a former step
        if self._policy.state is AttemptState.REGISTERING:
            self._registration.lost(connection, reason, time.monotonic())
        else:
            self._training.lost(connection, time.monotonic())

    def _tick(self, now: float) -> Optional[Outcome]:
        """See to what is due; return the job's outcome once it is over."""
        self._termination.is_staging = self._policy.state is AttemptState.REGISTERING and self._registration.is_staging
        while action := self._signal_monitor.due(now):
            if action is TerminationAction.SAVE:
                self._exclusion.begin(repeats=True)
                self._training.save()
            else:
                self._training.stop(now)
        for name in self._signal_monitor.suspects_due(now):
            self._training.ended(name, -signal.SIGTERM, now)
        if self._policy.state is AttemptState.REGISTERING:
            return self._tick_registration(now)
        self._training.tick(now)
        if self._policy.state is AttemptState.RENEWING:
            self._renew_step(now)
        self._status.show(self._policy.state, self._policy.restarts, self._training.straggler_report)
        if self._policy.outcome:
            self._record_outcome(self._policy.outcome)
        return self._policy.outcome if self._policy.over else None

    def _record_outcome(self, outcome: Outcome) -> None:
        """Write how the attempt ends when that is decided: Slurm may kill this process before the step is gone."""
        self._status.decided(outcome.code, outcome.reason, self._policy.failed_task)
        if self._record and self._termination.cause is EndCause.NONE:
            self._record.decided(EndCause.NONE, outcome.reason)

    def _tick_registration(self, now: float) -> Optional[Outcome]:
        """Start the programs once all tasks have registered and are fit; return the outcome of a preflight alone."""
        if not self._registration.tick(now, self._step.end_in_words, self._termination.begun):
            return None
        if self._record is None:
            return Outcome(0, "")
        cluster = self._registration.assign()
        for role, version in self._registration.tensorflow.items():
            self._record.uses_tensorflow(role, version)
        self._step.keep_if_srun_is_killed()
        self._training.begin({task.name: task.node for task in cluster.tasks}, self._registration.hosts)
        if self._successor:
            self._successor.begin()
        return None

    def _renew_step(self, now: float) -> None:
        """End what is left of the step, then start the next one.

        Slurm gives its processors to the next step only when it is over, even if srun had to be killed.
        """
        if not self._step.is_ending:
            self._tasks.dismiss()
            # an agent of the former step that comes late does not know the new one's
            self._secret = secrets.token_bytes(32)
            self._server.renew(self._secret)
            self._step.end(now, agents_were_told=True)
        if self._step.tick(now):
            lease.next_step(self._context.folder, attempt_id(os.environ))
            self._policy.renewed()
            for name in self._planned:
                self._status.task(name, TaskState.MISSING)
            self._start_step()

    def _leave(self) -> None:
        """End the agents and the step."""
        self._registration.close()
        self._tasks.dismiss()
        self._server.close_all()
        self._step.end(time.monotonic(), agents_were_told=self._registration.is_complete)
        self._step.wait()
