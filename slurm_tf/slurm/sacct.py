"""Streams rows of accounting: one sacct is started and read while it prints."""

import contextlib
import os
import random
import re
import select
import string
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, NamedTuple

from slurm_tf.errors import SlurmError, UnitError, UnreachableError
from slurm_tf.slurm import client, sacct_amounts

# slurmdbd answers 100,000 jobs with their steps in 18 s (22.05.8, measured); sites have millions a month.
SECONDS = 3600.0
_CHUNK = 1 << 20
# Separators begin with one of these, none of which ends a line for any tool.
_CONTROL = "".join(map(chr, (*range(0x01, 0x07), *range(0x0E, 0x1B), 0x1F)))
_PRINTED = string.ascii_letters + string.digits + "!#$&()*+,-./:;<=>?@[]^_{|}~"
_TOO_WIDE = "Too wide of a date range"


def fields(seconds: float = 60.0) -> frozenset[str]:
    """Return the names of the fields that this release's sacct has; any other is an error. Raises SlurmError."""
    return frozenset(client.run(["sacct", "--helpformat"], seconds=seconds).stdout.split())


def cluster() -> str:
    """Return the name of this cluster, "" if Slurm has none for it. Raises SlurmError."""
    config = client.run(["scontrol", "show", "config"]).stdout
    match = re.search(r"^ClusterName\s*=\s*(\S+)", config, re.MULTILINE)
    return match[1] if match else ""


def rows(
    names: Sequence[str],
    start: int,
    end: int,
    users: Sequence[str] = (),
    accounts: Sequence[str] = (),
    jobs: Sequence[str] = (),
    all_users: bool = False,
    seconds: float = SECONDS,
) -> Iterator[list[str]]:
    """Yield the fields `names` of all jobs and steps in a time; times are seconds since the epoch, both ways.

    Every incarnation of a job has rows (--duplicates); without that, sacct prints the last one only. Text is as sacct
    prints it; bytes that are no UTF-8 are written as backslash, x and two digits.

    Raises UnreachableError if sacct is not installed or takes longer than `seconds`, SlurmError if it fails. Either
    may come after some rows, which are then not all.
    """
    found = printed(names, start, end, users, accounts, jobs, all_users, seconds)
    yield from parse(found.chunks, found.separator.decode(), len(names))


class Printed(NamedTuple):
    """What sacct prints: rows whose fields are each followed by the separator, and each row by a newline.

    The separator has four bytes, as DuckDB takes no longer one; the first is a control character, the others are not.
    """

    separator: bytes
    chunks: Iterator[bytes]


def printed(
    names: Sequence[str],
    start: int,
    end: int,
    users: Sequence[str] = (),
    accounts: Sequence[str] = (),
    jobs: Sequence[str] = (),
    all_users: bool = False,
    seconds: float = SECONDS,
    clusters: Sequence[str] = (),
) -> Printed:
    """Return what `rows` reads, as bytes. The errors are raised while the chunks are read."""
    separator = _drawn()
    argv = ["sacct", "--noheader", "--duplicates", "--noconvert", "--parsable", f"--delimiter={separator}"]
    # a start of 0 is none: sacct would begin today (slurmdb_job_cond_def_start_end(), 20.11 to 26.05)
    argv += [f"--format={','.join(names)}", f"--starttime={_utc(max(start, 1))}", f"--endtime={_utc(end)}"]
    argv += ["--allusers"] if all_users else []
    argv += [f"--user={','.join(users)}"] if users else []
    argv += [f"--accounts={','.join(accounts)}"] if accounts else []
    argv += [f"--jobs={','.join(jobs)}"] if jobs else []
    argv += [f"--clusters={','.join(clusters)}"] if clusters else []
    return Printed(separator.encode(), output(argv, seconds, _environment()))


def _drawn() -> str:
    """Return a separator: names and comments may hold any character, but hardly one of ten million drawn now."""
    draw = random.SystemRandom().choice
    return draw(_CONTROL) + "".join(draw(_PRINTED) for _ in range(3))


def most_memory(jobs: Sequence[str]) -> dict[str, int]:
    """Return for each job the most bytes that a task of one of its steps was seen to use (MaxRSS).

    Slurm looks every JobAcctGatherFrequency (30 s), so that a task may have used more. A job without such a number is
    left out. Raises SlurmError.
    """
    used: dict[str, int] = {}
    for step, text in rows(("JobID", "MaxRSS"), 0, int(time.time()), jobs=jobs, seconds=60.0):
        job = step.partition(".")[0]
        with contextlib.suppress(UnitError):
            used[job] = max(used.get(job, 0), sacct_amounts.size(text, "K"))
    return {job: most for job, most in used.items() if most}


def parse(chunks: Iterator[bytes], separator: str, fields: int) -> Iterator[list[str]]:
    """Yield the rows of a table whose fields are each followed by the separator, and each row by a newline.

    Fields are counted: also one that is not the last may begin with a newline. Raises SlurmError.
    """
    mark, rest = separator.encode(), b""
    parts: list[str] = []
    newline = ""  # before the first row there is none
    for chunk in chunks:
        whole, found, rest = (rest + chunk).rpartition(mark)
        if not found:
            continue
        parts += whole.decode(errors="backslashreplace").split(separator)
        full = len(parts) - len(parts) % fields
        for at in range(0, full, fields):
            row = parts[at : at + fields]
            if not row[0].startswith(newline):
                raise SlurmError(f"sacct printed {row[0]!r} where a row begins", f"{fields} fields in each")
            row[0] = row[0][len(newline) :]
            newline = "\n"
            yield row
        del parts[:full]
    if parts or rest.decode(errors="replace") != newline:
        raise SlurmError("sacct's output ends inside a row", "all of it", "run it again")


def output(argv: Sequence[str], seconds: float, environ: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the bytes that sacct prints; end sacct if the caller stops reading.

    Raises as `rows` does.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(argv), env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        except FileNotFoundError as error:
            raise client.not_installed(argv[0]) from error
        try:
            yield from _chunks(process, time.monotonic() + seconds, seconds)
            process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        _check(process.returncode, _message(errors))


def _chunks(process: "subprocess.Popen[bytes]", end: float, seconds: float) -> Iterator[bytes]:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    handle = process.stdout.fileno()
    while True:
        ready, _, _ = select.select([handle], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise UnreachableError(f"sacct was not done in {seconds:.0f} s", do="ask for a shorter time")
        chunk = os.read(handle, _CHUNK)
        if not chunk:
            return
        yield chunk


def _check(code: int, message: str) -> None:
    """Raise if sacct failed: before 23.11 it may end with 0 after an error."""
    if code or "error:" in message:
        do = "ask for a shorter time" if _TOO_WIDE in message else ""
        raise client.error_type(message)(f"{message or 'no message'} (sacct ended with exit code {code})", do=do)


def _message(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(10_000).decode(errors="replace").strip()


def _environment() -> Mapping[str, str]:
    return client.environment() | {"TZ": "UTC", "SLURM_TIME_FORMAT": "%s"}


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
