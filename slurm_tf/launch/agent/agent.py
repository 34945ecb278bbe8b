"""Each task: finds its place through the coordinator, then keeps the user's program running until it is told to leave.

The program may speak with its agent over an inherited socket, lines of JSON (env.CONTROL_FD):

    program -> agent   {"ask": number, "to": role, "message": {...}}   pass the message on to every task of that role,
                                                                       or, to "*", to all others that said hello
    agent -> program   {"asked": number, "message": {...}}             somebody's message
    program -> agent   {"answer": number, "error": null or text}       the answer to it
    agent -> program   {"answers": number, "errors": {task: null or text}}
    program -> agent   {"progress": {"step": number, "steps": number, "rate": number, "values": {name: number}}}
    program -> agent   {"hello": {"writes": bool}}       it listens; writes: it is the one that commits checkpoints
    program -> agent   {"committed": {"step": number, ...}}    a checkpoint is on storage
    program -> agent   {"phase": name} {"at": step}      it makes progress, see launch/decide/hangs.py
    agent -> coordinator {"output": true}                so does one that prints and says nothing else
    agent -> program   {"interrupt": reason}             save at the next step boundary, then say so
    program -> agent   {"saved": {"step": number, "error": null or text}}    by the one that writes
    agent -> program   {"leave": code}                   end now, with this exit code

A program that has said hello is never ended by a signal before its `kill-wait` is over.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from slurm_tf import units
from slurm_tf.errors import AllocationError, SlurmTfError
from slurm_tf.launch.agent import horovod_check
from slurm_tf.launch.agent.child import Child, Output
from slurm_tf.launch.agent.orphan_recovery import OrphanRecovery
from slurm_tf.launch.decide.heartbeat import Heartbeat, HeartbeatAction
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.log import say
from slurm_tf.launch.mapping import horovod_variables
from slurm_tf.launch.mapping.allocation import Allocation
from slurm_tf.launch.mapping.assignment import Assignment, program_environ
from slurm_tf.launch.nodes import probe
from slurm_tf.launch.transport import connections, ports
from slurm_tf.launch.transport.signal_pipe import REPORTED, SignalPipe
from slurm_tf.run import env
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.slurm import in_job

# How long an agent whose coordinator is gone lets its program save, and end by itself.
_ORPHAN_SAVE_WAIT = 60.0
_ORPHAN_KILL_WAIT = 5.0
_LOOK_SECONDS = 1.0
# How often it is told that a program prints.
_OUTPUT_SECONDS = 5.0


class Agent:
    """One task's agent."""

    def __init__(self, command: Sequence[str], role: str, environ: Mapping[str, str]) -> None:
        self._command, self._role, self._environ = list(command), role, environ
        self._job_env: Dict[str, str] = json.loads(environ.get(env.PROGRAM_ENV, "{}"))
        self._selector = selectors.DefaultSelector()
        # the agent reports what srun and Slurm send to every task, and the coordinator says what it means
        self._signals = SignalPipe(self._selector, (*REPORTED, signal.SIGCHLD))
        self._child: Optional[Child] = None
        self._control: Optional[socket.socket] = None
        self._control_rest = b""
        self._listens = self._writes = False
        self._interrupted = ""
        self._leave: Optional[int] = None
        self._output_told = 0.0
        self._asked: object = None
        self._exit: Optional[int] = None
        self._signalled = False
        self._alone: Optional[OrphanRecovery] = None
        self._look_at: Optional[float] = None

    def run(self) -> int:
        """Register, run the program as often as the coordinator says; return the agent's own exit code.

        What keeps this task from taking part is told to the coordinator, which ends the job and says so.
        """
        self._allocation = allocation = Allocation.from_environ(self._environ)
        places, secret = _coordinator(self._environ)
        deadline = time.monotonic() + float(self._environ.get(env.REGISTER_TIMEOUT, "300"))
        self._client = connections.connect(places, secret, allocation.tasks, deadline)
        self._client.send({"is": "hello"})
        self._settings = settings = self._client.next(deadline)
        allowed: Optional[Tuple[int, int]] = None
        try:
            # held until this process ends: the program can be started again at the same address
            own = self._environ.get(env.PORTS)
            allowed = units.parse_ports(own) if own else settings["ports"]
            self._reserved = ports.reserve(allowed, (time.monotonic() + deadline) / 2)
            self._client.send(self._report(allocation, settings))
        except SlurmTfError as error:
            self._client.send({"is": "unable", "rank": allocation.rank, "node": allocation.node, "why": str(error)})
        place = probe.take_part(self._client, secret, allowed, deadline + float(settings["patience"]))
        if place.get("do") == "leave":
            return 0
        shared = self._client.next(deadline + float(settings["patience"]))
        place["gpus"] = None if place["gpus"] is None else tuple(place["gpus"])
        self._place = Assignment(**{**place, **shared, "variables": {**shared["variables"], **place["variables"]}})
        self._selector.register(self._client.sock, selectors.EVENT_READ)
        self._pulse = Heartbeat(float(settings["silence"]), time.monotonic())
        for message in self._client.early:
            self._on_message(message)
        while self._exit is None or self._child is not None:
            self._turn()
        if self._alone:
            self._alone.see_to_the_run(self._record)
        return self._exit

    def _report(self, allocation: Allocation, settings: Dict[str, Any]) -> Dict[str, Any]:
        interface = settings["interface"]
        host = ports.interface_address(interface) if interface else self._client.sock.getsockname()[0]
        return {
            "is": "report",
            "rank": allocation.rank,
            "node": allocation.node,
            "host": host,
            "port": ports.port_of(self._reserved),
            "gpus": allocation.gpus,
            "gpus_bound": allocation.gpus_bound,
            "role": self._role,
            "named": horovod_variables.named_address() if settings["named"] else "",
        }

    def _turn(self) -> None:
        """Wait for something to happen and see to it."""
        due = [self._pulse.wakes_at, self._look_at, self._child.kill_at if self._child else None]
        wakes_at = min((when for when in due if when is not None), default=None)
        timeout = None if wakes_at is None else max(0.0, wakes_at - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Output) and self._child:
                self._child.pump(key.data)
                self._on_output()
            elif key.data is self._signals:
                self._on_signals()
            elif key.fileobj is self._control:
                self._on_control()
            elif key.fileobj is self._client.sock:
                self._pulse.heard(time.monotonic())
                for message in self._client.receive():
                    self._on_message(message)
        if self._child:
            self._child.kill_if_due()
        self._beat()

    def _beat(self) -> None:
        """Find out whether the coordinator still answers."""
        word = self._pulse.due(time.monotonic())
        if word is HeartbeatAction.ASK:
            self._client.send({"is": "ask"})
        elif word is HeartbeatAction.GIVE_UP and self._exit is None:
            self._on_lost(f"the coordinator has not answered for {self._settings['silence']:.0f} s", cut=False)
        if self._alone and self._look_at is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            if self._alone.is_saved:
                self._look_at = None
                self._end(_ORPHAN_KILL_WAIT, env.INTERRUPTED)

    def _on_message(self, message: Dict[str, Any]) -> None:
        if "lost" in message:
            self._on_lost(message["lost"], message.get("cut", False))
        elif message["do"] == "start":
            self._start(message["restarts"], message["rendezvous"])
        elif message["do"] == "end":
            self._end(message["kill_wait"], message["code"])
        elif message["do"] == "interrupt":
            self._interrupt(message["reason"], message["signal"])
        elif message["do"] == "leave":
            self._exit = 0
        elif message["do"] == "dump" and self._child and self._listens:
            self._child.signal(signal.SIGQUIT)
        elif message["do"] == "kill" and self._child:
            self._child.kill()
        elif message["do"] == "vanish":
            # the program goes as well: it is told to by the kernel
            os._exit(1)
        elif message["do"] == "tell":
            self._tell(message["line"])

    def _on_lost(self, reason: str, cut: bool) -> None:
        """The coordinator is gone: nobody will end this job but us. `cut`: it may live where we cannot reach it."""
        self._selector.unregister(self._client.sock)
        self._client.sock.close()
        self._pulse.wakes_at = None
        if self._exit is None:
            self._record(f"{reason}; ending the program")
            # srun ends the step with the first agent that ends badly: the one that writes may still save
            self._exit = 0
            self._alone = self._left_alone(cut)
        number = self._settings["alone"]["signal"]
        if self._writes or (number and not self._listens):
            self._answer_nothing()
            self._interrupt(reason, number)
            self._kill_in(_ORPHAN_SAVE_WAIT)
        elif self._listens:
            # the one that writes may need this one, to end its step
            self._look_at = time.monotonic() if self._alone else None
            self._kill_in(_ORPHAN_SAVE_WAIT + _ORPHAN_KILL_WAIT)
        else:
            self._end(_ORPHAN_KILL_WAIT, env.INTERRUPTED)

    def _left_alone(self, cut: bool) -> OrphanRecovery:
        """Return what sees to the run; it does nothing after a signal: what that means the coordinator would know."""
        alone = self._settings["alone"]
        goes_on = alone["goes_on"] and not self._signalled and bool(in_job.own_id(self._environ))
        place = JobContext(SubmissionFolder(alone["submission"]), alone["point"], self._environ)
        attempt, rank = self._place.variables[env.ATTEMPT], self._allocation.rank
        return OrphanRecovery(place, attempt, self._place.name, rank, self._writes, cut, goes_on)

    def _record(self, text: str) -> None:
        """Say it in the task's log as well: srun, which would bring it to the job's, may be gone."""
        say(f"{self._place.name}: {text}")
        folder = RunFolder(self._place.variables[env.RUN_FOLDER])
        with contextlib.suppress(OSError), open(folder.log(self._place.role, self._place.index), "a") as log:
            log.write(f"slurm-tf: {text}\n")

    def _kill_in(self, seconds: float) -> None:
        if self._child:
            self._child.kill_in(seconds)

    def _interrupt(self, reason: str, number: str) -> None:
        """Have the program save: one that listens, or that will; any other by the signal of that name, "" for none."""
        self._interrupted = reason
        if self._listens:
            self._tell(json.dumps({"interrupt": reason}))
        elif number and self._child:
            self._child.signal(signal.Signals[f"SIG{number}"])

    def _end(self, kill_wait: float, code: int) -> None:
        self._leave = code
        if self._child and self._listens:
            self._tell(json.dumps({"leave": code}))
            self._child.kill_in(kill_wait)
        elif self._child:
            self._child.end(kill_wait)

    def _on_output(self) -> None:
        """Let it be known that the program lives, which says nothing else."""
        if not self._listens and time.monotonic() - self._output_told >= _OUTPUT_SECONDS:
            self._output_told = time.monotonic()
            self._client.send({"is": "control", "line": json.dumps({"output": True})})

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._signalled = True
                self._client.send({"is": "signal", "number": number})

    def _start(self, restarts: int, meet_at: Optional[int]) -> None:
        """Start the program, which was started again `restarts` times before or now.

        `meet_at`: the port of Horovod's rendezvous, beside the coordinator's.
        """
        ours, theirs = socket.socketpair()
        environ = program_environ(self._environ, self._job_env, self._place, restarts)
        if meet_at is not None:
            environ.update(horovod_variables.program_environ(self._client.sock.getpeername()[0], meet_at))
        environ[env.CONTROL_FD] = str(theirs.fileno())
        folder = RunFolder(environ[env.RUN_FOLDER])
        log = folder.log(self._place.role, self._place.index)
        argv = self._place.argv(self._command)
        self._warn(argv, environ)
        try:
            with theirs:
                self._child = Child(argv, environ, log, self._place.name, self._selector, theirs)
        except OSError as error:
            ours.close()
            say(f"{self._place.name}: cannot start {self._command[0]!r}: {error.strerror}")
            # a shell's codes: 127 for a command that is not there, 126 for one that cannot be run
            self._client.send({"is": "ended", "code": 127 if isinstance(error, FileNotFoundError) else 126})
            return
        self._control, self._control_rest = ours, b""
        self._listens = self._writes = False
        self._interrupted, self._leave = "", None
        self._selector.register(ours, selectors.EVENT_READ)
        self._client.send({"is": "started", "pid": self._child.pid})

    def _warn(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        """Say, once a job, what is known to go wrong with such a program."""
        if environ[env.RESTARTS] == "0" and self._place.variables.get("HOROVOD_RANK") == "0":
            warning = horovod_check.warning(argv, environ)
            if warning:
                say(warning)

    def _reap(self) -> None:
        code = self._child.reap() if self._child else None
        if code is not None:
            self._child = None
            self._close_control()
            self._client.send({"is": "ended", "code": code})

    def _on_control(self) -> None:
        """Pass on each line that the program wrote."""
        data = b""
        if self._control:
            with contextlib.suppress(OSError):
                data = self._control.recv(1 << 16)
        if not data:
            self._close_control()
            return
        *lines, self._control_rest = (self._control_rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            self._heed(text)
            self._client.send({"is": "control", "line": text})

    def _heed(self, line: str) -> None:
        """Take in what of the program's words is for its agent."""
        try:
            words = json.loads(line)
        except ValueError:
            return
        if isinstance(words, dict) and isinstance(words.get("hello"), dict):
            self._listens, self._writes = True, bool(words["hello"].get("writes"))
            if self._interrupted:
                self._interrupt(self._interrupted, "")
            if self._leave is not None:  # SIGTERM found it deaf already, and not yet listening
                self._tell(json.dumps({"leave": self._leave}))
        elif not isinstance(words, dict):
            return
        elif "ask" in words:
            self._asked = words["ask"]
            if self._exit is not None:
                self._answer_nothing()
        elif "saved" in words and self._exit is not None:
            self._end(_ORPHAN_KILL_WAIT, env.INTERRUPTED)

    def _answer_nothing(self) -> None:
        """Answer the program's last question, which the coordinator may have taken with it."""
        self._tell(json.dumps({"answers": self._asked, "errors": {"*": "the coordinator is gone"}}))

    def _tell(self, line: str) -> None:
        if self._control:
            with contextlib.suppress(OSError):
                self._control.sendall(line.encode() + b"\n")

    def _close_control(self) -> None:
        if self._control:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None


def _coordinator(environ: Mapping[str, str]) -> Tuple[List[Tuple[str, int]], bytes]:
    """Return where the coordinator may be reached, and the secret."""
    where, secret = environ.get(env.COORDINATOR), environ.get(env.SECRET)
    if not where or not secret:
        raise AllocationError(
            f"{env.COORDINATOR} and {env.SECRET} are not set",
            "to be started by a coordinator (launch.pyz coordinate)",
            "if srun drops the environment, pass it --export=ALL",
        )
    hosts, _, port = where.rpartition(":")
    names = hosts.split(",")
    # where srun runs, in Slurm's own words: right even if the batch host's name resolves to nothing useful here
    launcher = environ.get("SLURM_LAUNCH_NODE_IPADDR", "")
    extra = [launcher] if launcher and names != ["127.0.0.1"] else []
    return [(name, int(port)) for name in dict.fromkeys([*names, *extra])], bytes.fromhex(secret)


def main(arguments: Sequence[str]) -> NoReturn:
    """agent [--role ROLE] -- COMMAND..."""
    options, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    role = options[1] if options[:1] == ["--role"] else ""
    try:
        code = Agent(command, role, os.environ).run()
    except SlurmTfError as error:
        say(str(error))
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code)
