"""The view of the cluster: what its nodes have, what is in use, and which are down and why."""

import threading
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf.page.context import PageContext
from slurm_tf.slurm import node_use
from slurm_tf.slurm.node_use import NodeUse

_KEPT_SECONDS = 30.0


class ClusterViews:
    """The view of the cluster. Slurm is asked at most every 30 s for all browsers."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._nodes: tuple[NodeUse, ...] = ()

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [Route("/cluster", self.show)]

    def show(self, request: Request) -> Response:
        """Show all nodes: sums first, then those that take no jobs, then all."""
        nodes = self._look()
        away = [each for each in nodes if not each.takes_jobs]
        values = {
            "title": "Cluster",
            "sums": [
                ("Nodes", f"{len(nodes)}; take no jobs: {len(away)}"),
                ("GPUs", f"{sum(each.gpus_in_use for each in nodes)} of {sum(each.gpus for each in nodes)} in use"),
                ("CPUs", f"{sum(each.cpus_in_use for each in nodes)} of {sum(each.cpus for each in nodes)} in use"),
                ("Memory", _memory(sum(each.memory_in_use for each in nodes), sum(each.memory for each in nodes))),
            ],
            "rows": [_row(each) for each in (*away, *(each for each in nodes if each.takes_jobs))],
        }
        return self._context.answer(request, "cluster", values)

    def _look(self) -> tuple[NodeUse, ...]:
        with self._lock:
            if not self._nodes or time.monotonic() - self._asked_at > _KEPT_SECONDS:
                self._nodes, self._asked_at = node_use.ask(), time.monotonic()
            return self._nodes


def _row(each: NodeUse) -> list[str]:
    """Return the cells of a node."""
    return [
        each.name,
        each.state,
        f"{each.gpus_in_use} of {each.gpus}",
        f"{each.cpus_in_use} of {each.cpus}",
        _memory(each.memory_in_use, each.memory),
        ", ".join(each.partitions),
        each.reason,
    ]


def _memory(used: int, total: int) -> str:
    """Return two amounts in MiB in one unit."""
    return f"{used / 1024:.1f} of {total / 1024:.1f} GiB"
