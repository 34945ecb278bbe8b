"""The agent of a task: registers it, then starts and ends the user's program as the coordinator says.

The program may exchange messages with its agent and, through it, with the coordinator: run/program_messages.py.
"""

import contextlib
import os
import selectors
import signal
import sys
import time
from dataclasses import replace
from typing import Any, Callable, Dict, Mapping, NoReturn, Optional, Sequence, Type

from slurm_tf.errors import ContainerError, SlurmTfError
from slurm_tf.launch.agent import command_failure, node_staging, program_container, start_checks
from slurm_tf.launch.agent.child import Child, Output
from slurm_tf.launch.agent.gpu_check import OutputCheck
from slurm_tf.launch.agent.gpu_sampler import GpuSampler
from slurm_tf.launch.agent.join_watch import JoinWatch
from slurm_tf.launch.agent.orphan_recovery import OrphanRecovery
from slurm_tf.launch.agent.program_connection import ProgramConnection
from slurm_tf.launch.agent.program_end import ProgramEnd
from slurm_tf.launch.agent.task_registration import Registered, register
from slurm_tf.launch.decide.heartbeat import Heartbeat, HeartbeatAction
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.log import say
from slurm_tf.launch.mapping import allocation, horovod_variables
from slurm_tf.launch.mapping.assignment import job_env, program_environ
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    CannotStart,
    ConnectionLost,
    Dump,
    End,
    Ended,
    HeartbeatReply,
    HeartbeatRequest,
    Kill,
    Leave,
    ProgramLine,
    ProgramOutput,
    Save,
    Start,
    Started,
    TaskSignal,
    TellProgram,
    Vanish,
)
from slurm_tf.launch.transport.signal_pipe import REPORTED, SignalPipe
from slurm_tf.launch.transport.stage_messages import (
    Unstage,
)
from slurm_tf.run import env, program_messages
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.run.program_messages import (
    ALL_ROLES,
    ExitRequest,
    Listening,
    ProgramMessage,
    Request,
    RequestResult,
    Saved,
    SaveRequest,
)
from slurm_tf.slurm import in_job

# How long an agent whose coordinator is gone lets its program save, and end by itself.
_ORPHAN_SAVE_WAIT = 60.0
_ORPHAN_KILL_WAIT = 5.0
# How often it looks whether the program that saves has done so.
_ORPHAN_LOOK_SECONDS = 1.0
# How often the coordinator is told that a program prints.
_OUTPUT_SECONDS = 5.0


