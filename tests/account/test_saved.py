"""What people saved: compressed, as CSV or JSON, with delimiters in names, damaged; what is lost is counted."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from slurm_tf.account import saved_lines, saved_tables, saved_text, text_part
from slurm_tf.account.columns import JOBS, STEPS
from slurm_tf.account.diagnostics import Examples
from slurm_tf.account.row_fit import RowFit
from slurm_tf.account.saved import FileSource
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.errors import AccountingError
from tests.conftest import RECORDED, ROOT

USAGE = RECORDED / "slurm-22.05.8" / "usage"
HEADER = "JobID|JobName|State|Start|End|AllocTRES|MaxRSS\n"
ROW = "12|x|COMPLETED|1700000000|1700000100|cpu=2,mem=4G,node=1|\n"


class Read(NamedTuple):
    """What is read of a file: each row by its columns, and what could not be read."""

    rows: list[dict[str, str]]
    lost: Examples

    @property
    def ids(self) -> list[str]:
        """The ids of its rows."""
        return [row["JobID"] for row in self.rows]


Saved = Callable[[str | bytes], Read]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Save text, and return what is read of it."""

    def read(text: str | bytes) -> Read:
        path = tmp_path / "saved"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_file(path)

    return read


def read_file(path: Path) -> Read:
    lost = Examples()
    with saved_text.opened(str(path)) as file:
        tables = saved_tables.read(file, lost)
        rows = [dict(zip(table.names, row, strict=False)) for table in tables for row in table.rows]
    return Read(rows, lost)


def test_the_documented_command_saves_all_that_reports_need() -> None:
    page = (ROOT / "docs" / "usage.md").read_text().replace("\\\n", "")
    (names,) = re.findall(r"^sacct .* --format=(\S+)", page, re.MULTILINE)
    known = set((USAGE / "fields").read_text().split())
    sources = [[part for field in column.fields for part in re.split(r" [+x-] ", field)] for column in (*JOBS, *STEPS)]
    wanted = {next((field for field in fields if field in known), "JobID") for fields in sources}
    assert wanted - set(names.split(",")) == set()
    assert set(names.split(",")) <= known
    assert names.endswith(",JobName")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes], ids=lambda pack: pack.__name__)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_compressed_and_marked_files_are_read(pack: Callable[[bytes], bytes], mark: bytes, saved: Saved) -> None:
    data = pack(mark + (HEADER + ROW).encode())
    found = saved(data)
    assert (found.ids, found.rows[0]["State"], found.lost.total) == (["12"], "COMPLETED", 0)
    if pack is gzip.compress and mark:
        code = "from slurm_tf.account import saved_text; print(*next(saved_text.opened('-').gen).lines())"
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=ROOT)
        assert done.stdout.decode().split() == (HEADER + ROW).split()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress((HEADER + ROW * 99).encode())[:-20], "cannot be read to its end"),
        (b"\x1f\x8b" + b"x" * 99, "cannot be read"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 99, "(?s)compressed with zstd.*HINT: unzstd"),
        ((HEADER + ROW).encode("utf-16"), "(?s)it is UTF-16.*iconv"),
        (b"{}", 'no JSON of sacct: it has no "jobs"'),
        (b'{"jobs": 3}', "no JSON of sacct"),
        (b'"JobID","State","Start","End"\n"12","COMPLETED\x00' + b"x" * 2**18, "no row of a CSV file"),
    ],
    ids=["cut gzip", "no gzip", "zstd", "utf-16", "no jobs", "jobs that are none", "csv"],
)
def test_files_that_cannot_be_read_say_what_to_do(data: bytes, words: str, saved: Saved) -> None:
    csv.field_size_limit(sys.maxsize)  # as other readers of the process may leave it
    with pytest.raises(AccountingError, match=words) as error:
        saved(data)
    assert error.value.exit_code == 65


def test_the_last_line_needs_no_newline(saved: Saved) -> None:
    found = saved(HEADER + ROW + ROW.replace("12|", "13|").rstrip("\n"))
    assert (found.ids, found.lost.total) == (["12", "13"], 0)


