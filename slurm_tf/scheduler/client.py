"""The only door to Slurm: one protocol, and its client over Slurm's own commands.

Every command is bounded in time and asked for the fields by name. Text that anybody may choose (job names, comments) is
never asked for: it may hold any delimiter, newlines too. pyslurm_client.py is the other implementation.
"""

import functools
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from slurm_tf import units
from slurm_tf.errors import SchedulerError, UnreachableError
from slurm_tf.scheduler import arrays
from slurm_tf.scheduler.records import JobRecord, NodeRecord, PartitionRecord, exit_code, wait_status
from slurm_tf.scheduler.states import JobState

_SECONDS = 60.0
# sbatch retries by itself while slurmctld is busy; ended too early, a job may have been taken all the same.
_SUBMIT_SECONDS = 180.0
_SEPARATOR = "\x1f"
# So many ids go on one command line; each takes about ten bytes.
_IDS = 2000
# What Slurm's commands print when the daemon does not answer (22.05.8).
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Connection refused|Connection timed out|Socket timed out|"
    r"Could not establish a configuration source|Problem talking to the database|"
    r"Unable to connect|Zero Bytes were transmitted",
    re.IGNORECASE,
)
_UNKNOWN_JOB = "Invalid job id specified"


class Client(Protocol):
    """What slurm-tf asks of Slurm. Ids are as sbatch and squeue print them: "42", "42_3", "42+1".

    All raise UnreachableError if a daemon does not answer, SchedulerError for any other refusal.
    """

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what slurmctld has of these jobs: one record an array task or component; ended jobs for a while."""

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what slurmdbd has of these jobs, their newest incarnation each."""

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return all nodes."""

    def partitions(self) -> tuple[PartitionRecord, ...]:
        """Return all partitions that the user sees."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs; those that have ended stay as they are."""

    def requeue(self, ids: Sequence[str]) -> None:
        """Put running jobs back into the queue."""

    def hold(self, ids: Sequence[str]) -> None:
        """Keep pending jobs from starting."""

    def release(self, ids: Sequence[str]) -> None:
        """Let held jobs start."""


@dataclass(frozen=True)
class Submission:
    """What sbatch answered. `messages`: what Slurm and its plugins told the user, untouched."""

    job: str
    cluster: str
    messages: str


def submit(script: str, options: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]) -> Submission:
    """Submit a script with its arguments; not through pyslurm, which passes by cli_filter plugins and a site's sbatch.

    Raises SchedulerError with sbatch's own words.
    """
    done = run(["sbatch", "--parsable", *options, script, *arguments], environ, _SUBMIT_SECONDS)
    match = re.fullmatch(r"(\d+)(?:;(.*))?", done.stdout.strip().rpartition("\n")[2])
    if match is None:
        raise SchedulerError(f"sbatch printed {done.stdout!r}", "a job id", "look for the job with squeue --me")
    return Submission(match[1], match[2] or "", done.stderr)


def estimate(script: str, environ: Mapping[str, str]) -> str:
    """Return what `sbatch --test-only` says of a script: when and where it would start. Raises SchedulerError."""
    return run(["sbatch", "--test-only", script], environ).stderr.strip()


def version(environ: Mapping[str, str] | None = None) -> str:
    """Return the version of Slurm's commands here, such as "22.05.8"; "" if there are none, or none that work."""
    try:
        text = run(["sbatch", "--version"], environ).stdout
    except SchedulerError:
        return ""
    match = re.search(r"\d+\.\d+(\.\d+)?\S*", text)
    return match[0] if match else ""


