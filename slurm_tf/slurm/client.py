"""The protocol of Slurm's clients, and the client that runs Slurm's commands.

Every command has a time limit and is asked for fields by name. Text that any user can choose (job names, comments) is
never asked for, because it may hold any delimiter and newlines. pyslurm_client.py is the other client.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from slurm_tf import units
from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import array_indexes, command_output
from slurm_tf.slurm.records import JobRecord, NodeRecord, PartitionRecord, is_named, whole_job

_SECONDS = 60.0
# sbatch retries by itself while slurmctld is busy; if it is ended too early, the job may be submitted all the same.
_SUBMIT_SECONDS = 180.0
# The most job ids on one command line; each takes about ten bytes.
_IDS_PER_COMMAND = 2000
# What Slurm's commands print when the daemon does not answer, or without a slurm.conf (22.05.8). "Unexpected message
# received" is what scontrol prints then.
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Connection refused|Connection timed out|Socket timed out|"
    r"Problem talking to the database|Unable to connect|Zero Bytes were transmitted|Unexpected message received|"
    r"Could not establish a configuration source|Unable to process configuration file",
    re.IGNORECASE,
)
_UNKNOWN_JOB = "Invalid job id specified"


class Client(Protocol):
    """Reads and changes Slurm's jobs. Job ids are as sbatch and squeue print them: "42", "42_3", "42+1".

    Every method raises UnreachableError if a daemon does not answer, SlurmError for any other refusal.
    """

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return slurmctld's records of these jobs, one for each array task or component; ended jobs for a while.

        A job that slurmctld does not know has no record; nor has an array task that was cancelled before it started
        (22.05.8).
        """

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return slurmdbd's records of these jobs, of each its newest incarnation.

        sacct and pyslurm take 128 off exit codes from 128 on: 143 reads as 15 (22.05.8).
        """

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return all nodes."""

    def partitions(self) -> tuple[PartitionRecord, ...]:
        """Return all partitions that the user sees."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs; ended jobs stay as they are, and a job that slurmctld does not know is no error."""

    def requeue(self, ids: Sequence[str]) -> None:
        """Requeue jobs that run, or that have ended and that slurmctld still knows."""


def connect(kind: Literal["commands", "pyslurm"]) -> Client:
    """Return the client of that kind. Raises SlurmError if pyslurm is missing or not of Slurm's own release."""
    if kind == "commands":
        return CommandLineClient()
    # pyslurm is an extra, and importing it is not harmless
    from slurm_tf.slurm.pyslurm_client import PyslurmClient  # noqa: PLC0415

    return PyslurmClient()


@dataclass(frozen=True)
class SbatchAnswer:
    """A job that sbatch has accepted. `messages`: what Slurm and its plugins printed for the user, unchanged."""

    job: str
    cluster: str
    messages: str


def submit(script: str, options: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]) -> SbatchAnswer:
    """Submit a script with its arguments through sbatch; pyslurm bypasses cli_filter plugins and a site's own sbatch.

    Raises SlurmError with sbatch's own message.
    """
    done = run(["sbatch", "--parsable", *options, script, *arguments], environ, _SUBMIT_SECONDS)
    match = re.fullmatch(r"(\d+)(?:;(.*))?", done.stdout.strip().rpartition("\n")[2])
    if match is None:
        raise SlurmError(f"sbatch printed {done.stdout!r}", "a job id", "look for the job with squeue --me")
    return SbatchAnswer(match[1], match[2] or "", done.stderr)


def version(environ: Mapping[str, str] | None = None) -> str:
    """Return the version of Slurm's commands here, such as "22.05.8"; "" if there are none, or none that work."""
    try:
        text = run(["scontrol", "--version"], environ).stdout
    except SlurmError:
        return ""
    match = re.search(r"\d+\.\d+(\.\d+)?\S*", text)
    return match[0] if match else ""