@pytest.mark.parametrize("fragment", [ROW[:20], f"{ROW[:20]}\n", "sacct: error: x\n", "\n"])
def test_a_fragment_at_the_end_loses_itself_alone(fragment: str, saved: Saved) -> None:
    found = saved(HEADER + ROW + fragment)
    assert (found.ids, found.lost.total) == (["12"], int(bool(fragment.strip())))


def test_rows_that_are_lost_are_counted_one_by_one(saved: Saved) -> None:
    found = saved(f"{HEADER}{ROW}13|x|y\n14|x|y\n15|x|y\n{ROW.replace('12|', '16|')}")
    assert (found.ids, found.lost.total) == (["12", "16"], 3)
    assert [text.rpartition(": ")[2][1:3] for text in found.lost.first] == ["13", "14", "15"]


LINES = "JobID|JobName|User|State|Start|End|AllocTRES|Comment|SubmitLine|WorkDir|NodeList\n"


def line(name: str, submit: str, comment: str = "", folder: str = "/home/ann") -> str:
    return f"12|{name}|ann|COMPLETED|1700000000|1700000100|cpu=2|{comment}|{submit}|{folder}|n1\n"


@pytest.mark.parametrize(
    ("name", "submit", "comment", "folder"),
    [
        ("a|b", "sbatch -J a|b job.sh", "", "/home/ann"),
        ("a|b|c", "sbatch --job-name=a|b|c --wrap=x", "lr|0.1", "/home/ann"),
        ("a|b", 'sbatch --wrap="cat x | sort | uniq"', "", "/home/ann"),
        ("batch", "srun a|b", "", "/home/a|b"),
        ("a|b", "sbatch job|7.sh", "x", "/home/ann"),
    ],
)
def test_delimiters_in_several_free_texts(name: str, submit: str, comment: str, folder: str, saved: Saved) -> None:
    text = LINES + line(name, submit, comment, folder) + line("y", "sbatch y").replace("12", "13", 1)
    (job, other), lost = saved(text)
    assert (other["JobName"], lost.total) == ("y", 0)
    assert (job["JobName"], job["SubmitLine"], job["Comment"], job["WorkDir"]) == (name, submit, comment, folder)


@pytest.mark.parametrize("last", [False, True])
def test_a_name_is_what_the_command_says(last: bool) -> None:
    names: tuple[str, ...] = ("JobID", "JobName", "State", "SubmitLine")
    if last:
        names = ("JobID", "State", "SubmitLine", "WorkDir", "JobName")
    row = "7|FAILED|sbatch -J a|b x|/home|a|b" if last else "7|a|b|FAILED|sbatch -J a|b x"
    found = dict(zip(names, RowFit(names, "|").fit(row) or (), strict=True))
    assert (found["JobName"], found["SubmitLine"]) == ("a|b", "sbatch -J a|b x")


@pytest.mark.parametrize("count", [75, 99, 5_000])
def test_a_row_of_delimiters_is_given_up(count: int) -> None:
    assert RowFit(LINES.rstrip().split("|"), "|").fit("|".join(["12", *"ab" * count, "COMPLETED"])) is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL], ids=["all quoted", "some quoted"])
def test_csv_files(delimiter: str, quoting: Any, saved: Saved) -> None:
    text = io.StringIO()
    rows: list[list[object]] = [
        ["", "jobid", "JobName", "State", "Start", "End", "AllocTRES"],
        [0, "12", 'a "name",\nof two lines', "COMPLETED", "1700000000", "1700000100", "cpu=2,gres/gpu=1,mem=4G,node=1"],
        [1, "12.batch", "batch", "COMPLETED", "1700000000", "1700000100", "cpu=2,mem=4G,node=1"],
        [2, "x", "no row", "", "", "", ""],
        [3, "13", "b", "FAILED", "1700000000", "1700000100", "cpu=2"],
    ]
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)
    found = saved(text.getvalue())
    assert (found.ids, found.lost.total) == (["12", "12.batch", "13"], 1)
    assert [found.rows[0][name] for name in ("JobName", "AllocTRES")] == [rows[1][2], rows[1][6]]


