"""sacct as a source, and what goes wrong with it or with a saved table: one clear error, never half a report."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.account.fields import ASKED
from slurm_tf.account.saved import FileSource
from slurm_tf.account.source import SacctSource
from slurm_tf.account.window import Window
from slurm_tf.errors import AccountingError, SlurmError, UnreachableError
from slurm_tf.slurm.sacct import rows as sacct_rows
from tests.conftest import RECORDED
from tests.recorded.record_usage import LIVE, SEPARATOR

USAGE = RECORDED / "slurm-22.05.8" / "usage"
ALL = Window(0, 2**32)
# Prints what was recorded, with the separator that it is asked for; END is what happens then.
PLAYER = f"""#!{sys.executable} -IS
import json, os, sys, time
words = dict(word.partition("=")[::2] for word in sys.argv[1:])
if "--helpformat" in words:
    sys.exit(print(open({str(USAGE / "fields")!r}).read()))
environ = [os.environ.get(name) for name in ("TZ", "SLURM_TIME_FORMAT", "SACCT_FORMAT")]
with open(os.environ["ASKED"], "a") as file:
    json.dump([sys.argv[1:], environ], file)
fields = open({str(USAGE / "live")!r}, "rb").read().split({SEPARATOR!r}.encode())
recorded = [name for name in {LIVE!r} if name in open({str(USAGE / "fields")!r}).read().split()]
mark, width = words["--delimiter"].encode(), len(recorded)
rows = [fields[at : at + width] for at in range(0, len(fields) - 1, width)]
names = words["--format"].split(",")
data = b"\\n".join(
    b"".join(dict(zip(recorded, [row[0].lstrip(), *row[1:]])).get(name, b"") + mark for name in names)
    for row in rows
) + b"\\n"
END
"""
WHOLE = "sys.stdout.buffer.write(data)"


@pytest.fixture
def sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a sacct into PATH, which holds nothing else; return where it says what it was asked."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))

    def write(end: str) -> Path:
        path = tmp_path / "sacct"
        path.write_text(PLAYER.replace("END", end))
        path.chmod(0o755)
        return tmp_path / "asked"

    return write


def test_sacct_is_asked_once_for_all_incarnations_of_a_time(
    sacct: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCT_FORMAT", "JobID%3")
    asked = sacct(WHOLE)
    source = SacctSource(all_users=True)
    records = list(source.records(ALL, ["alice", "bob"], ["vision"], ["7_3"]))
    assert records == []  # of job 7, nothing was recorded
    text = asked.read_text()
    assert text.count("--noheader") == 1
    for word in (
        "--duplicates", "--noconvert", "--parsable", "--allusers", "--user=alice,bob", "--accounts=vision", "--jobs=7",
        "--starttime=1970-01-01T00:00:01", "--endtime=2106-02-07T06:28:16",
    ):  # fmt: skip
        assert f'"{word}"' in text
    assert '["UTC", "%s", null]' in text
    assert "Restarts" not in text
    assert set(source.diagnostics.missing_fields) == {"SLUID", "Restarts", "Extra"} <= set(ASKED)


def test_records_of_a_live_sacct(sacct: Callable[[str], Path]) -> None:
    sacct(WHOLE)
    source = SacctSource()
    records = list(source.records(ALL))
    assert len(records) == source.diagnostics.records > 20
    assert source.diagnostics.users == {"alice", "bob", "carol"}
    (requeued,) = {record.id for record in records if record.name == "requeued.sh"}
    assert [record.id for record in source.records(ALL, jobs=[requeued])] == [requeued] * 2


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        ("sys.exit('sacct: error: Invalid user id: x')", SlurmError, "Invalid user id: x .*exit code 1"),
        (
            "sys.stdout.buffer.write(data[:5000]); sys.stdout.flush(); sys.exit('slurmdbd: Connection refused')",
            UnreachableError,
            "Connection refused",
        ),
        (f"{WHOLE}; print('sacct: error: no answer', file=sys.stderr)", SlurmError, "no answer .*exit code 0"),
        ("sys.stdout.buffer.write(data[:5000])", SlurmError, "ends inside a row"),
        ("sys.stdout.buffer.write(data); time.sleep(60)", UnreachableError, "not done in 1 s"),
        ("sys.exit('sacct: error: Too wide of a date range in query')", SlurmError, "HINT: ask for a shorter time"),
        ("sys.stdout.buffer.write(data.replace(b'\\n2', b'2'))", SlurmError, "where a row begins"),
    ],
    ids=["refused", "half way", "error and exit code 0", "cut", "slow", "too wide", "other rows"],
)  # fmt: skip
def test_a_sacct_that_fails(sacct: Callable[[str], Path], end: str, kind: type[SlurmError], words: str) -> None:
    sacct(end)
    with pytest.raises(kind, match=words):
        list(SacctSource(seconds=1 if "sleep" in end else 60).records(ALL))


def test_no_sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="found no sacct in PATH"):
        list(SacctSource().records(ALL))


def test_a_sacct_that_nobody_reads_to_the_end_is_ended(sacct: Callable[[str], Path], tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sacct(f"open({str(pid)!r}, 'w').write(str(os.getpid())); {WHOLE}; sys.stdout.flush(); time.sleep(60)")
    rows = sacct_rows(["JobID", "JobName"], *ALL)
    next(rows)
    del rows
    assert not Path(f"/proc/{pid.read_text()}").exists()


HEADER = "JobID|JobName|State|Start|End|AllocTRES\n"
ROW = "12|x|COMPLETED|1700000000|1700000100|cpu=2,node=1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        (HEADER + ROW.replace("|", ","), r"line 2 is no row: .*6 fields with '\|' between"),
        (ROW, "the first line is no header"),
        ("       JobID    JobName\n------------ ----------\n", "filled up with blanks"),
        ("JobID|JobName|Elapsed\n12|x|00:01:00\n", "no column State, Start, End"),
        ("\x00" * 100, "the first line is no header"),
    ],
    ids=["empty", "delimiter", "no header", "not -P", "columns", "binary"],
)
def test_a_file_that_is_no_saved_table(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "saved"
    path.write_text(text)
    with pytest.raises(AccountingError, match=words) as error:
        list(FileSource(str(path)).records(ALL))
    assert error.value.exit_code == 65
    assert "needed" in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AccountingError, match="No such file"):
        list(FileSource(str(tmp_path / "none")).records(ALL))
    (tmp_path / "saved").write_text(ROW)
    with pytest.raises(AccountingError, match="--fields names Jobs"):
        list(FileSource(str(tmp_path / "saved"), "JobID,Jobs").records(ALL))


@pytest.mark.parametrize(
    ("form", "row", "name"),
    [
        ("JobID,State,Start,End,JobName", "12|COMPLETED|1700000000|1700000100|", ""),
        ("JobID,State,Start,End,JobName", "12|COMPLETED|1700000000|1700000100|a|b|", "a|b|"),
        ("JobID,JobName,State,Start,End", "12|a|COMPLETED|1700000000|1700000100|", "a"),
    ],
    ids=["no name", "a name", "closed"],
)
def test_a_table_without_a_header(tmp_path: Path, form: str, row: str, name: str) -> None:
    path = tmp_path / "saved"
    path.write_text(f"{row}\n{row.replace('12', '13', 1)}\n")
    records = list(FileSource(str(path), form).records(ALL))
    assert [(record.id, record.name) for record in records] == [("12", name), ("13", name)]
    end = "|" if name == "a" else ""
    path.write_text(f"{form.replace(',', '|')}{end}\n{row}\n")
    assert len(list(FileSource(str(path), form).records(ALL))) == 1


def test_a_header_with_columns_of_a_release_to_come(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_text(f"Zeal|{HEADER}7|{ROW}")
    source = FileSource(str(path))
    assert [record.id for record in source.records(ALL)] == ["12"]
    assert source.diagnostics.unknown_fields == ["Zeal"]


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_text(
        HEADER
        + ROW
        + "13|COMPLETED\n"
        + ROW.replace("12|", "14|")
        + ROW.replace("12|", "15|").replace("cpu=2", "cpu=x")
    )
    source = FileSource(str(path))
    assert [record.id for record in source.records(ALL)] == ["12", "14", "15"]
    assert source.diagnostics.unreadable.total == 1
    assert "13|COMPLETED" in source.diagnostics.unreadable.first[0]
    # what a field says that cannot be read is lost, and not the hours of its job
    assert source.diagnostics.values.first == ["job 15: AllocTRES cpu 'x'"]


def test_files_that_overlap_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    running = ROW.replace("COMPLETED", "RUNNING").replace("1700000100", "Unknown").replace("12|", "13|")
    ended = ROW.replace("12|", "13|")
    other = "State|JobID|Start|End|JobName\nFAILED|16|1700000000|1700000007|y\n"
    path.write_text(HEADER + ROW + running + HEADER + ROW + ended + other)
    source = FileSource(str(path))
    found = {record.id: record for record in source.records(ALL)}
    assert list(found) == ["12", "13", "16"]
    assert found["13"].ended == 1700000100
    assert (found["16"].state_text, found["16"].name) == ("FAILED", "y")
    assert source.diagnostics.repeated == 2


def test_what_runs_is_counted_until_the_table_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_text(HEADER + ROW.replace("COMPLETED", "RUNNING").replace("1700000100", "Unknown"))
    (record,) = FileSource(str(path)).records(ALL)
    assert record.counted_until == int(path.stat().st_mtime)


def test_windows_line_ends_and_trailing_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_bytes((HEADER + ROW).replace("\n", "|\r\n").encode())
    (record,) = FileSource(str(path)).records(ALL)
    assert (record.name, record.cpus) == ("x", 2)
