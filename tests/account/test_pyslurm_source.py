"""pyslurm as a source, where there is none: a module that answers as pyslurm 22.5.3 and slurmdbd 22.05.8 did.

tests/cluster/test_usage.py has it beside a live Slurm.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_tf.account import pyslurm_source
from slurm_tf.account.diagnostics import Notes
from slurm_tf.account.pyslurm_source import PyslurmSource
from slurm_tf.account.rows import ASKED, Rows
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.errors import SchedulerError, UnreachableError
from slurm_tf.slurm import pyslurm_accounting, sacct
from tests.conftest import RECORDED
from tests.recorded.record_usage import SEPARATOR

FOLDER = RECORDED / "slurm-22.05.8" / "pyslurm-22.5.3"
LINES = [json.loads(line) for line in (FOLDER / "lines").read_text().splitlines()]
ALL = Window(0, 2**31)
# The older API is a dict by job id, of rows by time of submission; the newer one has reasons and comments.
FAKE = """
import json, os, sys
from types import SimpleNamespace as Has

__version__ = VERSION
names, *rows, _ = [json.loads(line) for line in open(LINES)]
rows.sort(key=lambda row: row[0]["submit"])
settings = Has(LOCAL_CLUSTER="sandbox")

class RPCError(Exception):
    errno = -1

def slurm_init():
    pass

def asked_for(row, words, flags):
    job, component = row[:2]
    leader = component.partition("+")[0]
    if component in words or {str(job["jobid"]), str(job["array_job_id"])} & words:
        return True
    if flags & 16:
        return any(each[1].partition("+")[0] == leader != "" for each in rows if str(each[0]["jobid"]) in words)
    return not flags & 32 and leader in words

def newest(start, end, flags, words=(), users=()):
    found = {}
    for row in rows:
        job = row[0]
        since = job["submit"] if words else job["eligible"]
        if 0 < since < end and (job["end"] >= start or not job["end"]):
            if (not words or asked_for(row, words, flags)) and (not users or job["uid"] in users):
                found[job["jobid"]] = row
    return found

class slurmdb_jobs:
    asked = 0

    def get(self, jobids=(), userids=(), starttime=0, endtime=0, flags=0, db_flags=None, clusters=()):
        slurmdb_jobs.asked += 1
        if slurmdb_jobs.asked == int(os.environ.get("GONE", 0)):
            raise ValueError(b"Connection refused", 111)
        if slurmdb_jobs.asked == int(os.environ.get("ENDS", 0)):
            os.write(2, b"error: Connection refused\\npython: symbol lookup error\\n")
            os._exit(127)
        assert (starttime[:3], endtime[:3], clusters, flags & 5) == (b"uts", b"uts", ["sandbox"], 5)
        found = newest(int(starttime[3:]), int(endtime[3:]), flags, set(jobids), userids)
        return {id: {**row[0], "steps": {}} if flags & 2 else row[0] for id, row in found.items()}

def jobs(filter):
    found = newest(filter.start_time, filter.end_time, 32, set(map(str, filter.ids)))
    return {
        id: Has(id=id, submit_time=row[0]["submit"], state_reason=row[2] or "None", admin_comment=row[3] or None)
        for id, row in found.items()
    }

def tres(name_is_key):
    return {int(id): Has(type_and_name=name) for id, name in names[2].items()}

def qos(filter, name_is_key):
    return {int(id): Has(name=name) for id, name in names[3].items()}

db = Has(
    Jobs=Has(load=jobs), JobFilter=Has, TrackableResources=Has(load=tres), QualitiesOfService=Has(load=qos),
    QualityOfServiceFilter=Has,
)
"""


@pytest.fixture
def pyslurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put a pyslurm of this version, or of any text, beside Slurm's commands."""

    def install(version: str, text: str = FAKE) -> None:
        scontrol = tmp_path / "scontrol"
        scontrol.write_text(f"#!/bin/sh\necho slurm-wlm {version}\n")
        scontrol.chmod(0o755)
        text = text.replace("VERSION", repr(version)).replace("LINES", repr(str(FOLDER / "lines")))
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "pyslurm.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
    before = sys.modules.pop("pyslurm", None)
    yield install
    sys.modules.pop("pyslurm", None)
    if before:
        sys.modules["pyslurm"] = before


