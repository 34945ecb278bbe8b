"""The second phase of a step: its programs run, until the attempt is over or all start again in a new step."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Callable, Collection, Dict, List, Mapping, Optional, Type, Union

from slurm_tf.errors import StoppedError
from slurm_tf.launch.coordinator.fault_injection import FaultAction, FaultInjector
from slurm_tf.launch.coordinator.message_relay import MessageRelay, Outgoing
from slurm_tf.launch.coordinator.program_monitor import ProgramMonitor
from slurm_tf.launch.coordinator.progress_monitor import ProgressMonitor
from slurm_tf.launch.coordinator.signal_monitor import SignalMonitor
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.launch.coordinator.task_connections import TaskConnections
from slurm_tf.launch.decide.hangs import HangAction
from slurm_tf.launch.decide.joining import Joining
from slurm_tf.launch.decide.restarts import Action, Outcome, OutcomeCause, RestartPolicy, TaskError, Verb
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.log import say
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.transport.connections import Connection
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    CannotStart,
    Dump,
    End,
    Ended,
    Joined,
    Kill,
    ProgramLine,
    ProgramOutput,
    Save,
    Start,
    Started,
    TaskSignal,
    TellProgram,
    Vanish,
)
from slurm_tf.run import env, program_messages
from slurm_tf.run.attempts import AttemptRecorder
from slurm_tf.run.program_messages import Request, RequestAnswer
from slurm_tf.run.settings import ENGINE, LaunchSettings
from slurm_tf.run.status import AttemptState, StragglerReport, TaskState
from slurm_tf.slurm import out_of_memory

if TYPE_CHECKING:
    from slurm_tf.launch.coordinator.gloo_rendezvous import Rendezvous

# What the hang detector and a fault injection may have an agent do.
_MESSAGES: Mapping[Union[HangAction, FaultAction], Message] = {
    HangAction.DUMP: Dump(),
    HangAction.KILL: Kill(),
    FaultAction.KILL: Kill(),
    FaultAction.VANISH: Vanish(),
}


class TrainingPhase:
    """The programs of all steps of one attempt. `nodes`: node of each task by name.

    `lost_host`: the address of the agent that was lost last before the attempt's outcome was known; "" for none, and
    where the failure of a node was injected.
    """

    def __init__(
        self,
        context: JobContext,
        settings: LaunchSettings,
        tasks: TaskConnections,
        status: StatusWriter,
        policy: RestartPolicy,
        termination: Termination,
        signals: SignalMonitor,
        exclusion: Exclusion,
        recorder: Optional[AttemptRecorder],
    ) -> None:
        self.nodes: Dict[str, str] = {}
        self.lost_host = ""
        self._environ = context.environ
        self._settings, self._tasks, self._status = settings, tasks, status
        self._policy, self._termination, self._signals, self._exclusion = policy, termination, signals, exclusion
        self._progress = ProgressMonitor(context.folder, settings.watch, exclusion, say)
        self._faults = FaultInjector(context, termination, exclusion, say)
        self._programs = ProgramMonitor(termination, self._progress, status, recorder)
        self._relay = MessageRelay()
        self._joining = Joining(settings)
        self._starts: Counter[str] = Counter()
        self._hosts: Collection[str] = ()
        self._rendezvous: Optional[Rendezvous] = None
        self.handlers: Dict[Type[Any], Callable[[Connection, Any], None]] = {
            Started: self._on_started,
            Ended: self._on_ended,
            CannotStart: self._on_cannot_start,
            ProgramLine: self._on_program_line,
            ProgramOutput: lambda connection, _: self._progress.printed(connection.name),
            Joined: self._on_joined,
            TaskSignal: self._on_task_signal,
        }

    def begin(self, nodes: Dict[str, str], hosts: Collection[str]) -> None:
        """Start all programs. `nodes`: node of each task by name; `hosts`: addresses that the tasks reported."""
        self.nodes, self._hosts = nodes, hosts
        self._progress.awake(time.monotonic())
        self._carry_out(self._policy.begin(nodes))

    def tick(self, now: float) -> None:
        """See to what is due."""
        is_training = self._policy.state is AttemptState.RUNNING
        for name, fault in self._faults.due(now, self.nodes):
            self._tasks.send(name, _MESSAGES[fault])
        for name, action in self._progress.due(now, self.nodes, is_training, self._termination.begun):
            self._tasks.send(name, _MESSAGES[action])
        self._carry_out(self._policy.tick(now))
        self._deliver(self._relay.tick(now))
        self._joining.tick(now)
        self._say_of_joining()

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        parts = (self._policy, self._faults, self._progress, self._relay, self._joining)
        due = [part.wakes_at for part in parts]
        return min((when for when in due if when is not None), default=None)

    @property
    def straggler_report(self) -> Optional[StragglerReport]:
        """How long each task works by itself in a step, and which are slow; None if nothing is known."""
        return self._progress.report

    def lost(self, connection: Connection, now: float) -> None:
        """Record that a task's agent is gone."""
        name = connection.name
        if self._termination.withdraw():
            say(f"{name} is gone: its step was being ended")
            self._policy.resume()
        if self._policy.outcome is None:  # this task may decide the job's end; those after it do not
            self.lost_host = "" if self._faults.has_failed_node else connection.host
        self._exclusion.lost(self.nodes[name], connection.host)
        self.ended(name, None, now)

    def ended(self, name: str, code: Optional[int], now: float, error: Optional[TaskError] = None) -> None:
        """Record that the program of task `name` ended with `code`, None if its agent is gone, and why."""
        self._signals.ended(name)
        self._progress.ended(name)
        self._deliver(self._relay.ended(name))
        self._status.task_ended(name, code, error.words if error else "")
        self._carry_out(self._policy.ended(name, code, now, error))

    def save(self) -> None:
        """Have all programs save that can."""
        if self._policy.state is AttemptState.REGISTERING:  # agents wait for their assignments, and for nothing else
            return
        at_signal = [name for name in self._tasks.names if self._termination.heeds_a_signal(name)]
        self._policy.save(at_signal)
        for name in self._tasks.names:
            number = self._settings.checkpoint_signal if name in at_signal else ""
            self._tasks.send(name, Save(self._termination.reason, number))

    def stop(self, now: float) -> None:
        """End all programs: they have saved, or cannot. Raises StoppedError where none runs."""
        reason, code = self._termination.reason, self._termination.code
        if self._policy.state in (AttemptState.REGISTERING, AttemptState.RENEWING):
            raise StoppedError(reason, code)
        self._carry_out(self._policy.stop(code, reason, now))

    def _on_started(self, connection: Connection, message: Started) -> None:
        name = connection.name
        say(f"{name} started on {self.nodes[name]} (process {message.pid})")
        self._status.task(name, TaskState.RUNNING, restarts=self._starts[name] - 1)
        self._joining.started(name)
        self._signals.started(name)
        self._progress.started(name)

    def judge(self, outcome: Outcome) -> Outcome:
        """Return how the job ends: not well if none of its tasks has joined the cluster."""
        judged = self._joining.judge(outcome)
        self._say_of_joining()
        return judged

    def _say_of_joining(self) -> None:
        for note in self._joining.notes:
            say(note)
        self._joining.notes.clear()

    def _on_joined(self, connection: Connection, message: Joined) -> None:
        self._joining.said(connection.name, message.has_joined, time.monotonic())
        self._status.task_joined(connection.name, message.has_joined)

    def _on_ended(self, connection: Connection, message: Ended) -> None:
        self._joining.ended(connection.name, message.joined)
        now, unasked = time.monotonic(), self._policy.state is AttemptState.RUNNING
        if not (unasked and self._signals.is_suspect(connection.name, message.code, now)):
            self.ended(connection.name, message.code, now, self._error(connection.name, message, now))

    def _error(self, name: str, message: Ended, now: float) -> TaskError:
        """Return why the program of task `name` ended, as its agent told it."""
        words = message.error
        if message.memory:
            used, limit = message.memory
            role = name.partition(":")[0] if self._settings.strategy == ENGINE else ""
            asked = {} if role else out_of_memory.asked_in(self._environ)
            words = out_of_memory.words(asked, limit, used, role)
        return TaskError(words, now - message.error_age)

    def _on_cannot_start(self, connection: Connection, message: CannotStart) -> None:
        """End the job, as a command that cannot be executed once cannot be at the next try either."""
        name, now = connection.name, time.monotonic()
        if not self._termination.begun:  # else the job ends for that cause
            reason = f"{name} on {self.nodes[name]}: {message.reason}"
            self._carry_out(self._policy.stop(message.code, reason, now, OutcomeCause.CANNOT_START))
        self.ended(name, message.code, now)

    def _on_program_line(self, connection: Connection, message: ProgramLine) -> None:
        name, from_program = connection.name, program_messages.decode_from_program(message.line)
        if isinstance(from_program, Request):
            running, listeners = self._tasks.names, self._termination.listeners
            self._deliver(self._relay.request(name, from_program, running, listeners, time.monotonic()))
        elif isinstance(from_program, RequestAnswer):
            self._deliver(self._relay.answer(name, from_program))
        elif from_program is not None:
            self._programs.handle(name, from_program)

    def _on_task_signal(self, connection: Connection, message: TaskSignal) -> None:
        # srun ends a step that has lost an agent with SIGTERM to the others
        if not self._policy.step_is_lost:
            self._signals.signal(message.number, connection.name, direct=False)

    def _carry_out(self, actions: List[Action]) -> None:
        for note in self._policy.notes:
            say(note)
        self._policy.notes.clear()
        port = None
        if any(action.verb is Verb.START for action in actions):
            port = self._open_rendezvous()
            # before the programs start: who reads what one prints must not find "registering" in the run's status
            self._status.show(self._policy.state, self._policy.restarts, self.straggler_report)
            self._status.flush()
        for action in actions:
            if action.verb is Verb.START:
                self._tasks.send(action.task, Start(self._starts[action.task], port))
                self._starts[action.task] += 1
            else:
                self._tasks.send(action.task, self._end())

    def _end(self) -> End:
        kill_wait = 0.0 if self._termination.at_once else self._settings.kill_wait
        return End(kill_wait, env.INTERRUPTED if self._termination.begun else 0)

    def _open_rendezvous(self) -> Optional[int]:
        """Return the port of a new rendezvous for Horovod's ranks, which must not meet those of a former start."""
        if self._settings.horovod != "gloo":
            return None
        # http.server takes a tenth of the coordinator's start, and only jobs with Gloo need it
        from slurm_tf.launch.coordinator.gloo_rendezvous import Rendezvous  # noqa: PLC0415

        if self._rendezvous:
            self._rendezvous.close()
        ports, local = self._settings.coordinator_ports, self._settings.local
        self._rendezvous = Rendezvous({*self._hosts, *self._tasks.hosts}, ports, local, say)
        return self._rendezvous.port

    def _deliver(self, outgoing: List[Outgoing]) -> None:
        for each in outgoing:
            self._tasks.send(each.task, TellProgram(program_messages.encode(each.message)))
