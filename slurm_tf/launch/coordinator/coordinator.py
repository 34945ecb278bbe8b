"""On the batch host: starts the step, gathers its tasks into one cluster, and sees the job through to its exit code."""

import json
import os
import secrets
import selectors
import signal
import time
from collections import Counter
from dataclasses import asdict, replace
from typing import Dict, List, Optional, Sequence

from slurm_tf import files
from slurm_tf.errors import RegistrationError, SlurmTfError, StoppedError
from slurm_tf.launch.coordinator import assignments, gloo_rendezvous
from slurm_tf.launch.coordinator.message_relay import Letter, MessageRelay
from slurm_tf.launch.coordinator.registration import Registration
from slurm_tf.launch.coordinator.signal_monitor import SignalMonitor
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.launch.coordinator.step import Step
from slurm_tf.launch.decide.restarts import Action, AttemptState, Outcome, OutcomeCause, RestartPolicy, Verb
from slurm_tf.launch.decide.termination import TerminationAction
from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.log import say
from slurm_tf.launch.nodes import preflight
from slurm_tf.launch.requeue.finalize import Finalizer
from slurm_tf.launch.transport import authentication, connections, ports
from slurm_tf.launch.transport.connections import Connection
from slurm_tf.launch.transport.signal_pipe import REPORTED, SignalPipe
from slurm_tf.run import env, lease
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.run.status import TaskState

# Connections that never prove themselves end without a wake-up of their own.
_LOOK_SECONDS = 10.0
# How long the machine of a lost agent may take to answer.
_THERE_SECONDS = 3.0