class Agent:
    """The agent of one registered task."""

    def __init__(
        self, environ: Mapping[str, str], registered: Registered, selector: selectors.BaseSelector, signals: SignalPipe
    ) -> None:
        self._environ = environ
        self._job_env = job_env(environ)
        self._client, self._greeting = registered.client, registered.greeting
        self._assignment, self._rank = registered.assignment, registered.allocation.rank
        self._submission = SubmissionFolder(self._greeting.submission)
        self._place = program_container.place(self._assignment, self._submission, environ, self._job_env)
        folder = RunFolder(self._assignment.variables[env.RUN_FOLDER])
        self._log_path = folder.log(self._assignment.role, self._assignment.index)
        self._selector, self._signals = selector, signals
        selector.register(self._client.sock, selectors.EVENT_READ, self._client)
        self._heartbeat = Heartbeat(self._greeting.silence, time.monotonic())
        self._child: Optional[Child] = None
        self._program: Optional[ProgramConnection] = None
        self._listens = self._is_writer = False
        self._save_reason = ""
        self._program_exit_code: Optional[int] = None
        self._end = ProgramEnd()
        self._join = JoinWatch(self._assignment, self._client.send)
        self._gpu_sampler = GpuSampler(self._assignment, registered.allocation.gpus_on_node)
        self._output_told_at = 0.0
        self._gpu_check: Optional[OutputCheck] = None
        self._last_request: Optional[int] = None
        self._exit_code: Optional[int] = None
        self._has_got_signal = False
        self._orphan: Optional[OrphanRecovery] = None
        self._orphan_look_at: Optional[float] = None
        self._handlers: Dict[Type[Any], Callable[[Any], None]] = {
            Start: self._on_start,
            End: lambda message: self._end_program(message.kill_wait, message.code),
            Save: lambda message: self._save(message.reason, message.signal),
            Dump: self._on_dump,
            Kill: lambda _: self._child.kill() if self._child else None,
            Vanish: self._on_vanish,
            TellProgram: lambda message: self._write_line(message.line),
            Unstage: lambda message: node_staging.unstage(message, environ),
            Leave: self._on_leave,
            HeartbeatReply: lambda _: None,
            ConnectionLost: self._on_connection_lost,
        }

    def run(self) -> int:
        """Run the program as often as the coordinator says; return the agent's own exit code."""
        for message in self._client.early:
            self._handle(message)
        while self._exit_code is None or self._child is not None:
            self._turn()
        if self._orphan:
            self._orphan.continue_run(self._log)
        return self._exit_code

    def _turn(self) -> None:
        """Wait until something happens or is due, and handle it."""
        kill_at, join_at = (self._child.kill_at, self._join.wakes_at) if self._child else (None, None)
        due = [self._heartbeat.wakes_at, self._orphan_look_at, kill_at, join_at]
        wakes_at = min((when for when in due if when is not None), default=None)
        timeout = None if wakes_at is None else max(0.0, wakes_at - time.monotonic())
        for key, _ in self._selector.select(timeout):
            self._on_event(key.data)
        if self._child:
            self._child.kill_if_due()
            self._join.look(time.monotonic())
        self._tick_heartbeat()
        self._tick_orphan()

    def _on_event(self, source: object) -> None:
        if isinstance(source, Output) and self._child:
            self._child.pump(source)
            self._on_output()
        elif source is self._signals:
            self._on_signals()
        elif source is self._program and self._program:
            for line in self._program.read():
                self._on_program_line(line)
        elif source is self._client:
            self._heartbeat.heard(time.monotonic())
            for message in self._client.receive():
                self._handle(message)

    def _tick_heartbeat(self) -> None:
        """Find out whether the coordinator still answers."""
        action = self._heartbeat.due(time.monotonic())
        if action is HeartbeatAction.ASK:
            self._client.send(HeartbeatRequest())
        elif action is HeartbeatAction.GIVE_UP and self._exit_code is None:
            silence = self._greeting.silence
            self._on_connection_lost(ConnectionLost(f"the coordinator has not answered for {silence:.0f} s"))

    def _tick_orphan(self) -> None:
        """End a program that was needed only until the one that saves has done so."""
        if self._orphan is None or self._orphan_look_at is None or time.monotonic() < self._orphan_look_at:
            return
        self._orphan_look_at = time.monotonic() + _ORPHAN_LOOK_SECONDS
        if self._orphan.is_saved:
            self._orphan_look_at = None
            self._end_program(_ORPHAN_KILL_WAIT, env.INTERRUPTED)

    # --- messages of the coordinator ---

    def _handle(self, message: Message) -> None:
        kind = type(message)
        if kind in self._handlers:
            self._handlers[kind](message)
        else:
            reason = f"the coordinator sent {kind.__name__}, which is not for a task that is registered"
            self._on_connection_lost(ConnectionLost(reason))

    def _on_start(self, message: Start) -> None:
        try:
            self._start(message)
        except ContainerError as error:
            self._client.send(CannotStart(error.exit_code, str(error)))

    def _start(self, message: Start) -> None:
        """Start the program. Raises ContainerError."""
        assignment, log, argv = self._assignment, self._log_path, self._assignment.argv
        inherited, library = self._place.inherited(self._environ), self._submission.train_library
        environ = program_environ(inherited, self._job_env, assignment, message.restarts, library)
        if message.rendezvous_port is not None:
            host = self._client.sock.getpeername()[0]
            environ.update(horovod_variables.rendezvous(host, message.rendezvous_port))
        self._gpu_check = start_checks.begin(assignment, argv, environ, self._place, log, say)
        self._listens = self._is_writer = False
        self._save_reason, self._program_exit_code, self._last_request = "", None, None
        self._end.begin()
        program = ProgramConnection(self._selector)
        environ[env.CONTROL_FD] = str(program.program_end.fileno())
        outer, drops_notes, leader = environ, not assignment.leads, self._place.leader
        try:
            argv, outer = self._place.enter(argv, environ)
            with program.program_end as control:
                self._child = Child(argv, outer, log, assignment.name, self._selector, control, drops_notes, leader)
        except OSError as error:
            program.close()
            self._on_start_failure(argv[0], outer, error)
            return
        self._program = program
        self._join.begin(self._child.pid, time.monotonic())
        self._gpu_sampler.begin(environ)
        self._client.send(Started(self._child.pid))

    def _on_start_failure(self, command: str, environ: Mapping[str, str], error: OSError) -> None:
        code = command_failure.exit_code(error)
        is_of_exec = error.filename != self._log_path
        reason = command_failure.explain(command, environ, error) if is_of_exec else None
        if reason is None:
            say(f"{self._assignment.name}: cannot start {command!r}: {error}")
        self._client.send(Ended(code) if reason is None else CannotStart(code, reason))

    def _on_dump(self, _message: Dump) -> None:
        if self._child and self._listens:
            self._child.signal(signal.SIGQUIT)

    def _on_vanish(self, _message: Vanish) -> None:
        os._exit(1)  # the kernel kills the program then (child.die_with)

    def _on_leave(self, _message: Leave) -> None:
        self._exit_code = 0

    def _on_connection_lost(self, lost: ConnectionLost) -> None:
        """Save and end the program: the coordinator, which would do that, is gone."""
        self._selector.unregister(self._client.sock)
        self._client.sock.close()
        self._heartbeat.wakes_at = None
        if self._exit_code is None:
            self._log(f"{lost.reason}; ending the program")
            # srun ends the step with the first agent that ends badly: the one that writes may still save
            self._exit_code = 0
            self._orphan = self._begin_orphan_recovery(lost.may_live)
            self._orphan.begin(self._log)
        number = self._greeting.checkpoint_signal
        if self._is_writer or (number and not self._listens):
            self._answer_last_request()
            self._save(lost.reason, number)
            self._kill_in(_ORPHAN_SAVE_WAIT)
        elif self._listens:
            # the one that writes may need this one, to end its step
            self._orphan_look_at = time.monotonic() if self._orphan else None
            self._kill_in(_ORPHAN_SAVE_WAIT + _ORPHAN_KILL_WAIT)
        else:
            self._end_program(_ORPHAN_KILL_WAIT, env.INTERRUPTED)

    def _begin_orphan_recovery(self, may_live: bool) -> OrphanRecovery:
        """Return what sees to the run. It does not go on after a signal: its cause only the coordinator would know."""
        greeting, variables = self._greeting, self._assignment.variables
        goes_on = greeting.goes_on and not self._has_got_signal and bool(in_job.own_id(self._environ))
        return OrphanRecovery(
            JobContext(self._submission, greeting.point, self._environ),
            variables[env.ATTEMPT],
            self._assignment.name,
            self._rank,
            writes=self._is_writer,
            may_live=may_live,
            goes_on=goes_on,
        )

    # --- the program ---

    def _save(self, reason: str, number: str) -> None:
        """Have the program save: one with slurm_tf.train, also if it does not listen yet; others by a signal.

        `number`: the signal's name without SIG, "" for none.
        """
        self._save_reason = reason
        if self._listens:
            self._write(SaveRequest(reason))
        elif number and self._child:
            self._child.signal(signal.Signals[f"SIG{number}"])

    def _end_program(self, kill_wait: float, code: int) -> None:
        self._program_exit_code = code
        self._end.asked()
        if self._child and self._listens:
            self._write(ExitRequest(code))
            self._child.kill_in(kill_wait)
        elif self._child:
            self._child.end(kill_wait)

    def _kill_in(self, seconds: float) -> None:
        if self._child:
            self._child.kill_in(seconds)

    def _on_output(self) -> None:
        """Tell the coordinator now and then that the program prints, which is progress if it sends no other."""
        if self._gpu_check:
            self._gpu_check.look()
        self._join.printed(time.monotonic())
        if not self._listens and time.monotonic() - self._output_told_at >= _OUTPUT_SECONDS:
            self._output_told_at = time.monotonic()
            self._client.send(ProgramOutput())

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._has_got_signal = True
                self._client.send(TaskSignal(number))

    def _reap(self) -> None:
        child = self._child
        code = child.reap() if child else None
        if child is None or code is None:
            return
        self._child = None
        self._gpu_sampler.end()
        if self._program:
            self._program.close()
        if self._gpu_check:
            self._gpu_check.look()  # at what it printed just before its end
        code_folder = self._submission.code if self._rank == 0 else ""
        for remark in self._end.remarks(child, code, self._log_path, code_folder):
            say(f"{self._assignment.name}: {remark}")
        self._client.send(replace(self._end.message(child, code), joined=self._join.ended()))

    def _on_program_line(self, line: str) -> None:
        """Act on a message that concerns the agent, and pass each on to the coordinator. Other lines are ignored."""
        message = program_messages.decode_from_program(line)
        if message is None:
            return
        if isinstance(message, Listening):
            self._on_listening(message)
        elif isinstance(message, Request):
            self._on_request(message)
        elif isinstance(message, Saved) and self._exit_code is not None:
            self._end_program(_ORPHAN_KILL_WAIT, env.INTERRUPTED)
        self._client.send(ProgramLine(line))

    def _on_listening(self, message: Listening) -> None:
        self._listens, self._is_writer = True, message.is_writer
        self._join.told()
        if self._save_reason:
            self._save(self._save_reason, "")
        if self._program_exit_code is not None:  # SIGTERM came before the program had handlers and listened
            self._write(ExitRequest(self._program_exit_code))

    def _on_request(self, message: Request) -> None:
        self._last_request = message.number
        if self._exit_code is not None:
            self._answer_last_request()

    def _answer_last_request(self) -> None:
        """Answer the program's last request, which the coordinator may not have answered."""
        if self._last_request is not None:
            self._write(RequestResult(self._last_request, {ALL_ROLES: "the coordinator is gone"}))

    def _write(self, message: ProgramMessage) -> None:
        self._write_line(program_messages.encode(message))

    def _write_line(self, line: str) -> None:
        if self._program:
            self._program.write(line)

    def _log(self, text: str) -> None:
        """Print a line, into the task's log as well: srun, which would bring it to the job's, may be gone."""
        say(f"{self._assignment.name}: {text}")
        with contextlib.suppress(OSError), open(self._log_path, "a") as log:
            log.write(f"slurm-tf: {text}\n")


def main(arguments: Sequence[str]) -> NoReturn:
    """agent [--roles ROLES [--first-rank RANK]] [--inside RUNTIME]"""
    values = dict(zip(arguments[::2], arguments[1::2]))
    selector = selectors.DefaultSelector()
    # the agent reports what srun and Slurm send to every task, and the coordinator decides what it means
    signals = SignalPipe(selector, (*REPORTED, signal.SIGCHLD))
    try:
        first_rank, inside = int(values.get("--first-rank", "0")), values.get("--inside", "")
        environ = allocation.of_task(os.environ)
        registered = register(environ, values.get("--roles", ""), first_rank, inside)
        code = Agent(environ, registered, selector, signals).run() if registered else 0
    except SlurmTfError as error:
        say(str(error))
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code)
