"""Many jobs in a table: what reportseff prints of the same rows, columns, order."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_tf.account import database, efficiency_table, job_use
from slurm_tf.account.job_use import Chosen, JobUse
from slurm_tf.account.saved import FileSource
from slurm_tf.account.window import Window
from slurm_tf.errors import UsageError
from slurm_tf.slurm.job_states import JobState
from tests.account.test_recorded import HABROK, THEIRS
from tests.conftest import RECORDED, ROOT

ALL = Window(0, 2**33)
Table = Callable[..., list[JobUse]]
# github.com/troycomi/reportseff (MIT), tests/conftest.py: jobs of Princeton with the AdminComment of jobstats, without
# any time of a clock; and what its release 2.10.3 prints of them.
JOBSTATS = RECORDED / "sacct" / "jobstats"
PRINTED = RECORDED / "sacct" / "jobstats.reportseff-2.10.3"
# Where slurm-tf says something else. What nobody recorded is unknown, not 0%: tasks of a step (131042, 8205464), the
# use of a GPU. Of TotalCPU the thousandths count, of which a job of seconds has many.
OTHERS = {
    ("131042", "CPUEff"): "98.5%", ("131042", "MemEff"): "-", ("8205464", "CPUEff"): "10.0%",
    ("8205464", "MemEff"): "-", ("45352405", "GPUEff"): "-", ("46044267", "GPUEff"): "9.5%",
}  # fmt: skip


def uses(path: Path, form: str = "", delimiter: str = "") -> list[JobUse]:
    with database.opened() as found:
        FileSource(str(path), form, delimiter, lengths_suffice=True).read(found, ALL)
        return list(job_use.found(found.database, Chosen(), each=False))


def cells(jobs: list[JobUse], form: str = "") -> list[dict[str, str]]:
    wanted = efficiency_table.columns(form, jobs)
    return [{column.name: column.cell(job) for column in wanted} for job in jobs]


def test_the_page_names_every_column() -> None:
    page = (ROOT / "docs" / "usage.md").read_text()
    assert [column.name for column in efficiency_table.COLUMNS if f"`{column.name}`" not in page] == []


def test_it_says_what_reportseff_says() -> None:
    with PRINTED.open() as file:
        wanted = {row["JobID"]: row for row in csv.DictReader(file, delimiter="|")}
    for row in wanted.values():
        for name in ("TimeEff", "CPUEff", "MemEff", "GPUEff", "GPUMem"):
            shown = "-" if row[name] == "---" else f"{row[name]}%"
            row[name] = OTHERS.get((row["JobID"], name), shown)
    assert {row["JobID"]: row for row in cells(uses(JOBSTATS))} == wanted


def test_a_site_without_jobstats() -> None:
    found = {row["JobID"]: row for row in cells(uses(HABROK, THEIRS, "☃"), "JobID,TimeEff,CPUEff,MemEff,GPUEff")}
    # reportseff 2.10.3 has 9.7% for MemEff of 6708912: MaxRSS x NTasks, where Slurm also says what all tasks held
    assert list(found["6708912"].values()) == ["6708912", "100.0%", "99.3%", "5.5%", "-"]
    assert list(found["7965768"].values()) == ["7965768", "32.2%", "12.6%", "12.3%", "90.0%"]
    assert list(found["8150389"].values()) == ["8150389", "96.0%", "13.7%", "74.8%", "50.0%"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """Return the jobs of one table that are chosen."""
    path = tmp_path_factory.mktemp("table") / "saved"
    path.write_text(
        "JobID|JobName|Partition|State|Submit|Start|End|ElapsedRaw|TimelimitRaw|AllocTRES|TotalCPU\n"
        "9|cnn-1|gpu|PREEMPTED|1000|2000|3000|1000|60|cpu=2,node=1|00:10:00\n"
        "10|bert|cpu|COMPLETED|1000|2000|3000|1000|60|cpu=2,node=1|\n"
        "9|cnn-1|gpu|TIMEOUT|3000|4000|7600|3600|60|cpu=2,node=1|02:00:00\n"
        "11|it's|cpu|PENDING|9000|Unknown|Unknown|0|60||\n"
    )
    with database.opened() as found:
        FileSource(str(path)).read(found, ALL)
        yield lambda chosen=Chosen(), each=False: list(job_use.found(found.database, chosen, each))  # noqa: B008


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (Chosen(), ["10", "9", "11"]),
        (Chosen(states=(JobState.TIMEOUT, JobState.PENDING)), ["9", "11"]),
        (Chosen(names=("cnn*", "it's")), ["9", "11"]),
        (Chosen(partitions=("cpu",)), ["10", "11"]),
        (Chosen(names=("' or true --",)), []),
        (Chosen((JobState.COMPLETED,), ("b?rt",), ("cpu", "gpu")), ["10"]),
    ],
)
def test_jobs_are_chosen(chosen: Chosen, wanted: list[str], table: Table) -> None:
    assert [job.id for job in table(chosen)] == wanted


def test_each_incarnation_or_the_last(table: Table) -> None:
    assert [(job.id, job.state) for job in table(each=True)] == [
        ("9", "PREEMPTED"), ("10", "COMPLETED"), ("9", "TIMEOUT"), ("11", "PENDING"),
    ]  # fmt: skip
    assert [job.ran for job in table()] == [True, True, False]


def test_columns_and_order(table: Table) -> None:
    jobs = table()
    assert [*cells(jobs)[0]] == ["JobID", "State", "Elapsed", "TimeEff", "CPUEff", "MemEff"]
    assert [*cells(jobs, "+jobname,state")[0]][-2:] == ["JobName", "State"]
    order = [job.id for job in efficiency_table.ordered(jobs, "-CPUEff,JobName")]
    assert order == ["9", "10", "11"]
    assert [job.id for job in efficiency_table.ordered(jobs, "-JobName")] == ["11", "9", "10"]
    for call in (lambda: cells(jobs, "JobID,Priority"), lambda: efficiency_table.ordered(jobs, "x")):
        with pytest.raises(UsageError, match="one of JobID, State"):
            call()
    columns = efficiency_table.columns("JobID,CPUEff,Timelimit", jobs)
    assert efficiency_table.as_dict(jobs[1], columns) == {"JobID": "9", "CPUEff": 1.0, "Timelimit": 3600}
    assert efficiency_table.as_dict(jobs[0], columns)["CPUEff"] is None
