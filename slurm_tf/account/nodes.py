"""Divides jobs among their nodes: Slurm records what a job had in all, so each node counts with an equal part."""

from typing import TYPE_CHECKING

from slurm_tf.errors import HostlistError
from slurm_tf.slurm import hostlist

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_DIVIDED = ("node_count", "cpus", "gpus", "memory", "billing", "used_cpu", "used_memory", "energy")
# The rows of `jobs`, one for each of their nodes.
_PARTS = ", ".join(f"{name} / coalesce(n.count, 1) as {name}" for name in _DIVIDED)
PARTS = f"(select j.* replace ({_PARTS}), n.node from jobs j left join nodes_of_lists n on j.nodes = n.nodes)"


def expand(database: "DuckDBPyConnection") -> None:
    """Make the table `nodes_of_lists`, which has the nodes of each node list of `jobs`."""
    database.execute("create or replace table nodes_of_lists (nodes varchar, node varchar, count integer)")
    lists = database.execute("select distinct nodes from jobs where nodes is not null").fetchall()
    rows = [(text, name, len(names)) for (text,) in lists for names in [_names(text)] for name in names]
    if rows:
        columns = [[*column] for column in zip(*rows, strict=True)]
        database.execute("insert into nodes_of_lists select unnest($1), unnest($2), unnest($3)", columns)


def _names(text: str) -> list[str]:
    """Return the nodes of a list; what is no node list is one name."""
    try:
        return list(dict.fromkeys(hostlist.expand(text))) or [text]
    except HostlistError:
        return [text]
