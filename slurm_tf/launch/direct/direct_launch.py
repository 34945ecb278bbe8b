"""Starts tasks of a cluster without a coordinator: `slurm-tf launch` in front of a program, and a TaskProlog.

Each task reserves a port, exchanges reports with the others through a folder (file_rendezvous.py), and gets the
assignment that a coordinator would send it. `launch` then becomes the program, or runs it (task_end.py), and the
program inherits the socket that holds the port. A TaskProlog can only print changes of the task's environment: it gives
up the port when it ends.
"""

import argparse
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

from slurm_tf import files, units
from slurm_tf.errors import RegistrationError, RunError, SlurmTfError, TopologyError, UsageError
from slurm_tf.launch.agent import command_failure
from slurm_tf.launch.direct import file_rendezvous
from slurm_tf.launch.log import say
from slurm_tf.launch.mapping import cluster
from slurm_tf.launch.mapping.allocation import Allocation
from slurm_tf.launch.mapping.assignment import Assignment, program_environ
from slurm_tf.launch.transport import messages, ports
from slurm_tf.launch.transport.messages import Report
from slurm_tf.run import env
from slurm_tf.run.settings import RoleSettings

# GPUs of a task of each role; None: its share of the GPUs that it sees
_GPUS = {"chief": None, "worker": None, "ps": 0, "evaluator": 0}
_STRATEGIES = ("", "multi_worker", "ps", "between_graph")
_SHARINGS = ("split", "all")
_FOLDER = ".slurm-tf"
_JSON_HELP = "print how each task ended as a line of JSON; what COMMAND prints goes to stderr then"
# A TaskProlog's lines are values of one variable each, as long as execve takes them (22.05.8).
_NOT_IN_A_LINE = ("\n", "\0")


@dataclass(frozen=True)
class LaunchOptions:
    """The options of a launch, as text. `roles`: "chief=1,worker=3"; `register_timeout`: seconds."""

    roles: str
    exchange: str = ""
    ports: str = ""
    interface: str = ""
    strategy: str = ""
    gpu_sharing: str = "split"
    register_timeout: str = "300"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "LaunchOptions":
        """Return the options that are set as environment variables."""
        from_environ = {field: environ[name] for field, name in VARIABLES.items() if environ.get(name)}
        return cls(**{"roles": "", **from_environ})


# field of LaunchOptions: its environment variable
VARIABLES = {
    "roles": env.ROLES,
    "exchange": env.EXCHANGE,
    "ports": env.PORTS,
    "interface": env.INTERFACE,
    "strategy": env.STRATEGY,
    "gpu_sharing": env.GPU_SHARING,
    "register_timeout": env.REGISTER_TIMEOUT,
}


def parse_roles(text: str) -> Tuple[RoleSettings, ...]:
    """Return the roles of "chief=1,ps=1,worker=3", in rank order. Raises UsageError."""
    roles: Dict[str, RoleSettings] = {}
    for part in text.split(","):
        name, _, count = (piece.strip() for piece in part.partition("="))
        if name not in _GPUS or name in roles or not (count.isascii() and count.isdigit() and int(count)):
            raise UsageError(
                f"found {part!r} in the roles {text!r}",
                f'each of {", ".join(_GPUS)} at most once, with its number of tasks, such as "ps=1,worker=3"',
            )
        roles[name] = RoleSettings(name, int(count), _GPUS[name])
    return tuple(roles.values())


def find_assignment(
    options: LaunchOptions, environ: Mapping[str, str], command: Sequence[str] = (), cluster_flags: bool = False
) -> Tuple[Assignment, List[socket.socket]]:
    """Return this task's assignment, and the sockets that hold its port as long as they are open.

    An error of one task is reported to rank 0, which prints it; the others exit with its code and print nothing. Raises
    SlurmTfError and OSError.
    """
    allocation = Allocation.from_environ(environ)
    limit = _seconds(options.register_timeout)
    reserved: List[socket.socket] = []
    shared_options = [options.roles, options.strategy, options.gpu_sharing]
    message: Dict[str, Any] = {"node": allocation.node, "options": shared_options}
    try:
        allowed = units.parse_ports(options.ports) if options.ports else None
        reserved.append(ports.reserve(allowed, time.monotonic() + limit / 2))
        report = Report(
            rank=allocation.rank,
            node=allocation.node,
            host=_host(options.interface, environ),
            port=ports.port_of(reserved[0]),
            gpus=allocation.gpus,
            gpus_bound=allocation.gpus_bound,
            gpu_places=allocation.gpu_places,
            gpus_on_node=allocation.gpus_on_node,
            gpu_binding=allocation.gpu_binding,
        )
        message["report"] = messages.encode(report).decode()
    except SlurmTfError as error:
        message["unable"] = str(error)
    decision = file_rendezvous.exchange(
        _folder(options.exchange, allocation, environ),
        allocation.rank,
        allocation.tasks,
        message,
        _decide,
        limit,
    )
    if "failed" in decision:
        sys.exit(int(decision["failed"]))
    role, index, gpus = decision["tasks"][allocation.rank]
    variables = {env.STRATEGY: options.strategy} if options.strategy else {}
    own_gpus = None if gpus is None else tuple(gpus)
    return Assignment(role, index, decision["hosts"], own_gpus, variables, tuple(command), cluster_flags), reserved


