"""The task of an examination on one node: says what the node is, and what it finds of the other nodes.

It speaks with the batch host through its own input and output (run/examination.py says how), which srun carries.
"""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import List, Mapping, NoReturn, Optional, Sequence, Tuple

from slurm_tf import files
from slurm_tf.errors import SlurmTfError, UsageError
from slurm_tf.launch.examination import lines, machine, node_containers, shared_folder, software
from slurm_tf.launch.nodes import probe
from slurm_tf.launch.transport import ports
from slurm_tf.launch.transport.messages import ProbeFailed
from slurm_tf.run import examination, message_codec
from slurm_tf.run.examination import Begin, Finish, Finished, Meet, Met, NodeFacts, TellTime, Time

# A node connects to this many others.
_PARTNERS = 8
_LOOK_SECONDS = 10.0
# The batch host may have ended without a word: SIGALRM ends the task.
_MOST_SECONDS = 120
# What TensorFlow may take from the start of the task on; the job has a minute.
_TENSORFLOW_SECONDS = 45.0
_BATCH = ""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, not used


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the task. `arguments`: the file that it was started from, which is removed, if it is a copy for this node."""
    signal.alarm(_MOST_SECONDS)
    for copy in arguments:
        with contextlib.suppress(OSError):
            os.unlink(copy)
    _Task().run()
    sys.exit(0)


class _Task:
    """One node, which does what it is told until the last message."""

    def __init__(self) -> None:
        self.node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._sent = 0
        self._deadline = time.monotonic() + _TENSORFLOW_SECONDS
        self._prober: Optional[probe.Prober] = None

    def run(self) -> None:
        tensorflow: Optional[software.TensorFlowQuestion] = None
        for line in sys.stdin:
            message = message_codec.decode(line, examination.TO_NODES)
            if isinstance(message, Begin):
                self._begin = message
                tensorflow = software.TensorFlowQuestion(message.settings.python, os.environ)
                self._say(self._describe())
            elif isinstance(message, TellTime):
                self._say(Time(self.node, message.number, time.time()))
            elif isinstance(message, Meet):
                self._say(self._meet(message))
            elif isinstance(message, Finish) and tensorflow:
                self._say(Finished(self.node, tensorflow.answer(self._deadline)))
                return

    def _say(self, message: object) -> None:
        for line in lines.split(message, self._sent):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        self._sent += 1

    def _describe(self) -> NodeFacts:
        settings = self._begin.settings
        folders = {"home": os.path.expanduser("~"), "tmp": tempfile.gettempdir(), "shm": _SHARED_MEMORY}
        if settings.scratch:
            with contextlib.suppress(UsageError):
                folders["scratch"] = files.expand(settings.scratch)
            folders.setdefault("scratch", settings.scratch)
        address, port, problem = "", 0, ""
        try:
            address = _own_address(settings.interface, settings.host_suffix)
            self._prober = probe.Prober(self._begin.secret.encode(), settings.ports)
            port = self._prober.port
        except SlurmTfError as error:
            problem = error.found
        of_containers = node_containers.describe(settings, os.environ)  # it starts programs: no thread runs yet
        with ThreadPoolExecutor() as pool:  # each of these may wait for something that does not answer
            facts = pool.submit(machine.describe, folders, os.environ)
            shared = pool.submit(shared_folder.describe, self._begin.folder, self.node, settings.token)
            gpus = pool.submit(software.gpus, os.environ)
            named = pool.submit(addresses, socket.gethostname())
            reverse = pool.submit(_reverse, address)
            return NodeFacts(
                node=self.node,
                machine=facts.result(),
                shared=shared.result(),
                gpus=gpus.result(),
                address=address,
                port=port,
                unreachable=problem,
                named=named.result(),
                reverse=reverse.result(),
                containers=of_containers,
            )

    def _meet(self, message: Meet) -> Met:
        start = time.monotonic()
        token = self._begin.settings.token
        others = [node for node in message.nodes if node != self.node]
        expected = {node: (examination.own_file(self._begin.folder, node), token) for node in others}
        targets = {node: message.nodes[node] for node in partners(sorted(message.nodes), self.node)}
        with ThreadPoolExecutor(2 * _PARTNERS) as pool:
            names = pool.map(addresses, targets)
            broken = pool.map(self._connect, targets.values())
            batch = pool.map(self._connect, [(address, message.batch_port) for address in message.batch])
            unseen = pool.submit(_unseen, expected, start)
            missing, seconds = unseen.result()
            problems = {node: problem for node, problem in zip(targets, broken) if problem}
            of_batch = list(batch)
            if of_batch and all(of_batch):
                problems[_BATCH] = of_batch[0]
            return Met(self.node, problems, missing, seconds, dict(zip(targets, names)))

    def _connect(self, target: Tuple[str, int]) -> str:
        """Return why a connection to another node, or to the batch host, cannot be used; "" if it can."""
        host, port = target
        if not port or self._prober is None:
            return ""  # the node said why it cannot be reached
        answer = self._prober.measure(host, port)
        return f"{host}:{port}: {answer.error}" if isinstance(answer, ProbeFailed) else ""


def _own_address(interface: str, suffix: str) -> str:
    """Return the address at which others reach this node: that towards the batch host, if the site names none.

    Raises AllocationError.
    """
    launcher = "" if interface or suffix else os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "")
    return (launcher and ports.address_towards(launcher)) or ports.own_addresses(interface, suffix)[0]


def _unseen(expected: Mapping[str, Tuple[str, str]], start: float) -> Tuple[Tuple[str, ...], float]:
    missing = tuple(probe.unseen(expected, _LOOK_SECONDS))
    return missing, time.monotonic() - start


def partners(nodes: List[str], node: str) -> List[str]:
    """Return the nodes that `node` connects to: those after it in a ring, so that each is connected to by others."""
    place = nodes.index(node)
    return [nodes[(place + step) % len(nodes)] for step in range(1, min(_PARTNERS, len(nodes) - 1) + 1)]


def addresses(name: str) -> Tuple[str, ...]:
    """Return the addresses that a name has on this node; none if it is not known."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def _reverse(address: str) -> str:
    try:
        return socket.gethostbyaddr(address)[0] if address else ""
    except OSError:
        return ""
