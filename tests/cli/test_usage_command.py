"""The verbs usage and efficiency, as a person types them, on a table that somebody saved."""

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.run import attempts, job_chain
from slurm_tf.run.attempts import Attempt
from slurm_tf.run.folder import RunFolder
from tests.conftest import PYTHONPATH, RECORDED, ROOT, write_manifest
from tests.forkserver import command_line

pytestmark = pytest.mark.slow

Type = Callable[..., "subprocess.CompletedProcess[str]"]

HEAD = (
    "JobID|JobIDRaw|Cluster|User|Account|Partition|State|Submit|Eligible|Start|End|ElapsedRaw|TimelimitRaw|AllocTRES|"
    "TotalCPU|MaxRSS|NTasks|Comment|JobName"
)
GPU4 = "billing=36,cpu=8,mem=16G,node=1,gres/gpu:a100=4,gres/gpu=4"
CPU8 = "billing=8,cpu=8,mem=16G,node=2"
TAG = "slurm-tf run=b-1/template=bert"
# one that was preempted twice, one that failed, one that waits
TABLE = f"""\
{HEAD}
12|12|hpc|ann|vision|gpu|PREEMPTED|1790000000|1790000000|1790000100|1790003700|3600|1440|{GPU4}|||||stf-flowers
12.0|12.0|hpc||vision||CANCELLED|1790000100|1790000100|1790000100|1790003700|3600|||02:00:00|4G|1||python
12|12|hpc|ann|vision|gpu|PREEMPTED|1790003750|1790003871|1790003950|1790007550|3600|1440|{GPU4}|||||stf-flowers
12|12|hpc|ann|vision|gpu|COMPLETED|1790007600|1790007721|1790007800|1790015000|7200|1440|{GPU4}|||||stf-flowers
13|13|hpc|bob|nlp|cpu|FAILED|1790000000|1790000000|1790001000|1790004600|3600|60|{CPU8}||||{TAG}|x
14|14|hpc|bob|nlp|cpu|PENDING|1790000000|1790000000|Unknown|Unknown|0|60|||||| waits
15|15|hpc|carol|nlp|cpu|SLEEPWALKING|1790000000|1790000000|1790001000|1790001360|360|60|{CPU8}|||||x
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "saved.txt"
    path.write_text(TABLE)
    return path


@pytest.fixture
def typed(tmp_path: Path) -> Type:
    """Type `slurm-tf WORDS`."""

    def run(*words: str, text: str | None = None, **environ: str) -> "subprocess.CompletedProcess[str]":
        own = {
            "PYTHONPATH": PYTHONPATH,
            "SLURM_TF_RUNS": str(tmp_path / "runs"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        # as wide as a report is, whatever the terminal of the tests
        inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        variables = {**inherited, "TZ": "UTC", **own, **environ}
        if "PYTHONPATH" not in environ:
            return command_line.slurm_tf(words, variables, tmp_path, text=text or "")
        return subprocess.run(
            [sys.executable, "-m", "slurm_tf", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            check=False, input=text, env=variables,
        )  # fmt: skip

    return run


def ok(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_text_is_a_table(table: Path, typed: Type) -> None:
    lines = ok(typed("usage", "--from", str(table), "--by", "user,template", "--since", "2026-01-01")).splitlines()
    assert lines[0].startswith("From 2026-01-01T00:00:00+0000 until ")
    assert lines[1] == "Rows seen for users: ann, bob, carol."
    heads, ann, bob, carol, total = (line.split("  ") for line in lines[3:8])
    assert [word.strip() for word in heads if word.strip()] == [
        "USER", "TEMPLATE", "GPU-H", "CPU-H", "NODE-H", "SU", "JOBS", "INCARNATIONS", "WAIT P50", "P90", "CPU", "MEM",
        "LOST GPU-H", "EFFECTIVE",
    ]  # fmt: skip
    cells = [[word.strip() for word in line if word.strip()] for line in (ann, bob, carol, total)]
    assert cells[0][:7] == ["ann", "flowers", "16.0", "32.0", "4.00", "144.0", "1"]
    assert cells[0][7:] == ["3", "79 s", "100 s", "25%", "25%", "8.00", "<=97%"]
    assert cells[1][:5] == ["bob", "bert", "0.0", "8.00", "2.00"]
    assert cells[2][:2] == ["carol", "-"]
    assert cells[3][:5] == ["TOTAL", "16.0", "40.8", "6.20", "152.8"]
    assert len({len(line) for line in lines[3:8]}) == 1
    text = "\n".join(lines)
    preempted = next(line for line in lines if line.startswith("preempted"))
    assert preempted.split()[1:] == ["2", "8.00", "16.0", "8.00", "16.0"]
    assert "Jobs that were requeued waited 7 min in all for their next starts." in text
    assert "Note: states that are not known here, counted as unknown: SLEEPWALKING (1)" in text


def test_a_table_that_does_not_name_users(typed: Type) -> None:
    lines = ok(typed("usage", "--from", str(RECORDED / "sacct" / "before-21.08"), "--by", "state")).splitlines()
    assert lines[1] == "Rows seen for users: unknown."


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_it_fits_the_terminal(width: int, table: Path, typed: Type) -> None:
    words = ["usage", "--from", str(table), "--by", "account,user,template,partition,state"]
    lines = ok(typed(*words, COLUMNS=str(width))).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("ACC"))
    shown = lines[first : lines.index("", first)]
    assert max(map(len, lines[: lines.index("", first)])) <= width
    assert ("JOBS" in shown[0]) == (width >= 80)
    assert "GPU-H" in shown[0]
    assert ("Not shown here: " in "\n".join(shown)) == (width < 200)


def test_csv_and_json_say_the_same(table: Path, typed: Type) -> None:
    words = ["usage", "--from", str(table), "--by", "account,day"]
    rows = list(csv.DictReader(ok(typed(*words, "--csv")).splitlines()))
    found = json.loads(ok(typed(*words, "--json")))
    assert [{key: str(row[key]) for key in ("account", "day", "gpu_seconds")} for row in found["groups"]] == [
        {key: row[key] for key in ("account", "day", "gpu_seconds")} for row in rows
    ]
    assert [(row["account"], row["day"], row["gpu_seconds"]) for row in rows] == [
        ("vision", "2026-09-21", str(4 * 14400)), ("nlp", "2026-09-21", "0"),
    ]  # fmt: skip
    assert found["total"]["gpu_hours"] == 16
    assert found["total"]["ends"]["preempted"]["lost_gpu_hours_at_most"] == 8
    assert found["total"]["cost"] is None
    assert found["users_seen"] == ["ann", "bob", "carol"]
    assert (found["by"], found["currency"], found["running_counted_until"]) == (["account", "day"], None, None)


def test_users_accounts_runs_and_standard_input(table: Path, tmp_path: Path, typed: Type) -> None:
    def users(*words: str) -> list[str]:
        found = json.loads(ok(typed("usage", "--from", "-", "--json", *words, text=TABLE)))
        return [row["user"] for row in found["groups"]]

    assert users() == ["ann", "bob", "carol"]
    assert users("--user", "bob,carol", "-u", "dave") == ["bob", "carol"]
    assert users("--account", "vision") == ["ann"]
    make_run(tmp_path, "flowers-1", "12")
    assert users("--run", "flowers-1") == ["ann"]
    done = typed("usage", "--from", str(table), "--run", "no-1")
    assert (done.returncode, done.stderr.partition(";")[0]) == (
        2, f"slurm-tf: no run 'no-1' in {tmp_path / 'runs'} or elsewhere"
    )  # fmt: skip


def make_run(root: Path, name: str, job: str, *rows: Attempt) -> None:
    run = RunFolder(str(root / "runs" / name))
    Path(run.path).mkdir(mode=0o700, parents=True)
    write_manifest(run, "roses")
    job_chain.add(run, job, "", (), False, submission=1)
    attempts.write(run, rows)


def test_what_runs_tell_makes_the_bound_a_figure(table: Path, tmp_path: Path, typed: Type) -> None:
    times = {"12.0": 1790000100.0, "12.1": 1790003950.0, "12.2": 1790007800.0}
    rows = [
        Attempt(name, "12", start + 5, speaks=True, began=start + 60, saved=start + 3500)
        for name, start in times.items()
    ]
    make_run(tmp_path, "roses-1", "12", *rows)
    words = ["usage", "--from", str(table), "--user", "ann", "--by", "run,template"]
    found = json.loads(ok(typed(*words, "--json")))
    (group,) = found["groups"]
    # what the run has recorded, not the name that the job has in Slurm
    assert (group["run"], group["template"]) == ("roses-1", "roses")
    assert group["start_hours"] == pytest.approx(180 / 3600)
    assert group["rollback_hours"] == pytest.approx(200 / 3600)
    assert group["lost_gpu_hours_at_most"] == pytest.approx(4 * 380 / 3600)
    assert (group["effective_is_at_most"], group["effective"]) == (
        False,
        pytest.approx((14400 - 380) / (14400 + 100 + 2 * 200)),
    )
    text = ok(typed(*words))
    assert "Of all that runs of slurm-tf tell of, 3 min were start-up, 3 min came after the last checkpoint." in text
    assert "upper bounds" not in text
    assert " 94%" in text
    page = tmp_path / "usage.html"
    done = typed(*words, "--html", str(page))
    assert (done.stdout, done.stderr) == ("", f"slurm-tf: wrote {page}\n")
    assert "Attempts of run roses-1" in page.read_text()
    assert "job 12: after the last checkpoint for 100 s" in page.read_text()


def test_prices(table: Path, tmp_path: Path, typed: Type) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "EUR"\ncpu-hour = 0.01\n[gpu-types]\na100 = 1.5\n')
    text = ok(typed("usage", "--from", str(table), "--prices", str(prices)))
    assert [line.split()[5] for line in text.splitlines()[3:8]] == ["EUR", "24.32", "0.08", "0.01", "24.41"]
    prices.write_text('currency = "EUR"\ncpu-hour = 0.01\n')
    text = ok(typed("usage", "--from", str(table), "--prices", str(prices)))
    assert [line.split()[5] for line in text.splitlines()[3:8]] == ["EUR", "unknown", "0.08", "0.01", "unknown"]
    prices.write_text("cpu-hour = 1\n")
    done = typed("usage", "--from", str(table), "--prices", str(prices))
    assert (done.returncode, "found no currency" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "user,colour"], "found 'colour'; needed one of user, account"),
        (["--since", "noonish"], "found 'noonish'; needed a time as sacct reads it"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "found --since 2026-02-01 --until 2026-01-01"),
        (["--fields", "JobID"], "found --fields without --from"),
        (["--html", "/no/such/page.html", "--from", "saved.txt"], "/no/such/page.html: No such file or directory"),
    ],
)
def test_what_cannot_be_done(words: list[str], message: str, table: Path, typed: Type) -> None:
    assert table.exists()
    done = typed("usage", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_hostile_names_move_no_cursor(tmp_path: Path, typed: Type) -> None:
    path = tmp_path / "saved.txt"
    path.write_text(TABLE.replace("|ann|", "|\x1b[2Jann\x07|"))
    text = ok(typed("usage", "--from", str(path)))
    assert "\x1b" not in text
    assert "?[2Jann?" in text
    rows = list(csv.DictReader(ok(typed("usage", "--from", str(path), "--csv")).splitlines()))
    assert rows[0]["user"] == "\x1b[2Jann\x07"


def test_efficiency_of_a_job_and_of_a_run(table: Path, tmp_path: Path, typed: Type) -> None:
    lines = ok(typed("efficiency", "12", "--from", str(table))).splitlines()
    assert lines[0] == "12: 3 incarnations (1 completed, 2 preempted)"
    assert lines[1] == "ran for 4.0 h, waited for 4 min"
    assert " ".join(lines[4].split()) == "time 1-00:00:00 02:00:00 (8%) 02:30:00 shorter jobs start sooner"
    assert lines[5].split()[:6] == ["cpus", "8", "2.0", "(25%)", "4", "in"]
    assert lines[6].split()[:7] == ["memory", "16G", "4.0G", "(25%)", "mem", "=", "5G"]
    assert lines[7].split()[:6] == ["gpus", "4", "a100", "unknown", "as", "now"]
    make_run(tmp_path, "roses-1", "12")
    found = json.loads(ok(typed("efficiency", "roses-1", "--from", str(table), "--json")))
    assert (found["jobs"], found["components"][0]["incarnations"]) == (["12"], 3)
    done = typed("efficiency", "14", "--from", str(table))
    assert (done.returncode, done.stdout) == (2, "")
    assert "accounting has no job of 14 that has started" in done.stderr
    assert typed("efficiency", "no-1", "--from", str(table)).returncode == 2


SACCT = """\
#!/bin/bash
echo "$@" >> calls
case "$*" in
*--helpformat*) head -n 1 saved.txt | tr '|' ' ';;
*) for word; do
     case $word in --delimiter=*) mark=${word#--delimiter=};; --format=*) names=${word#--format=};; esac
   done
   PYTHON -c "
import os, sys
heads, *rows = [line.split('|', 18) for line in open('saved.txt').read().splitlines()]
for row in rows[:int(os.environ.get('ROWS', 99))]:
    named = dict(zip(heads, row))
    print(''.join(named[name] + sys.argv[2] for name in sys.argv[1].split(',')))
" "$names" "$mark"
   exit ${CODE-0};;
esac
"""
WEEK = ("usage", "--json", "--by", "user", "--since", "2026-09-18", "--until", "2026-09-25")


@pytest.fixture
def stand_in(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for sacct first, which prints the table; return the file of its calls."""
    table.write_text(
        "\n".join(line for line in TABLE.splitlines() if "SLEEP" not in line and "PENDING" not in line) + "\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sacct").write_text(SACCT.replace("PYTHON", shlex.quote(sys.executable)))
    (tmp_path / "bin" / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CLUSTERS", "hpc")
    return tmp_path / "calls"


def calls(path: Path) -> list[str]:
    """Return how sacct was asked for rows since the last time."""
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return [line for line in lines if "--helpformat" not in line]


def test_days_that_are_over_are_asked_for_once(stand_in: Path, tmp_path: Path, typed: Type) -> None:
    first = ok(typed(*WEEK))
    (asked,) = calls(stand_in)
    for word in ("--duplicates", "--starttime=2026-09-18T00:00:00", "--endtime=2026-09-25T00:00:00"):
        assert word in asked
    assert ok(typed(*WEEK)) == first
    assert calls(stand_in) == []
    assert ok(typed(*WEEK, "--no-ledger")) == ok(typed(*WEEK, "--rebuild")) == first
    assert len(calls(stand_in)) == 2
    (ledger,) = (tmp_path / "state" / "slurm-tf").iterdir()
    assert (ledger.name, ledger.stat().st_mode & 0o777) == ("usage-hpc", 0o700)
    # single jobs are always asked for
    assert ok(typed("efficiency", "12")).startswith("12: 3 incarnations")
    assert "--jobs=12" in calls(stand_in)[0]


@pytest.mark.parametrize("environ", [{"CODE": "1"}, {"ROWS": "2", "CODE": "9"}])
def test_a_sacct_that_fails_half_way_leaves_the_ledger_as_it_was(
    environ: dict[str, str], stand_in: Path, typed: Type
) -> None:
    done = typed(*WEEK, **environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"sacct ended with exit code {environ['CODE']}" in done.stderr
    assert "Traceback" not in done.stderr
    calls(stand_in)
    assert json.loads(ok(typed(*WEEK)))["total"]["incarnations"] == 4
    assert len(calls(stand_in)) == 1


def test_a_damaged_ledger_is_one_line_and_asked_for_again(stand_in: Path, tmp_path: Path, typed: Type) -> None:
    first = json.loads(ok(typed(*WEEK)))
    calls(stand_in)
    for file in (tmp_path / "state" / "slurm-tf" / "usage-hpc").rglob("2026-09-21.jobs.*"):
        file.write_bytes(b"no table " * 1000)
    again = json.loads(ok(typed(*WEEK)))
    (note,) = again.pop("notes")
    assert note.endswith(": it is damaged; its day is asked for again")
    assert again == {name: value for name, value in first.items() if name != "notes"}
    (asked,) = calls(stand_in)
    assert "--starttime=2026-09-21T00:00:00" in asked


def test_accounting_is_sacct_whatever_the_client(stand_in: Path, tmp_path: Path, typed: Type) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pyslurm.py").write_text("raise ImportError('libslurm.so.42: no such file')")
    for words in (WEEK, ["efficiency", "12", "--json"]):
        ok(typed(*words, SLURM_TF_CLIENT="pyslurm", PYTHONPATH=f"{tmp_path / 'site'}:{ROOT}"))
        assert len(calls(stand_in)) == 1


def test_without_sacct(typed: Type, tmp_path: Path) -> None:
    done = typed("usage", PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (69, "")
    assert "sacct" in done.stderr