def test_a_table_with_commas_between_its_fields(saved: Saved) -> None:
    (job,), lost = saved(
        "JobID,JobName,State,Start,End,AllocTRES,NodeList\n"
        "12,a,COMPLETED,1700000000,1700000100,billing=8,cpu=8,gres/gpu=2,mem=4G,node=2,n[1,3]\n"
    )
    tres = "billing=8,cpu=8,gres/gpu=2,mem=4G,node=2"
    assert (job["AllocTRES"], job["NodeList"], lost.total) == (tres, "n[1,3]", 0)


def alike(record: UsageRecord) -> tuple[object, ...]:
    """Return what text and JSON have both. JSON names who cancelled a job, not by number, and lacks exit codes."""
    cpu = None if record.used_cpu is None else round(record.used_cpu, 2)
    return (
        record.id, record.raw_id, record.name.replace("\\xe9", "?"), record.user, record.account, record.partition,
        record.qos, record.state, record.cancelled_by == 0, record.submitted, record.eligible,
        record.started, record.ended, record.suspended, record.limit, record.cpus, record.node_count, record.gpus,
        record.gpu_type, record.memory, record.billing, cpu, record.out_of_memory, record.nodes,
        record.used_memory is None,
    )  # fmt: skip


def test_json_and_text_of_22_05_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    wanted, found = FileSource(str(USAGE / "saved")), FileSource(str(USAGE / "saved.json.gz"))
    records = sorted(map(alike, wanted.records(Window(0, 2**32))), key=repr)
    assert sorted(map(alike, found.records(Window(0, 2**32))), key=repr) == records
    assert (found.diagnostics.orphans.total, found.diagnostics.unreadable.total) == (0, 0)


# github.com/mila-iqia/SARC (BSD 3-Clause), tests/functional/jobs/sacct_outputs, each printed by the release of its
# name; 24.11.1 from a comment of test_SAcctScraper_convert_version_supported, with names that were made up there;
# 25.05.2 of its tests/factory/gen_sacct.py, which writes what that release prints.
# github.com/rackslab/Slurm-web (MIT, recorded/sacct/LICENSE.Slurm-web), tests/assets/slurmrestd/24.05/0.0.41 and
# 25.11/0.0.44: 24.05.3 and 25.11.0, each printed by slurmrestd of that release with the newest data_parser that it has.
# sacct prints the same: OPENAPI_SLURMDBD_JOBS_RESP, by that data_parser (src/sacct/print.c of 24.05.3).
WANTED = {
    "22.05.9": ("20247445_100", "hudson", "FAILED", "124403", "", "2880", "1692160813", "1693865044"),
    "23.02.6": ("4", "masterkohga", "RUNNING", "83853331", "0:0", "7200", "1613725209", "Unknown"),
    "23.11.5": ("4", "masterkohga", "RUNNING", "102228976", "0:0", "7200", "1613725209", "Unknown"),
    "24.05.3": ("649717", "ksoto", "TIMEOUT", "83", "0:0", "1", "1747754465", "1747754549"),
    "24.11.1": ("123456", "j27dai", "TIMEOUT", "259223", "0:0", "4320", "1747064484", "1751866893"),
    "25.05.2": ("12", "farcher", "COMPLETED", "2858", "0:0", "60", "1708759061", "1708763274"),
    "25.11.0": ("5739", "vhartman", "FAILED", "2", "1:0", "1", "1762942459", "1762942462"),
}
HELD = {
    "22.05.9": "billing=16,cpu=96,gres/gpu=16,mem=262144M,node=4",
    "23.02.6": "billing=3,cpu=4,gres/gpu=2,mem=32768M,node=1",
    "23.11.5": "billing=3,cpu=4,gres/gpu=2,mem=32768M,node=1",
    "24.05.3": "billing=1,cpu=1,mem=512M,node=1",
    "24.11.1": "billing=8000,cpu=8,mem=16000M,node=1",
    "25.05.2": "billing=1,cpu=4,gres/gpu:rtx8000=1,mem=8192M,node=1",
    "25.11.0": "billing=1,cpu=1,mem=512M,node=1",
}
# The steps, with how they ended.
ENDS = {
    "24.05.3": {"649717.batch": ("CANCELLED", "0:15")},
    "25.05.2": {"12.batch": ("COMPLETED", "0:0"), "12.extern": ("COMPLETED", "0:0")},
    "25.11.0": {"5739.batch": ("FAILED", "1:0")},
}