def _folder(root: str, allocation: Allocation, environ: Mapping[str, str]) -> str:
    """Return the folder in which the tasks of this step exchange messages, in `root`, which this user must own.

    Step ids start again after a requeue, and job ids are another cluster's too. In a heterogeneous step, SLURM_JOB_ID
    is the leader's in every component, and all components draw their step ids from one counter (22.05.8).
    """
    root = files.expand(root) or os.path.join(environ.get("SLURM_SUBMIT_DIR") or os.getcwd(), _FOLDER)
    try:
        files.own_folder(root)
    except (RunError, OSError) as error:
        raise RunError(
            f"the tasks cannot meet in {root}: {error.found if isinstance(error, RunError) else error.strerror}",
            "a folder of your own that all nodes share",
            f"name one with --exchange or {env.EXCHANGE}",
        ) from error
    step = f"{allocation.job}-{allocation.step}-{allocation.restarts}"
    return os.path.join(root, f"{environ.get('SLURM_CLUSTER_NAME', 'cluster')}-{step}")


def _decide(said: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the assignments of all ranks, from the messages of all. Raises SlurmTfError where their options differ."""
    roles_text, strategy, sharing = said[0]["options"]
    roles = parse_roles(roles_text)
    named = sum(role.count for role in roles)
    if named != len(said):
        raise TopologyError(
            f"the roles {roles_text!r} are {named} tasks, the step has {len(said)}",
            "one role for each task of the step",
            f"srun --ntasks={named}, or other roles",
        )
    for value, known in ((strategy, _STRATEGIES), (sharing, _SHARINGS)):
        if value not in known:
            raise UsageError(f"found {value!r}", f"one of {', '.join(filter(None, known))}")
    for rank, message in enumerate(said):
        if message["options"] != said[0]["options"]:
            found = f"rank {rank} was asked for {message['options']}"
            raise UsageError(found, f"{said[0]['options']}, as rank 0")
        if "unable" in message:
            found = f"rank {rank} on {message['node']}: {message['unable']}"
            raise RegistrationError(found, "", "", [str(rank)])
    reports = [_report(each["report"]) for each in said]
    formed = cluster.form(reports, roles, sharing, gpus_where_found=True)
    formed.check_size()
    return {"hosts": formed.hosts, "tasks": [[task.role, task.index, task.gpus] for task in formed.tasks]}


def _report(text: str) -> Report:
    """Return the report that a task wrote. Raises MessageError."""
    return messages.expect(messages.decode(text.encode(), messages.FROM_AGENT), Report)


def _host(interface: str, environ: Mapping[str, str]) -> str:
    """Return this node's address: as under a coordinator, the one from which it reaches the node where srun runs."""
    if interface:
        return ports.interface_address(interface)
    launcher = environ.get("SLURM_LAUNCH_NODE_IPADDR", "")
    return (launcher and ports.address_towards(launcher)) or ports.own_addresses("")[0]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"found the time {text!r}", "a number of seconds")
    return seconds


# --- launch ---