def of_sacct() -> list[UsageRecord]:
    """Return the records that sacct's own rows give."""
    names = [name for name in ASKED if name in (RECORDED / "slurm-22.05.8/usage/fields").read_text().split()]
    table = sacct.parse(iter([(FOLDER / "live").read_bytes()]), SEPARATOR, len(names))
    return ordered(Rows(names, Notes(), 0).records(table))


def ordered(records: Any) -> list[UsageRecord]:
    return sorted(records, key=lambda record: (int(record.raw_id), record.submitted))


def test_records_are_those_of_sacct(pyslurm: Callable[[str], None]) -> None:
    pyslurm("22.5.3")
    source = PyslurmSource(all_users=True)
    found = ordered(source.records(ALL))
    assert found == of_sacct()
    assert max(Counter(record.raw_id for record in found).values()) == 2
    assert {record.gpu_type for record in found} == {"", "a100"}
    assert source.notes.missing_fields == ["SLUID", "Restarts", "Extra"]
    assert source.notes.records == len(found)


@pytest.mark.parametrize("part", [1, 60, 3600])
def test_parts_of_a_time_tell_nothing_twice(
    pyslurm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    pyslurm("22.5.3")
    monkeypatch.setattr(pyslurm_accounting, "_DAY", part)
    monkeypatch.setattr(pyslurm_accounting, "_LONGEST", part)
    monkeypatch.setattr(pyslurm_accounting, "_BATCH", 3)
    start = min(row[0]["submit"] for row in LINES[1:-1])
    end = max(row[0]["end"] for row in LINES[1:-1]) + 1
    found = pyslurm_accounting.Accounting().incarnations((start, end), ())
    keys = [(each.job["jobid"], each.job["submit"], each.component) for each in found]
    wanted = [(row[0]["jobid"], row[0]["submit"], row[1]) for row in LINES[1:-1] if row[0]["eligible"]]
    assert sorted(keys) == sorted(wanted)


def test_jobs_users_and_accounts_are_selected_as_sacct_does(pyslurm: Callable[[str], None]) -> None:
    pyslurm("22.5.3")
    every = of_sacct()
    source = PyslurmSource(all_users=True)
    whole = next(record for record in every if record.id.endswith("+1"))
    assert ordered(source.records(ALL, jobs=[whole.job])) == [each for each in every if each.job == whole.job]
    assert list(source.records(ALL, jobs=[whole.id])) == [whole]
    task = next(record for record in every if record.id.endswith("_3"))
    assert list(source.records(ALL, jobs=[task.id])) == [task]
    assert ordered(source.records(ALL, accounts=["nlp"])) == [each for each in every if each.account == "nlp"]
    uid = next(row[0]["uid"] for row in LINES[1:-1] if row[0]["user"] == "carol")
    assert ordered(source.records(ALL, [str(uid)])) == [each for each in every if each.user == "carol"]
    with pytest.raises(SchedulerError, match="Invalid user id: nobody-of-that-name"):
        list(source.records(ALL, ["nobody-of-that-name"]))


def test_whose_jobs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    own, everybody = PyslurmSource(), PyslurmSource(all_users=True)
    assert (own._numbers([], []), own._numbers([], ["12"]), everybody._numbers([], [])) == ([1234], [], [])
    assert everybody._numbers(["root"], []) == [0]
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert own._numbers([], []) == []


@pytest.mark.parametrize(
    ("environ", "kind", "words"),
    [
        ({"GONE": "1"}, UnreachableError, "Connection refused"),
        ({"GONE": "9"}, UnreachableError, "Connection refused"),
        ({"ENDS": "9"}, UnreachableError, "symbol lookup error .*exit code 127"),
        ({"SLURM_CLUSTERS": "other"}, SchedulerError, "found SLURM_CLUSTERS=other; needed with pyslurm, sandbox alone"),
    ],
    ids=["not there", "goes away", "ends libslurm", "elsewhere"],
)
def test_what_goes_wrong(
    pyslurm: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    kind: type[SchedulerError],
    words: str,
) -> None:
    pyslurm("22.5.3")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=f"(?s){words}"):
        list(PyslurmSource().records(ALL))