def run(
    argv: Sequence[str], environ: Mapping[str, str] | None = None, seconds: float = _SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands; return what it printed.

    Raises UnreachableError if it is not installed, takes longer, or says that its daemon does not answer, and
    SchedulerError if it fails otherwise: with the command, its exit code and its own words.
    """
    # times without a zone, as they are parsed here; lists of indexes in full; no site's or user's own formats
    own = {"SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C.UTF-8"}
    drop = ("SQUEUE_", "SACCT_", "SINFO_")
    kept = {n: v for n, v in (os.environ if environ is None else environ).items() if not n.startswith(drop)}
    try:
        done = subprocess.run(
            list(argv), env={**kept, **own}, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=seconds, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UnreachableError(f"no {argv[0]} here", "Slurm's commands in PATH", "do it on a login node") from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{argv[0]} did not answer in {seconds:.0f} s") from error
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip()
        kind = UnreachableError if _UNREACHABLE.search(words) else SchedulerError
        raise kind(f"{words or 'no message'} ({argv[0]} ended with exit code {done.returncode})")
    return done


# squeue -O name -> field; each printed in full, whatever its length (the suffix does that, 22.05.8)
_SQUEUE = (
    "JobID", "ArrayJobID", "ArrayTaskID", "HetJobID", "HetJobOffset", "State", "RestartCnt", "exit_code", "Reason",
    "UserName", "Account", "Partition", "QOS", "NodeList", "SubmitTime", "StartTime", "EndTime", "Command",
)  # fmt: skip
_SACCT = (
    "JobID", "State", "ExitCode", "Reason", "User", "Account", "Partition", "QOS", "NodeList", "Submit", "Start", "End",
)  # fmt: skip
# Fields that some releases lack (Restarts: 22.05).
_SACCT_NEWER = ("Restarts",)


class CommandLineClient:
    """Slurm's own commands: they work with every release, on login nodes of remote clusters, with a site's wrappers."""

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what squeue says."""
        records: list[JobRecord] = []
        columns = ",".join(f"{name}:{_SEPARATOR}" for name in _SQUEUE)
        for some in _portions(ids):
            # an array's pending tasks in a record each; jobs of partitions that are hidden as well
            argv = ["squeue", "--noheader", "--array", "--all", "--states=all", f"--jobs={some}", f"--Format={columns}"]
            try:
                text = run(argv).stdout
            except SchedulerError as error:
                if _UNKNOWN_JOB not in error.found:
                    raise
                continue
            records += [_from_squeue(dict(zip(_SQUEUE, row, strict=True))) for row in _rows(text, len(_SQUEUE))]
        return tuple(records)

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return what sacct says."""
        records: list[JobRecord] = []
        fields = _sacct_fields()
        for some in _portions(ids):
            argv = ["sacct", "--noheader", "--parsable", f"--delimiter={_SEPARATOR}", "--allocations"]
            text = run([*argv, f"--jobs={some}", f"--format={','.join(fields)}"]).stdout
            for row in _rows(text, len(fields)):
                records += _from_sacct(dict(zip(fields, row, strict=True)))
        return tuple(records)

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return what sinfo says."""
        names = ("NodeHost", "StateLong", "CPUs", "Memory", "PartitionName", "Gres")
        columns = ",".join(f"{name}:{_SEPARATOR}" for name in names)
        nodes: dict[str, NodeRecord] = {}
        for row in _rows(run(["sinfo", "--noheader", "--Node", "--all", f"--Format={columns}"]).stdout, len(names)):
            name, state, cpus, memory, partition, gres = row
            known = nodes[name].partitions if name in nodes else ()
            state = state.rstrip("*~#!%$@^+-")
            gpus = gpus_in_gres(gres)
            nodes[name] = NodeRecord(name, state, int(cpus), int(memory), (*known, partition), gpus)
        return tuple(nodes.values())

    def partitions(self) -> tuple[PartitionRecord, ...]:
        """Return what sinfo says."""
        columns = _SEPARATOR.join(("%R", "%a", "%P", "%D", "%l"))
        lines = run(["sinfo", "--noheader", f"--format={columns}"]).stdout.splitlines()
        found: dict[str, PartitionRecord] = {}
        for name, up, starred, nodes, limit in (line.split(_SEPARATOR) for line in lines):
            known = found[name].nodes if name in found else 0
            time = None if limit == "infinite" else units.parse_time(limit)
            minutes = None if time is None else int(time.total_seconds()) // 60
            found[name] = PartitionRecord(name, up == "up", starred.endswith("*"), known + int(nodes), minutes)
        return tuple(found.values())

    def cancel(self, ids: Sequence[str]) -> None:
        """Run scancel."""
        for some in _portions(ids, " "):
            run(["scancel", "--", *some.split(" ")])

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
            run(["scontrol", verb, some])


def gpus_in_gres(text: str) -> int:
    """Return the number of GPUs in a node's Gres, such as "gpu:a100:4(S:0-1),gpu:t4:2,shard:8"."""
    counts = re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", text)
    return sum(map(int, counts))


def _portions(ids: Sequence[str], separator: str = ",") -> list[str]:
    checked = list(dict.fromkeys(ids))
    for each in checked:
        if not re.fullmatch(r"\d+(_\d+|\+\d+)?", each):
            raise SchedulerError(f"found the job id {each!r}", "a number, as sbatch printed it, N_TASK or N+COMPONENT")
    return [separator.join(checked[start : start + _IDS]) for start in range(0, len(checked), _IDS)]


def _rows(text: str, fields: int) -> list[list[str]]:
    """Return the rows of a table in which each field is followed by the separator."""
    rows = [line.split(_SEPARATOR)[:-1] for line in text.splitlines()]
    for row in rows:
        if len(row) != fields:
            raise SchedulerError(f"Slurm printed {row!r}", f"{fields} fields")
    return rows


def _from_squeue(row: Mapping[str, str]) -> JobRecord:
    state = JobState.parse(row["State"])
    return JobRecord(
        id=_squeue_id(row),
        state=state,
        reason=_text(row["Reason"]),
        user=row["UserName"],
        account=_text(row["Account"]),
        partition=row["Partition"],
        qos=_text(row["QOS"]),
        nodes=_text(row["NodeList"]),
        submitted=_time(row["SubmitTime"]),
        started=_time(row["StartTime"]),
        ended=_time(row["EndTime"]),
        exit_code=_squeue_exit(row["exit_code"]) if state.ended else None,
        restarts=int(row["RestartCnt"]) if row["RestartCnt"].isdigit() else None,
        script=_text(row["Command"]),
    )


def _squeue_id(row: Mapping[str, str]) -> str:
    if row["ArrayTaskID"].isdigit():
        return f"{row['ArrayJobID']}_{row['ArrayTaskID']}"
    if row["HetJobOffset"].isdigit():
        return f"{row['HetJobID']}+{row['HetJobOffset']}"
    return row["JobID"]


def _squeue_exit(text: str) -> int | None:
    """22.05 prints a status as of wait(2); a pair "status:signal" is read as well."""
    if re.fullmatch(r"\d+:\d+", text):
        status, signal = map(int, text.split(":"))
        return exit_code(status, signal)
    return wait_status(int(text)) if text.isdigit() else None


def _from_sacct(row: Mapping[str, str]) -> list[JobRecord]:
    """Return one record, or one for each task of an array that has not started."""
    state = JobState.parse(row["State"])
    status, _, signal = row["ExitCode"].partition(":")
    record = JobRecord(
        id="",
        state=state,
        reason=_text(row["Reason"]),
        user=row["User"],
        account=row["Account"],
        partition=row["Partition"],
        qos=row["QOS"],
        nodes=_text(row["NodeList"]),
        submitted=_time(row["Submit"]),
        started=_time(row["Start"]),
        ended=_time(row["End"]),
        exit_code=exit_code(int(status), int(signal or 0)) if state.ended and status.isdigit() else None,
        restarts=int(row["Restarts"]) if row.get("Restarts", "").isdigit() else None,
    )
    return [replace(record, id=each) for each in arrays.expand(row["JobID"])]


@functools.cache
def _sacct_fields() -> tuple[str, ...]:
    """The fields that this release's sacct has: one that it does not know is an error."""
    known = set(run(["sacct", "--helpformat"]).stdout.split())
    return _SACCT + tuple(name for name in _SACCT_NEWER if name in known)


def _text(text: str) -> str:
    return "" if text in ("(null)", "None", "N/A", "None assigned", "Unknown") else text


def _time(text: str) -> datetime | None:
    """Slurm prints the local time, without a zone."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return None