@pytest.mark.parametrize("release", WANTED)
def test_json_of_each_shape(release: str) -> None:
    found = read_file(RECORDED / "sacct" / f"{release}.json")
    job, *steps = found.rows
    names = ("JobID", "User", "State", "ElapsedRaw", "ExitCode", "TimelimitRaw", "Submit", "End")
    assert tuple(job[name] for name in names) == WANTED[release]
    assert (job["AllocTRES"], found.lost.total) == (HELD[release], 0)
    assert {step["JobID"]: (step["State"], step["ExitCode"]) for step in steps} == ENDS.get(release, {})
    assert {step["TotalCPU"] for step in steps} <= {"00:47:38", "00:00:00"}
    assert {step["NTasks"] for step in steps} <= {"1"}


def test_json_that_is_cut_or_strange_loses_the_least(saved: Saved) -> None:
    document = json.loads((RECORDED / "sacct" / "23.11.5.json").read_text())
    (job,) = document["jobs"]
    bare = {"job_id": 5, "state": None, "time": {"start": "x"}, "tres": [3], "steps": {}}
    array = {"job_id": 9, "task": "4-7%2", "task_id": {"set": False}}
    task = {**job, "job_id": 9, "array": array, "state": {"current": ["PENDING"]}}
    het = {**job, "job_id": 10, "het": {"job_id": 9, "job_offset": {"set": True, "number": 1}}, "name": "caf\udce9|\n"}
    step = {**job, "step": {"id": {"step_id": {"set": True, "number": 3}}}, "state": ["CANCELLED"]}
    text = json.dumps(
        {"jobs": [7, {"job_id": "x"}, bare, task, {**het, "steps": [step]}, job], "meta": {}}, ensure_ascii=False
    )
    data = text.encode(errors="surrogateescape")
    found = saved(b'{"jobs": []}' + data)
    assert (found.ids, found.lost.total) == (["5", "9_[4-7%2]", "9+1", "9+1.3", "4"], 2)
    assert found.rows[2]["JobName"] == "caf\\xe9|\n"
    found = saved(data[:-200])
    assert (found.ids, found.lost.total) == (["5", "9_[4-7%2]", "9+1", "9+1.3"], 3)


RUNNING = "12|x|RUNNING|1700000000|Unknown|cpu=2,mem=4G,node=1|\n"
STEP = "12.batch|batch|COMPLETED|1700000000|1700000100|cpu=2|1234K\n"
OTHER = "1{0}|y|FAILED|2024-03-31T0{0}:30:00|2024-03-31T06:00:00|cpu=1,mem=1G,node=1|\n1{0}.0|z|FAILED|||cpu=1|5K\n"
CLEAN = HEADER + ROW + STEP + RUNNING + "".join(OTHER.format(number) for number in range(1, 6))


@pytest.mark.parametrize(
    ("text", "is_clean"),
    [
        (CLEAN, True), (CLEAN.rstrip("\n"), True), (CLEAN.replace("|", "#~"), True),
        (CLEAN.replace("x|", "A|B|", 1), False), (CLEAN.replace("\n", "|\n"), True), (CLEAN + HEADER + ROW, False),
        (CLEAN.replace("x|", "a|b|", 1), False), (CLEAN.replace("y|", "a\nb|", 1), False),
        (CLEAN.replace("FAILED", "16|A", 1), False), (CLEAN.replace("x|", "é|", 1), True),
        (CLEAN + "1|x|COMPLE", False), (CLEAN.replace("\n", "\r\n"), None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", [1, 192 << 20])
def test_a_table_of_lines_is_read_as_row_by_row(
    text: str, is_clean: bool | None, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "saved"
    path.write_bytes(text.encode())
    monkeypatch.setattr(text_part, "SIZE", part)
    answers = list[bool]()
    read = saved_lines.read

    def watched(*given: Any) -> bool:
        answers.append(read(*given))
        return answers[-1]

    found = []
    for way in (watched, lambda *_: False):
        monkeypatch.setattr(saved_lines, "read", way)
        source = FileSource(str(path))
        records = sorted(source.records(Window(0, 2**32)), key=repr)
        found.append((records, source.diagnostics))
    assert answers == ([] if is_clean is None else [is_clean])
    assert found[0] == found[1]
    assert found[0][0]
