"""Makes the environment variables of Horovod's processes: their ranks, and the rendezvous of its Gloo controller.

horovodrun sets the same variables, over ssh. They are read in horovod/common/gloo/gloo_context.cc (0.28.1).
"""

import contextlib
import socket
from typing import Dict, List, Sequence

from slurm_tf.errors import TopologyError
from slurm_tf.launch.transport import ports
from slurm_tf.launch.transport.messages import Report

# Horovod gives up after 30 s by itself, and the import of TensorFlow from a busy file system takes longer. Who never
# comes ended, and then the coordinator ends the others.
_TIMEOUT_SECONDS = 600


def of_ranks(controller: str, nodes: Sequence[str], interface: str = "") -> List[Dict[str, str]]:
    """Return the variables of each rank, from the node of each; nodes may have different numbers of tasks.

    A rank's cross group is the ranks of its local rank, on the nodes that have so many. `interface`: "" for the one of
    the node's own name.
    """
    order = list(dict.fromkeys(nodes))
    sizes = {node: nodes.count(node) for node in order}
    shared = {"CONTROLLER": controller, "CPU_OPERATIONS": controller, "SIZE": str(len(nodes))}
    if controller == "gloo":
        shared["GLOO_TIMEOUT_SECONDS"] = str(_TIMEOUT_SECONDS)
        if interface:
            shared["GLOO_IFACE"] = interface
    seen = dict.fromkeys(order, 0)
    every = []
    for rank, node in enumerate(nodes):
        local, seen[node] = seen[node], seen[node] + 1
        peers = [other for other in order if sizes[other] > local]
        of_rank = {"RANK": rank, "LOCAL_RANK": local, "LOCAL_SIZE": sizes[node]}
        of_rank.update({"CROSS_RANK": peers.index(node), "CROSS_SIZE": len(peers)})
        values = {**shared, "HOSTNAME": node, **{name: str(value) for name, value in of_rank.items()}}
        every.append({f"HOROVOD_{name}": value for name, value in values.items()})
    return every


def named_address() -> str:
    """Return the address at which Gloo listens on this node: the first of its own name that it can bind; "" if none.

    As lookupAddrForHostname in gloo/transport/tcp/device.cc.
    """
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, place in socket.getaddrinfo(socket.gethostname(), None, 0, socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
                return str(place[0])
    return ""


def check_names(reports: Sequence[Report]) -> None:
    """Raise TopologyError where a node's own name leads others nowhere.

    Horovod 0.28.1 listens there for its global process set, whatever HOROVOD_GLOO_IFACE says (InitializeForProcessSet
    in gloo_context.cc): the job would abort after 80 s without naming a rank or a node.
    """
    if len({report.node for report in reports}) < 2:
        return
    for report in reports:
        if not report.named or ports.is_loopback(report.named):
            found = f"resolves to {report.named}" if report.named else "resolves to no address of its own"
            raise TopologyError(
                f"on {report.node} the node's own name {found}",
                "an address that the other nodes reach: Horovod's Gloo controller listens there, whatever interface "
                "is set",
                'correct the node\'s /etc/hosts (Debian writes 127.0.1.1 there), or set horovod.controller = "mpi"',
            )


def rendezvous(host: str, port: int) -> Dict[str, str]:
    """Return the variables that lead to a rendezvous, at `host`, by which a task's agent reaches the coordinator."""
    return {"HOROVOD_GLOO_RENDEZVOUS_ADDR": host, "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port)}