def main(arguments: Sequence[str]) -> NoReturn:
    """launch [OPTIONS] -- COMMAND..."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options, switches, command = _read_options(list(arguments))
    try:
        with files.explained("meet the other tasks"):
            assignment, reserved = find_assignment(options, os.environ, command, switches["cluster_flags"])
            environ = program_environ(os.environ, {}, assignment, 0)
    except SlurmTfError as error:
        say(str(error))
        _print_not_started(switches["json"], None, error.exit_code, error.found)
        sys.exit(error.exit_code)
    except SystemExit as ended:  # find_assignment, in all tasks but the one that says why
        _print_not_started(switches["json"], None, int(str(ended.code)), "another task of the step says why")
        raise
    try:
        if switches["json"]:
            _run(assignment, environ, reserved)
        _become(assignment.argv, environ, reserved)
    except OSError as error:
        node = Allocation.from_environ(os.environ).node
        reason = command_failure.explain(command[0], environ, error) or f"cannot start {command[0]!r}: {error.strerror}"
        say(f"{assignment.name} on {node}: {reason}")
        code = command_failure.exit_code(error)
        _print_not_started(switches["json"], assignment.name, code, reason)
        sys.exit(code)


def _run(assignment: Assignment, environ: Mapping[str, str], reserved: Sequence[socket.socket]) -> NoReturn:
    """Run the program, which inherits the sockets, and print how it ended. Raises OSError."""
    from slurm_tf.launch.direct import task_end  # noqa: PLC0415 - imports subprocess, which others do not need

    inherited = [sock.fileno() for sock in reserved]
    sys.exit(task_end.run(assignment.name, assignment.argv, environ, inherited))


def _print_not_started(as_json: bool, task: Optional[str], code: int, reason: str) -> None:
    if as_json:
        from slurm_tf.launch.direct import task_end  # noqa: PLC0415 - as above

        task_end.print_not_started(task, code, reason)


def _become(argv: List[str], environ: Mapping[str, str], reserved: Sequence[socket.socket]) -> NoReturn:
    """Become the program, which inherits the sockets. Raises OSError."""
    for sock in reserved:
        sock.set_inheritable(True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(argv[0], argv, environ)  # noqa: S606


def _read_options(arguments: List[str]) -> Tuple[LaunchOptions, Dict[str, bool], List[str]]:
    """Return the options, those that are on or off, and the command of the program; exits for --help."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = option_parser()
    typed = vars(parser.parse_args(arguments[:at]))
    switches, command = {name: typed.pop(name) for name in ("cluster_flags", "json")}, arguments[at + 1 :]
    from_environ = asdict(LaunchOptions.from_environ(os.environ))
    options = LaunchOptions(**{**from_environ, **{field: value for field, value in typed.items() if value is not None}})
    if not command:
        parser.error("found no command; needed -- and the program to start after the options")
    if not options.roles:
        parser.error(f"found no roles; needed --roles or {env.ROLES}")
    return options, switches, command


def option_parser() -> argparse.ArgumentParser:
    """Return what reads the options, without the command of the program."""
    parser = argparse.ArgumentParser(
        "slurm-tf launch",
        "slurm-tf launch --roles ROLES [OPTIONS] -- COMMAND...",
        "Start COMMAND as this task of a TensorFlow cluster, in any srun step, without a coordinator. "
        "Each option with a variable in brackets can also be given as this variable.",
        allow_abbrev=False,
    )
    texts = {
        "roles": 'the role of each rank, in order, such as "chief=1,ps=1,worker=3"',
        "exchange": f"a folder of yours that all nodes share; default {_FOLDER} where the job was submitted",
        "ports": "the ports to choose from, such as 20000-20999; default any",
        "interface": "the network interface whose address others are told",
        "strategy": f"for slurm_tf.train: {', '.join(filter(None, _STRATEGIES))}",
        "gpu_sharing": "split (default): the tasks of a node share out its GPUs; all: each sees what Slurm gave",
        "register_timeout": "seconds to wait for the other tasks, default 300",
    }
    for field, text in texts.items():
        parser.add_argument(f"--{field.replace('_', '-')}", help=f"{text} [{VARIABLES[field]}]")
    parser.add_argument("--cluster-flags", action="store_true", help="add --ps_hosts= and its like to COMMAND")
    parser.add_argument("--json", action="store_true", help=_JSON_HELP)
    return parser


# --- task-prolog ---


def task_prolog(arguments: Sequence[str]) -> NoReturn:  # noqa: ARG001
    """task-prolog: print the changes of this task's environment, in the form that Slurm reads from a TaskProlog.

    Slurm reads a TaskProlog's stderr like its stdout and shows it nowhere. A task whose TaskProlog exits with another
    code than 0 is not started (22.05.8).
    """
    sys.excepthook = lambda kind, error, _: _print_error(f"{kind.__name__}: {error}")
    try:
        with files.explained("meet the other tasks"):
            assignment, reserved = find_assignment(LaunchOptions.from_environ(os.environ), os.environ)
            lines = list(changes(os.environ, program_environ(os.environ, {}, assignment, 0)))
    except SlurmTfError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    for sock in reserved:
        sock.close()
    sys.exit(0)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines by which a TaskProlog changes the environment `old` into `new`. Raises TopologyError."""
    for name in sorted(set(old) - set(new)):
        yield f"unset {name}"
    for name, value in sorted(new.items()):
        if old.get(name) != value:
            if any(character in value for character in _NOT_IN_A_LINE):
                raise TopologyError(f"{name} would be {value!r}", "one line, as a TaskProlog sets variables")
            yield f"export {name}={value}"


def _print_error(text: str) -> None:
    sys.stdout.write("".join(f"print slurm-tf: {line}\n" for line in text.splitlines()))
    sys.stdout.flush()