@pytest.mark.parametrize("text", ["", '["22.5.3", "sandbox", {}, {}]\n', '["22.5.3", "sandbox", {}, {}]\nnul'])
def test_an_answer_that_ends_too_early(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sacct, "output", lambda *_: iter([text.encode()]))
    with pytest.raises(SchedulerError, match="pyslurm's answer is not whole"):
        list(pyslurm_accounting.ask((1, 2))[1])


def test_a_release_whose_incarnations_have_ids_of_their_own(pyslurm: Callable[[str], None]) -> None:
    pyslurm("24.11.0")
    with pytest.raises(SchedulerError, match=r"(?s)pyslurm 24\.11\.0 has no SLUID.*HINT: client = \"commands\""):
        list(PyslurmSource().records(ALL))


def test_without_pyslurm(pyslurm: Callable[..., None]) -> None:
    pyslurm("22.05.8", "raise ModuleNotFoundError(\"No module named 'pyslurm'\")")
    with pytest.raises(SchedulerError, match=r"pyslurm cannot be imported: .*No module named"):
        list(PyslurmSource().records(ALL))


# as sacct 22.05.8 prints them
@pytest.mark.parametrize(
    ("text", "at_once", "printed"),
    [
        ("0x15555555540", 3, "6-40:2%3"),
        ("0x23E", 1, "1-5,9%1"),
        ("0x3E", 0, "1-5"),
        ("1-5,9%1", 1, "1-5,9%1"),
    ],
)
def test_tasks_that_wait(text: str, at_once: int, printed: str) -> None:
    job = {"array_task_str": text, "array_max_tasks": at_once, "array_job_id": 7, "jobid": 7}
    assert pyslurm_source._id(job) == f"7_[{printed}]"


@pytest.mark.parametrize(
    ("status", "printed"), [(0, "0:0"), (3 << 8, "3:0"), (9, "0:9"), (143 << 8, "15:0"), (2**32 - 2, "")]
)
def test_exit_codes(status: int, printed: str) -> None:
    assert pyslurm_source._exit(status) == printed


def test_amounts() -> None:
    assert [pyslurm_source._limit(each) for each in (90, 0, 2**32 - 1, 2**32 - 2)] == [
        "90", "", "UNLIMITED", "Partition_Limit",
    ]  # fmt: skip
    assert pyslurm_source._used(59, 1_001_999) == "01:00.001"
    assert pyslurm_source._used(3600, 999_999) == "01:00:00"
    assert pyslurm_source._used(0, 0) == "00:00:00"
    assert pyslurm_source._clock(90061) == "1-01:01:01"
    assert pyslurm_source._counts("1=4,3=18446744073709551614,1001=2") == {1: 4, 1001: 2}


def test_a_job_that_was_submitted_in_the_second_that_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """slurmdbd takes an end that is now for the whole second, and the former incarnation would be hidden."""
    answers = [{5: {"submit": 100}}, {5: {"submit": 40}}]
    accounting = pyslurm_accounting.Accounting.__new__(pyslurm_accounting.Accounting)
    accounting.cluster = "sandbox"
    accounting._askers = {(True, False): SimpleNamespace(get=lambda **_: answers.pop(0))}
    accounting._slurm = SimpleNamespace(RPCError=RuntimeError)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert accounting._newest([5], (1, 100), ()) == {5: {"submit": 40}}
    answers[:] = [{5: {"submit": 100}}] * 5
    with pytest.raises(SchedulerError, match="slurmdbd's clock is 5 s behind"):
        accounting._newest([5], (1, 100), ())
