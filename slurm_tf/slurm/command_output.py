"""Reads the tables of squeue, sacct and sinfo, whose columns are asked for by name, with a separator in no name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import array_indexes
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord, exit_code, text_or_empty

SEPARATOR = "\x1f"

SQUEUE = (
    "JobID", "ArrayJobID", "ArrayTaskID", "HetJobID", "HetJobOffset", "State", "RestartCnt", "exit_code", "Reason",
    "UserName", "Account", "Partition", "QOS", "NodeList", "SubmitTime", "StartTime", "EndTime", "Command",
)  # fmt: skip
SACCT = (
    "JobID", "State", "ExitCode", "User", "Account", "Partition", "QOS", "NodeList", "Submit", "Start", "End",
)  # fmt: skip
# Fields that older releases lack: since 19.05 and 24.11.
SACCT_NEWER = ("Reason", "Restarts")


def columns(names: Sequence[str]) -> str:
    """Return the option of squeue and sinfo for these columns, each in full: the suffix does that (22.05.8)."""
    return "--Format=" + ",".join(f"{name}:{SEPARATOR}" for name in names)


def is_stepped(tasks: Sequence[Mapping[str, str]]) -> bool:
    """Return whether the indexes of squeue's array tasks are evenly spaced, more than one apart."""
    indexes = sorted(int(row["ArrayTaskID"]) for row in tasks)
    gaps = {high - low for low, high in pairwise(indexes)}
    return len(gaps) == 1 and gaps != {1}


def rows(text: str, fields: int) -> list[list[str]]:
    """Return the rows of a table in which each field is followed by the separator.

    The last field may hold newlines and separators: a script's path may.
    """
    *lines, rest = text.split(f"{SEPARATOR}\n")
    table = [line.split(SEPARATOR, fields - 1) for line in lines]
    for row in [*table, *([[rest]] if rest else [])]:
        if len(row) != fields:
            raise SlurmError(f"Slurm printed {row!r}", f"{fields} fields")
    return table


def from_squeue(row: Mapping[str, str]) -> JobRecord:
    """Return the record of a row with the columns of SQUEUE."""
    state = JobState.parse(row["State"])
    code, signalled = _squeue_exit(row["exit_code"]) if state.ended else (None, False)
    start = local_time(row["StartTime"])
    return JobRecord(
        id=_squeue_id(row),
        state=state,
        reason=text_or_empty(row["Reason"]),
        user=row["UserName"],
        account=text_or_empty(row["Account"]),
        partition=row["Partition"],
        qos=text_or_empty(row["QOS"]),
        nodes=text_or_empty(row["NodeList"]),
        submitted=local_time(row["SubmitTime"]),
        started=None if state is JobState.PENDING else start,
        expected_start=start if state is JobState.PENDING else None,
        ended=local_time(row["EndTime"]),
        exit_code=code,
        signalled=signalled,
        restarts=int(row["RestartCnt"]) if row["RestartCnt"].isdigit() else None,
        script=text_or_empty(row["Command"]),
    )


def _squeue_id(row: Mapping[str, str]) -> str:
    if row["ArrayTaskID"].isdigit():
        return f"{row['ArrayJobID']}_{row['ArrayTaskID']}"
    if row["HetJobOffset"].isdigit():
        return f"{row['HetJobID']}+{row['HetJobOffset']}"
    return row["JobID"]


def _squeue_exit(text: str) -> tuple[int | None, bool]:
    """Return the exit code, and whether a signal ended the job's script.

    22.05 prints a status as of wait(2); a pair "status:signal" is read as well.
    """
    if re.fullmatch(r"\d+:\d+", text):
        status, signal = map(int, text.split(":"))
    elif text.isdigit():
        status, signal = int(text) >> 8 & 0xFF, int(text) & 0x7F
    else:
        return None, False
    return exit_code(status, signal), bool(signal)


def from_sacct(row: Mapping[str, str]) -> list[JobRecord]:
    """Return the record of a row with the columns of SACCT, or one for each array task that it stands for."""
    state = JobState.parse(row["State"])
    status, _, signal = row["ExitCode"].partition(":")
    known = state.ended and status.isdigit()
    record = JobRecord(
        id="",
        state=state,
        reason=text_or_empty(row.get("Reason")),
        user=row["User"],
        account=row["Account"],
        partition=row["Partition"],
        qos=text_or_empty(row["QOS"]),
        nodes=text_or_empty(row["NodeList"]),
        submitted=local_time(row["Submit"]),
        started=local_time(row["Start"]),
        ended=local_time(row["End"]),
        exit_code=exit_code(int(status), int(signal or 0)) if known else None,
        signalled=known and signal not in ("", "0"),
        restarts=int(row["Restarts"]) if row.get("Restarts", "").isdigit() else None,
    )
    return [replace(record, id=each) for each in array_indexes.expand(row["JobID"])]


def local_time(text: str) -> datetime | None:
    """Return a time that Slurm printed: the local one, without a zone. None for a word such as "N/A"."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return None