def run(
    argv: Sequence[str], environ: Mapping[str, str] | None = None, seconds: float = _SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands; return what it printed.

    Raises UnreachableError if it is not installed, takes longer, or says that its daemon does not answer, and
    SlurmError if it fails otherwise: with the command, its exit code and its own message.
    """
    try:
        done = subprocess.run(
            list(argv), env=environment(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise not_installed(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{argv[0]} did not answer in {seconds:.0f} s") from error
    if done.returncode:
        message = done.stderr.strip() or done.stdout.strip()
        raise error_type(message)(f"{message or 'no message'} ({argv[0]} ended with exit code {done.returncode})")
    return done


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for Slurm's commands: times without a zone, as this package parses them, lists of indexes
    in full, and no output format of the user or the site.
    """
    drop = ("SQUEUE_", "SACCT_", "SINFO_")
    kept = {n: v for n, v in (os.environ if environ is None else environ).items() if not n.startswith(drop)}
    return {**kept, "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C.UTF-8"}


def not_installed(command: str) -> UnreachableError:
    """Return the error for a command that PATH does not have."""
    return UnreachableError(
        f"found no {command} in PATH", "Slurm's commands", "run this on a login node of the cluster"
    )


def error_type(message: str) -> type[SlurmError]:
    """Return the type of error for Slurm's message: UnreachableError if it says that a daemon does not answer."""
    return UnreachableError if _UNREACHABLE.search(message) else SlurmError


class CommandLineClient:
    """Asks Slurm through its commands: they work with every release, with remote clusters and with a site's wrappers.

    A command that takes longer than `seconds` is ended.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.seconds = seconds

    def _run(self, *argv: str) -> str:
        return run(argv, seconds=self.seconds).stdout

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return squeue's records."""
        records: list[JobRecord] = []
        # squeue (22.05.8) reads "42+1" as 42
        for portion in _portions([whole_job(each) for each in checked(ids)]):
            # an array's waiting tasks in a row each; jobs of partitions that are hidden as well
            argv = ["squeue", "--noheader", "--array", "--all", "--states=all", f"--jobs={portion}"]
            try:
                text = self._run(*argv, command_output.columns(command_output.SQUEUE))
            except SlurmError as error:
                if _UNKNOWN_JOB not in error.found:
                    raise
                continue
            rows = [
                dict(zip(command_output.SQUEUE, row, strict=True))
                for row in command_output.rows(text, len(command_output.SQUEUE))
            ]
            for row in [*rows, *self._omitted_tasks(rows)]:
                record = command_output.from_squeue(row)
                records += [record] if is_named(record, row["JobID"], ids) else []
        return tuple(records)

    def _omitted_tasks(self, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return the rows that squeue --array does not print: of pending tasks "6-40:2", it omits 40 (22.05.8).

        Without --array, squeue names all of them, but merges tasks with different reasons and restarts.
        """
        waiting: dict[str, list[Mapping[str, str]]] = {}
        for row in rows:
            if row["JobID"] == row["ArrayJobID"] and row["ArrayTaskID"].isdigit():
                waiting.setdefault(row["JobID"], []).append(row)
        stepped = {job: group[0] for job, group in waiting.items() if command_output.is_stepped(group)}
        if not stepped:
            return []
        argv = ["squeue", "--noheader", "--all", "--states=all", f"--jobs={','.join(stepped)}"]
        text = self._run(*argv, command_output.columns(("ArrayJobID", "ArrayTaskID")))
        printed = {(row["ArrayJobID"], row["ArrayTaskID"]) for row in rows}
        return [
            {**stepped[job], "ArrayTaskID": str(index)}
            for job, tasks in command_output.rows(text, 2)
            for index in array_indexes.parse(tasks)[0]
            if (job, str(index)) not in printed
        ]

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return sacct's records."""
        records: list[JobRecord] = []
        fields = ("JobIDRaw", *self._sacct_fields)
        # asked for "42_3", sacct (22.05.8) finds nothing as long as the task is pending
        for portion in _portions([whole_job(each) for each in checked(ids)]):
            argv = ["sacct", "--noheader", "--parsable", f"--delimiter={command_output.SEPARATOR}", "--allocations"]
            text = self._run(*argv, f"--jobs={portion}", f"--format={','.join(fields)}")
            for row in command_output.rows(text, len(fields)):
                found = command_output.from_sacct(dict(zip(fields, row, strict=True)))
                records += [record for record in found if is_named(record, row[0], ids)]
        return tuple(records)

    @cached_property
    def _sacct_fields(self) -> tuple[str, ...]:
        """The fields that this release's sacct has: an unknown one would be an error."""
        known = set(self._run("sacct", "--helpformat").split())
        return command_output.SACCT + tuple(name for name in command_output.SACCT_NEWER if name in known)

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return sinfo's nodes."""
        names = ("NodeHost", "StateLong", "CPUs", "Memory", "PartitionName", "Gres")
        nodes: dict[str, NodeRecord] = {}
        for row in command_output.rows(
            self._run("sinfo", "--noheader", "--Node", "--all", command_output.columns(names)), len(names)
        ):
            name, state, cpus, memory, partition, gres = row
            known = nodes[name].partitions if name in nodes else ()
            state = state.rstrip("*~#!%$@^+-")
            gpus = gpus_in_gres(gres)
            partitions = tuple(sorted((*known, partition)))
            nodes[name] = NodeRecord(name, state, int(cpus), int(memory), partitions, gpus)
        return tuple(nodes.values())

    def partitions(self) -> tuple[PartitionRecord, ...]:
        """Return sinfo's partitions."""
        columns = command_output.SEPARATOR.join(("%R", "%a", "%P", "%D", "%l"))
        lines = self._run("sinfo", "--noheader", f"--format={columns}").splitlines()
        found: dict[str, PartitionRecord] = {}
        for name, up, starred, nodes, limit in (line.split(command_output.SEPARATOR) for line in lines):
            known = found[name].nodes if name in found else 0
            time = None if limit == "infinite" else units.parse_time(limit)
            minutes = None if time is None else int(time.total_seconds()) // 60
            found[name] = PartitionRecord(name, up == "up", starred.endswith("*"), known + int(nodes), minutes)
        return tuple(found.values())

    def cancel(self, ids: Sequence[str]) -> None:
        """Run scancel."""
        for portion in _portions(ids, " "):
            self._run("scancel", "--", *portion.split(" "))

    def requeue(self, ids: Sequence[str]) -> None:
        """Run scontrol requeue."""
        for portion in _portions(ids):
            self._run("scontrol", "requeue", portion)


def _portions(ids: Sequence[str], separator: str = ",") -> list[str]:
    each = checked(ids)
    return [separator.join(each[start : start + _IDS_PER_COMMAND]) for start in range(0, len(each), _IDS_PER_COMMAND)]


def gpus_in_gres(text: str) -> int:
    """Return the number of GPUs in a node's Gres, such as "gpu:a100:4(S:0-1),gpu:t4:2,shard:8"."""
    counts = re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", text)
    return sum(map(int, counts))


def checked(ids: Sequence[str]) -> list[str]:
    """Return the ids, each once. Raises SlurmError for text that is no id."""
    for each in ids:
        if not re.fullmatch(r"\d+(_\d+|\+\d+)?", each, re.ASCII):
            raise SlurmError(f"found the job id {each!r}", "a number, as sbatch printed it, N_TASK or N+COMPONENT")
    return list(dict.fromkeys(ids))
