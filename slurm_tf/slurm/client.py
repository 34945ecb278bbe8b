"""The only door to Slurm: one protocol, and its client over Slurm's own commands.

Every command is bounded in time and asked for the fields by name. Text that anybody may choose (job names, comments) is
never asked for: it may hold any delimiter, newlines too. pyslurm_client.py is the other implementation.
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
# sbatch retries by itself while slurmctld is busy; ended too early, a job may have been taken all the same.
_SUBMIT_SECONDS = 180.0
# So many ids go on one command line; each takes about ten bytes.
_IDS = 2000
# What Slurm's commands print when the daemon does not answer, or without a slurm.conf (22.05.8). "Unexpected message
# received" is what scontrol hold makes of it.
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Connection refused|Connection timed out|Socket timed out|"
    r"Problem talking to the database|Unable to connect|Zero Bytes were transmitted|Unexpected message received|"
    r"Could not establish a configuration source|Unable to process configuration file",
    re.IGNORECASE,
)
_UNKNOWN_JOB = "Invalid job id specified"


class Client(Protocol):
    """What slurm-tf asks of Slurm. Ids are as sbatch and squeue print them: "42", "42_3", "42+1".

    All raise UnreachableError if a daemon does not answer, SlurmError for any other refusal.
    """

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what slurmctld has of these jobs: one record an array task or component; ended jobs for a while.

        A job that it does not know has no record, nor has an array task that was cancelled before it started (22.05.8).
        """

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what slurmdbd has of these jobs, their newest incarnation each.

        sacct takes 128 off exit codes from 128 on, and so does pyslurm: 143 reads as 15 (22.05.8).
        """

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return all nodes."""

    def partitions(self) -> tuple[PartitionRecord, ...]:
        """Return all partitions that the user sees."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs; those that have ended stay as they are, and one that slurmctld does not know is no error."""

    def requeue(self, ids: Sequence[str]) -> None:
        """Put jobs that run, or that slurmctld still has, back into the queue."""

    def hold(self, ids: Sequence[str]) -> None:
        """Keep pending jobs from starting."""

    def release(self, ids: Sequence[str]) -> None:
        """Let held jobs start."""


def connect(kind: Literal["commands", "pyslurm"]) -> Client:
    """Return the client of that kind. Raises SlurmError if pyslurm is missing or not of Slurm's own release."""
    if kind == "commands":
        return CommandLineClient()
    # pyslurm is an extra, and importing it is not harmless
    from slurm_tf.slurm.pyslurm_client import PyslurmClient  # noqa: PLC0415

    return PyslurmClient()


@dataclass(frozen=True)
class SbatchAnswer:
    """What sbatch answered. `messages`: what Slurm and its plugins told the user, untouched."""

    job: str
    cluster: str
    messages: str


def submit(script: str, options: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]) -> SbatchAnswer:
    """Submit a script with its arguments; not through pyslurm, which passes by cli_filter plugins and a site's sbatch.

    Raises SlurmError with sbatch's own words.
    """
    done = run(["sbatch", "--parsable", *options, script, *arguments], environ, _SUBMIT_SECONDS)
    match = re.fullmatch(r"(\d+)(?:;(.*))?", done.stdout.strip().rpartition("\n")[2])
    if match is None:
        raise SlurmError(f"sbatch printed {done.stdout!r}", "a job id", "look for the job with squeue --me")
    return SbatchAnswer(match[1], match[2] or "", done.stderr)