class Coordinator:
    """The life of one attempt of a run."""

    def __init__(
        self, place: JobContext, settings: LaunchSettings, launcher: Sequence[str], record: Optional[AttemptRecorder]
    ) -> None:
        """`launcher`: the command that starts one agent a task, srun or launch/direct/local_tasks.py.

        `record`: None for a preflight alone.
        """
        self._place, self._folder, self._settings, self._launcher = place, place.folder, settings, list(launcher)
        self._planned = [f"{role}:{index}" for role, index in settings.tasks]
        self._selector = selectors.DefaultSelector()
        self._signals = SignalPipe(self._selector, (*REPORTED, signal.SIGCHLD))
        self._secret = secrets.token_bytes(32)
        self._server = connections.Server(self._selector, self._secret, say, settings.coordinator_ports, settings.local)
        self._connections: Dict[str, Connection] = {}
        self._nodes: Dict[str, str] = {}
        self._starts: Counter[str] = Counter()
        self._preflight: Optional[preflight.Preflight] = None
        self._record = record
        self._policy = RestartPolicy(settings)
        self._switchboard = MessageRelay()
        self._meeting: Optional[gloo_rendezvous.Rendezvous] = None
        self._status = StatusWriter(self._folder, settings.run, self._planned, os.environ, say)
        self._alarm = SignalMonitor(place, settings, record, say)
        self._interruption = self._alarm.interruption
        self._lost_host = ""

    def run(self) -> int:
        """Run the job; return the exit code that is the job's."""
        connections.raise_file_limit()
        self._start_step()
        try:
            outcome = self._work()
        except StoppedError as error:
            outcome = Outcome(error.exit_code, str(error), OutcomeCause.TERMINATION)
        except (SlurmTfError, OSError) as error:
            outcome = Outcome(error.exit_code if isinstance(error, SlurmTfError) else os.EX_IOERR, str(error))
        self._leave()
        # a program may kill its agent, and would again
        host = "" if self._alarm.rehearses_a_dead_node else self._lost_host
        if outcome.cause is OutcomeCause.TASK_LOST and host and ports.is_there(host, _THERE_SECONDS):
            outcome = replace(outcome, cause=OutcomeCause.PROGRAM)
        if self._record:
            ending = Finalizer(self._place, self._settings, self._record, self._signals, self._alarm.exclusion, say)
            outcome = ending.conclude(outcome, self._interruption, self._show)
        if outcome.reason or not outcome.code:  # else another attempt goes on
            self._show(outcome, "ended")
        if outcome.reason:
            say(f"the job {'ends' if outcome.cause is OutcomeCause.TERMINATION else 'failed'}: {outcome.reason}")
        return outcome.code

    def _show(self, outcome: Outcome, state: str) -> None:
        """Write into the run's status how the attempt ended."""
        self._status.conclude(state, outcome.code, outcome.reason)

    def _start_step(self) -> None:
        self._step = Step(self._launcher, self._settings, self._server.port, self._secret)
        self._registration = Registration(self._settings, os.environ, time.monotonic(), self._policy.cause)

    def _work(self) -> Outcome:
        """Go on until the job is decided and no task runs."""
        while True:
            for key, events in self._selector.select(self._patience()):
                if key.data is self._server:
                    self._server.accept()
                elif key.data is self._signals:
                    self._on_signals()
                elif events & selectors.EVENT_READ:
                    self._take(key.data, self._server.read(key.data))
                else:
                    self._server.flush(key.data)
            self._server.expire()
            while lost := self._server.next_lost():
                self._on_lost(*lost)
            now = time.monotonic()
            self._status.tick(now)
            self._step.tick(now)
            outcome = self._go_on(now)
            if outcome:
                return outcome

    def _go_on(self, now: float) -> Optional[Outcome]:
        """See to what is due; return the job's outcome once it is over."""
        while word := self._alarm.due(now):
            self._save() if word is TerminationAction.SAVE else self._stop(now)
        for name in self._alarm.ended(now):
            self._on_ended(name, -signal.SIGTERM)
        if self._policy.state is AttemptState.REGISTERING:
            return Outcome(0, "") if self._is_cleared(now) else None
        for name, verb in self._alarm.orders(now, self._nodes, self._policy.state is AttemptState.TRAINING):
            if name in self._connections:
                self._send(self._connections[name], {"do": verb})
        self._carry_out(self._policy.tick(now))
        self._deliver(self._switchboard.tick(now))
        if self._policy.state is AttemptState.RENEWING:
            self._renew(now)
        self._status.show(self._policy.state, self._policy.restarts, self._alarm.stragglers.report)
        if self._policy.outcome:
            self._record_outcome(self._policy.outcome)
        return self._policy.outcome if self._policy.over else None

    def _record_outcome(self, outcome: Outcome) -> None:
        """Write how the attempt ends when that is decided: Slurm may kill this process before the step is gone."""
        self._status.decided(outcome.code, outcome.reason)
        if self._record and self._interruption.cause is EndCause.NONE:
            self._record.decided(EndCause.NONE, outcome.reason)

    def _renew(self, now: float) -> None:
        """End what is left of the step, then start the next one.

        Slurm gives its processors to the next step only when it is over, even if srun had to be killed.
        """
        if not self._step.is_ending:
            self._say_leave()
            # an agent of the former step that comes late does not know the new one's
            self._secret = secrets.token_bytes(32)
            self._server.renew(self._secret)
            self._step.end(now, told=True)
        if self._step.tick(now):
            lease.next_step(self._folder, attempt_id(os.environ))
            self._policy.renewed()
            for name in self._planned:
                self._status.task(name, TaskState.MISSING)
            self._start_step()

    def _patience(self) -> float:
        """Seconds until something is due."""
        look_at = time.monotonic() + (0.0 if self._server.has_lost else _LOOK_SECONDS)
        due = [look_at, self._switchboard.wakes_at, self._status.wakes_at, self._alarm.wakes_at]
        if self._policy.state is AttemptState.REGISTERING:
            due.append((self._preflight or self._registration).wakes_at)
        else:
            due += [self._policy.wakes_at, self._alarm.orders_at]
        if self._policy.state is AttemptState.RENEWING:
            due.append(self._step.wakes_at or 0.0)
        return max(0.0, min(when for when in due if when is not None) - time.monotonic())

    def _take(self, connection: Connection, messages: List[authentication.Message]) -> None:
        for message in messages:
            kind = message.get("is")
            if kind in ("hello", "report", "unable", "probed"):
                self._take_early(connection, str(kind), message)
            elif kind == "started":
                self._on_started(connection.name, int(message["pid"]))
            elif kind == "ended":
                code, unasked = int(message["code"]), self._policy.state is AttemptState.TRAINING
                if not (unasked and self._alarm.suspects(connection.name, code, time.monotonic())):
                    self._on_ended(connection.name, code)
            elif kind == "ask":
                self._send(connection, {"do": "nothing"})
            elif kind == "control":
                self._on_control(connection.name, str(message["line"]))
            elif kind == "signal":
                self._on_task_signal(connection.name, int(message["number"]))
            else:
                raise AssertionError(f"an agent said {message}")

    # --- until all tasks have come, and are found fit ---

    def _take_early(self, connection: Connection, kind: str, message: authentication.Message) -> None:
        if kind == "hello":
            self._greet(connection)
        elif kind == "report":
            self._on_report(connection, message)
        elif kind == "unable":
            raise RegistrationError(f"rank {message['rank']} on {message['node']}: {message['why']}", "", "", ())
        elif self._preflight:
            rank = self._planned.index(connection.name)
            self._ask(self._preflight.answered(rank, message["answer"], time.monotonic()))

    def _greet(self, connection: Connection) -> None:
        self._send(connection, assignments.greeting(self._settings, self._place, goes_on=self._record is not None))

    def _on_report(self, connection: Connection, message: authentication.Message) -> None:
        try:
            report = self._registration.take(message)
        except RegistrationError as error:
            say(f"refused {error}")
            self._server.close(connection)
            return
        connection.name = self._planned[report.rank]
        self._connections[connection.name] = connection
        self._status.task(connection.name, TaskState.REGISTERED, report.node)
        if not self._registration.complete or self._interruption.begun:
            return
        if (self._settings.preflight or not self._record) and not self._policy.restarts:
            say("all tasks registered; preflight")
            self._preflight = preflight.Preflight(self._folder, self._settings, self._registration.reports)
            self._ask(self._preflight.begin(time.monotonic()))
        else:
            self._begin()

    def _ask(self, letters: List[preflight.Letter]) -> None:
        for rank, message in letters:
            if self._planned[rank] in self._connections:
                self._send(self._connections[self._planned[rank]], message)

    def _is_cleared(self, now: float) -> bool:
        """See to what comes before the programs; true if nothing comes after it. Raises PreflightError."""
        if self._preflight is None:
            self._registration.check(now, self._step.end_in_words)
            if line := self._registration.progress(now):
                say(line)
            return False
        self._ask(self._preflight.tick(now))
        if self._preflight.all_are_lost:
            raise RegistrationError("every task left during the preflight", "", "see what its agent printed", ())
        if not self._preflight.over or self._interruption.begun:
            return False
        self._preflight.finish(say)
        if self._record:
            self._begin()
        return not self._record

    def _begin(self) -> None:
        """All have come: tell each its place, and start."""
        formed = self._registration.form()
        shared = authentication.pack(assignments.shared(self._settings, self._folder, formed))
        rows = [{"name": task.name, **asdict(task)} for task in formed.tasks]
        files.write_whole(self._folder.cluster, json.dumps({"tasks": rows}, indent=1).encode())
        self._nodes = {task.name: task.node for task in formed.tasks}
        for name, node in self._nodes.items():
            self._status.task(name, TaskState.REGISTERED, node)
        say(f"all {len(self._nodes)} tasks registered, on {len(set(self._nodes.values()))} nodes")
        arrived = [self._connections[self._planned[task.rank]] for task in formed.tasks]
        self._connections = {task.name: connection for task, connection in zip(formed.tasks, arrived)}
        for name, connection in self._connections.items():
            connection.name = name
        self._preflight = None
        self._step.hold_shepherd()
        for connection, own in zip(arrived, assignments.own(self._settings, formed)):
            self._send(connection, own)
            self._server.send_packed(connection, shared)
        self._carry_out(self._policy.begin(self._nodes))

    # --- while they run ---

    def _on_started(self, name: str, pid: int) -> None:
        say(f"{name} started on {self._nodes[name]} (process {pid})")
        self._status.task(name, TaskState.RUNNING, restarts=self._starts[name] - 1)
        self._alarm.started(name)

    def _on_control(self, name: str, line: str) -> None:
        """Take in a line that a program wrote."""
        try:
            words = json.loads(line)
        except ValueError:
            return
        if isinstance(words, dict) and "progress" in words:
            self._status.progress(name, words["progress"])
        elif isinstance(words, dict) and not self._alarm.line(name, words):
            running, listeners = list(self._connections), self._interruption.listeners
            self._deliver(self._switchboard.line(name, words, running, listeners, time.monotonic()))

    def _on_lost(self, connection: Connection, reason: str) -> None:
        if self._connections.get(connection.name) is not connection:
            return  # refused, or of a step that is being ended
        del self._connections[connection.name]
        if self._preflight:
            node = self._registration.reports[self._planned.index(connection.name)].node
            self._ask(self._preflight.lost(node, time.monotonic()))
            return
        if self._policy.state is AttemptState.REGISTERING:
            raise RegistrationError(
                f"{connection.name} left before the programs started: {reason}", "", "", [connection.name]
            )
        if self._interruption.withdraw():
            say(f"{connection.name} is gone: its step was being ended")
            self._policy.resume()
        if self._policy.outcome is None:  # it may decide the job's end; those before it did not
            self._lost_host = connection.host
        self._alarm.exclusion.lost(self._nodes[connection.name], connection.host)
        self._on_ended(connection.name, None)

    def _on_ended(self, name: str, code: Optional[int]) -> None:
        self._alarm.gone(name)
        self._deliver(self._switchboard.ended(name))
        self._status.task_ended(name, code)
        self._carry_out(self._policy.ended(name, code, time.monotonic()))

    def _on_task_signal(self, name: str, number: int) -> None:
        # srun ends a step that has lost an agent with SIGTERM to the others
        if not self._policy.step_is_lost:
            self._alarm.signal(number, name, direct=False)

    def _on_signals(self) -> None:
        for number in self._signals.read() - {signal.SIGCHLD}:
            self._alarm.signal(number, "the coordinator", direct=True)

    def _save(self) -> None:
        """Have all programs save that can."""
        if self._policy.state is AttemptState.REGISTERING:  # agents wait for their places, and for nothing else
            return
        heeding = [name for name in self._connections if self._interruption.heeds_a_signal(name)]
        self._policy.save(heeding)
        order = {"do": "interrupt", "reason": self._interruption.reason}
        for name, connection in list(self._connections.items()):
            self._send(connection, {**order, "signal": self._settings.checkpoint_signal if name in heeding else ""})

    def _stop(self, now: float) -> None:
        """End all programs: they have saved, or cannot."""
        if self._policy.state in (AttemptState.REGISTERING, AttemptState.RENEWING):
            raise StoppedError(self._interruption.reason, self._interruption.code)
        self._carry_out(self._policy.stop(self._interruption.code, self._interruption.reason, now))

    def _carry_out(self, actions: List[Action]) -> None:
        for note in self._policy.notes:
            say(note)
        self._policy.notes.clear()
        kill_wait = 0.0 if self._interruption.at_once else self._settings.kill_wait
        code = env.INTERRUPTED if self._interruption.begun else 0
        meet_at = self._meet_again() if any(action.verb is Verb.START for action in actions) else None
        for action in actions:
            if action.task in self._connections:
                message = {"do": action.verb, "kill_wait": kill_wait, "code": code, "rendezvous": meet_at}
                if action.verb is Verb.START:
                    message["restarts"] = self._starts[action.task]
                    self._starts[action.task] += 1
                self._send(self._connections[action.task], message)

    def _meet_again(self) -> Optional[int]:
        """Return the port where all that start now are to meet, if they are Horovod's: nobody meets a former start."""
        settings = self._settings
        if settings.horovod != "gloo":
            return None
        if self._meeting:
            self._meeting.close()
        allowed = {report.host for report in self._registration.reports.values()}
        allowed |= {connection.host for connection in self._connections.values()}
        self._meeting = gloo_rendezvous.Rendezvous(allowed, settings.coordinator_ports, settings.local, say)
        return self._meeting.port

    def _deliver(self, letters: List[Letter]) -> None:
        for name, line in letters:
            if name in self._connections:
                self._send(self._connections[name], {"do": "tell", "line": line})

    def _send(self, connection: Connection, message: authentication.Message) -> None:
        self._server.send_packed(connection, authentication.pack(message))

    def _leave(self) -> None:
        """Let the agents and the step go."""
        if self._preflight:
            self._preflight.close()
        self._say_leave()
        self._server.close_all()
        # a step that never became a job has tasks that nobody told to leave
        self._step.end(
            time.monotonic(), told=self._policy.state is not AttemptState.REGISTERING or self._preflight is not None
        )
        self._step.wait()

    def _say_leave(self) -> None:
        for connection in self._connections.values():
            self._server.send_packed(connection, authentication.pack({"do": "leave"}))
        self._connections = {}
