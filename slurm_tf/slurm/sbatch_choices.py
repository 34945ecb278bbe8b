"""What a user may ask sbatch for, where it refused a job: partitions, sizes of nodes, accounts, QOS, reservations.

sinfo shows the partitions that the user may see, sacctmgr the user's own accounts. What does not answer in time is
unknown.
"""

import os
import pwd
import re
from collections.abc import Callable, Sequence
from enum import Enum

from slurm_tf import units
from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import client, command_output, reservations

_SECONDS = 10.0
# The most choices in one message.
_MOST = 12
_PARTITION_COLUMNS = ("%P", "%l", "%a", "%D", "%c", "%m", "%G", "%f")
_ASSOCIATION_FIELDS = ("Account", "Partition", "QOS")


class Topic(Enum):
    """What a refusal is about, in the words of what is needed."""

    PARTITION = "a partition that you have"
    NODES = "no more than nodes have"
    ACCOUNT = "an account of yours"
    QOS = "a QOS of yours"
    RESERVATION = "a reservation"


# The messages of sbatch (slurm_errno.c of 22.05) and the reasons of pending jobs.
_TOPICS = (
    (
        re.compile(
            r"invalid partition|partition name|No partition specified|to use this partition|partition not available|"
            r"Requested time limit is invalid|Access/permission denied|PartitionTimeLimit|PartitionDown|"
            r"PartitionInactive",
            re.IGNORECASE,
        ),
        Topic.PARTITION,
    ),
    (re.compile(r"Invalid account|AccountNotAllowed|InvalidAccount"), Topic.ACCOUNT),
    (re.compile(r"Invalid qos|InvalidQOS|QOSNotAllowed"), Topic.QOS),
    (re.compile(r"reservation", re.IGNORECASE), Topic.RESERVATION),
    (
        re.compile(
            r"node configuration is not available|Memory (specification|required)|Invalid (feature|node name)|"
            r"\bgres\b|More processors requested|Node count specification|not in this partition|"
            r"PartitionNodeLimit|PartitionConfig|BadConstraints",
            re.IGNORECASE,
        ),
        Topic.NODES,
    ),
)  # fmt: skip


def topic(message: str) -> Topic | None:
    """Return what sbatch's message, or the reason of a pending job, is about; None for all else."""
    return next((each for pattern, each in _TOPICS if pattern.search(message)), None)


def explained(error: SlurmError) -> SlurmError:
    """Return sbatch's refusal with what the user may ask for instead, where it is about that."""
    about = None if isinstance(error, UnreachableError) or error.needed else topic(error.found)
    return SlurmError(error.found, words(about), error.do, error.where) if about else error


def words(about: Topic) -> str:
    """Ask Slurm what this user may have; return it in one line. What Slurm does not say is unknown."""
    try:
        found = _ASK[about]()
    except SlurmError as error:
        return f"{about.value}; which there are is unknown: {error.found}"
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    listed = [*found[:_MOST], *more]
    return f"{about.value}: {'; '.join(listed)}" if found else f"{about.value}, and there is none"


def _partition_text() -> str:
    columns = f"--format={command_output.SEPARATOR.join(_PARTITION_COLUMNS)}"
    return client.run(["sinfo", "--noheader", "--exact", columns], seconds=_SECONDS).stdout


def parse_partitions(text: str) -> tuple[str, ...]:
    """Return each partition in the output of sinfo, with its time limit: "main (default, up to 1-00:00:00)"."""
    found = {}
    for name, limit, state, *_ in map(_fields, text.splitlines()):
        notes = ["default"] if name.endswith("*") else []
        notes.append("no time limit" if limit == "infinite" else f"up to {limit}")
        notes += [state] if state != "up" else []
        found[name.rstrip("*")] = ", ".join(notes)
    return tuple(f"{name} ({notes})" for name, notes in found.items())


def parse_node_sizes(text: str) -> tuple[str, ...]:
    """Return the sizes of the nodes of each partition; partitions with the same nodes together."""
    found: dict[str, list[str]] = {}
    for name, _, _, nodes, cpus, memory, gres, features in map(_fields, text.splitlines()):
        size = [f"{cpus} CPUs", units.format_memory(int(memory.rstrip("+")))]
        size += [each for each in (_without_sockets(gres), features) if each not in ("", "(null)")]
        found.setdefault(f"{nodes} nodes with {', '.join(size)}", []).append(name.rstrip("*"))
    return tuple(f"{', '.join(names)}: {size}" for size, names in found.items())


def parse_accounts(text: str) -> tuple[str, ...]:
    """Return the accounts in the output of sacctmgr, with the partitions that one is for, if it is not for all."""
    found = [(account, partition) for account, partition, _ in map(_of_association, text.splitlines())]
    return tuple(dict.fromkeys(f"{name} (partition {partition})" if partition else name for name, partition in found))


def parse_qos(text: str) -> tuple[str, ...]:
    """Return each QOS in the output of sacctmgr; where accounts have different ones, with its accounts."""
    accounts: dict[str, list[str]] = {}
    for account, _, names in map(_of_association, text.splitlines()):
        for name in filter(None, names.split(",")):
            accounts.setdefault(name, []).append(account)
    are_equal = len({tuple(each) for each in accounts.values()}) == 1
    return tuple(
        name if are_equal else f"{name} (account {', '.join(dict.fromkeys(each))})" for name, each in accounts.items()
    )


def _association_text() -> str:
    user = pwd.getpwuid(os.getuid()).pw_name
    columns = f"format={','.join(_ASSOCIATION_FIELDS)}"
    argv = ["sacctmgr", "--noheader", "--parsable2", "show", "assoc", "where", f"user={user}", columns]
    return client.run(argv, seconds=_SECONDS).stdout


def _fields(line: str) -> Sequence[str]:
    return line.split(command_output.SEPARATOR)


def _of_association(line: str) -> Sequence[str]:
    """sacctmgr knows no other separator than "|"; accounts and QOS have none in their names."""
    return line.split("|")


def _without_sockets(gres: str) -> str:
    """Return a node's Gres without the sockets that it is bound to: "gpu:a100:4(S:0-1)"."""
    return re.sub(r"\(S:[^)]*\)", "", gres)


_ASK: dict[Topic, Callable[[], tuple[str, ...]]] = {
    Topic.PARTITION: lambda: parse_partitions(_partition_text()),
    Topic.NODES: lambda: parse_node_sizes(_partition_text()),
    Topic.ACCOUNT: lambda: parse_accounts(_association_text()),
    Topic.QOS: lambda: parse_qos(_association_text()),
    Topic.RESERVATION: reservations.words,
}