def estimate(script: str, environ: Mapping[str, str]) -> str:
    """Return what `sbatch --test-only` says of a script: when and where it would start. Raises SlurmError."""
    return run(["sbatch", "--test-only", script], environ).stderr.strip()


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
    SlurmError if it fails otherwise: with the command, its exit code and its own words.
    """
    try:
        done = subprocess.run(
            list(argv), env=environment(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{argv[0]} did not answer in {seconds:.0f} s") from error
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip()
        kind = kind_of(words)
        raise kind(f"{words or 'no message'} ({argv[0]} ended with exit code {done.returncode})")
    return done


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables for Slurm's commands: times without a zone, as they are parsed here, lists of indexes in
    full, no site's or user's own formats.
    """
    drop = ("SQUEUE_", "SACCT_", "SINFO_")
    kept = {n: v for n, v in (os.environ if environ is None else environ).items() if not n.startswith(drop)}
    return {**kept, "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C.UTF-8"}


def missing(command: str) -> UnreachableError:
    """Return the error for a command that is not here."""
    return UnreachableError(f"no {command} here", "Slurm's commands in PATH", "do it on a login node")


def kind_of(words: str) -> type[SlurmError]:
    """Return the error for what Slurm said: UnreachableError if that is that a daemon does not answer."""
    return UnreachableError if _UNREACHABLE.search(words) else SlurmError


class CommandLineClient:
    """Slurm's own commands: they work with every release, on login nodes of remote clusters, with a site's wrappers.

    No command takes longer than `seconds`.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.seconds = seconds

    def _run(self, *argv: str) -> str:
        return run(argv, seconds=self.seconds).stdout

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what squeue says."""
        records: list[JobRecord] = []
        # squeue (22.05.8) reads "42+1" as 42
        for some in _portions([whole_job(each) for each in checked(ids)]):
            # an array's waiting tasks in a row each; jobs of partitions that are hidden as well
            argv = ["squeue", "--noheader", "--array", "--all", "--states=all", f"--jobs={some}"]
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
            for row in [*rows, *self._lost(rows)]:
                record = command_output.from_squeue(row)
                records += [record] if is_named(record, row["JobID"], ids) else []
        return tuple(records)

    def _lost(self, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return rows that squeue --array does not print: of waiting tasks "6-40:2", it leaves out 40 (22.05.8).

        Without --array it names them all, but merges tasks with different reasons and restarts.
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
        """Return what sacct says."""
        records: list[JobRecord] = []
        fields = ("JobIDRaw", *self._sacct_fields)
        # asked for "42_3", sacct (22.05.8) finds nothing as long as the task is pending
        for some in _portions([whole_job(each) for each in checked(ids)]):
            argv = ["sacct", "--noheader", "--parsable", f"--delimiter={command_output.SEPARATOR}", "--allocations"]
            text = self._run(*argv, f"--jobs={some}", f"--format={','.join(fields)}")
            for row in command_output.rows(text, len(fields)):
                found = command_output.from_sacct(dict(zip(fields, row, strict=True)))
                records += [record for record in found if is_named(record, row[0], ids)]
        return tuple(records)

    @cached_property
    def _sacct_fields(self) -> tuple[str, ...]:
        """The fields that this release's sacct has: one that it does not know is an error."""
        known = set(self._run("sacct", "--helpformat").split())
        return command_output.SACCT + tuple(name for name in command_output.SACCT_NEWER if name in known)

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return what sinfo says."""
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
        """Return what sinfo says."""
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
        for some in _portions(ids, " "):
            self._run("scancel", "--", *some.split(" "))

    def requeue(self, ids: Sequence[str]) -> None:
        """Run scontrol requeue."""
        self._scontrol("requeue", ids)

    def hold(self, ids: Sequence[str]) -> None:
        """Run scontrol hold."""
        self._scontrol("hold", ids)

    def release(self, ids: Sequence[str]) -> None:
        """Run scontrol release."""
        self._scontrol("release", ids)

    def _scontrol(self, verb: str, ids: Sequence[str]) -> None:
        for some in _portions(ids):
            self._run("scontrol", verb, some)


def _portions(ids: Sequence[str], separator: str = ",") -> list[str]:
    each = checked(ids)
    return [separator.join(each[start : start + _IDS]) for start in range(0, len(each), _IDS)]


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
