"""What an examination found: one finding for each check, or for each group of machines that differ in it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum

from slurm_tf.errors import ConfigGroupError, SlurmTfError
from slurm_tf.slurm import hostlist


class State(Enum):
    """How a check ended. UNKNOWN: it could not be made."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Its place among the states, the best one first."""
        return list(State).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `where`: the machines that it is about, as a node list, "" for the whole cluster.

    `needed` and `do` are for what is not OK.
    """

    check: str
    state: State
    found: str
    needed: str = ""
    do: str = ""
    where: str = ""


def ok(check: str, found: str) -> Finding:
    """Return a good finding."""
    return Finding(check, State.OK, found)


def unknown(check: str, found: str, do: str = "") -> Finding:
    """Return that a check could not be made; `found`: why."""
    return Finding(check, State.UNKNOWN, found, "", do)


def warning(check: str, found: str, needed: str, do: str) -> Finding:
    """Return what harms some jobs, or may do so later."""
    return Finding(check, State.WARNING, found, needed, do)


def error(check: str, found: str, needed: str, do: str) -> Finding:
    """Return what makes jobs fail."""
    return Finding(check, State.ERROR, found, needed, do)


def failed(check: str, problem: SlurmTfError, do: str = "") -> Finding:
    """Return an error of this package as a finding; `do`: where it does not say what to do."""
    problems = problem.errors if isinstance(problem, ConfigGroupError) else (problem,)
    found, needed, todo = (
        "; ".join(dict.fromkeys(filter(None, texts)))
        for texts in zip(*((_found(each), each.needed, each.do) for each in problems), strict=True)
    )
    return error(check, found, needed, todo or do)


def _found(problem: SlurmTfError) -> str:
    """Return what was found, behind the key that it is about, if it is about one of a file."""
    key = problem.where.rpartition(": ")[2]
    return f"{key}: {problem.found}" if key else problem.found


def as_dict(finding: Finding) -> dict[str, str]:
    """Return a finding for --json."""
    return {**asdict(finding), "state": finding.state.value}


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether anything makes jobs fail."""
    return any(each.state is State.ERROR for each in findings)


def of_nodes(by_node: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Return findings of nodes with one for all nodes that found the same, in the order of the checks.

    Nodes that are good are one finding, with what the first of them found.
    """
    groups: dict[tuple[str, State, str, str, str], list[str]] = {}
    first: dict[tuple[str, State, str, str, str], Finding] = {}
    for node, each in by_node:
        found = "" if each.state is State.OK else each.found
        key = (each.check, each.state, found, each.needed, each.do)
        groups.setdefault(key, []).append(node)
        first.setdefault(key, each)
    checks = list(dict.fromkeys(key[0] for key in groups))
    keys = sorted(groups, key=lambda key: (checks.index(key[0]), -key[1].rank))
    return [replace(first[key], where=hostlist.compress(groups[key])) for key in keys]
