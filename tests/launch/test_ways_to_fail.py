"""Ways to fail that need no Slurm, each with its one line: in the job's output, in status and list, at the end of wait.

What only Slurm does (setup, a folder that is not shared, the limit, a preemption in vain, dead nodes, memory) is in
tests/watch/test_reasons.py, tests/watch/test_status_rows.py and tests/cluster/test_ends.py.
"""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from slurm_tf.cli import run_end, tables
from slurm_tf.run import attempts, job_chain, status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import RoleSettings
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.watch import reasons, run_overview
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview
from tests.launch.conftest import StartJob
from tests.watch.conftest import Slurm

pytestmark = pytest.mark.slow

SINGLE = {"strategy": "single", "roles": (RoleSettings("worker", 1),)}
ENDED = "worker:{index} on {host} ended with exit code {code}: "
PROGRAMS = {
    "a typo": ("model = 1\nprint(modle)", ENDED + "NameError: name 'modle' is not defined.* \\(program.py, line 2\\)"),
    "no Python": ("print(", ENDED + "SyntaxError: '\\(' was never closed \\(program.py, line 1\\)"),
    "a missing module": (
        "import nosuch_module", ENDED + "ModuleNotFoundError: No module named 'nosuch_module' \\(program.py, line 1\\)",
    ),
    "a library of CUDA that is missing": (
        "import ctypes\nctypes.CDLL('libcudart.so.99')",
        ENDED + "OSError: libcudart.so.99: cannot open shared object file: No such file or directory "
        "\\(program.py, line 2\\)",
    ),
    "a full disk": (
        "file = open('/dev/full', 'w')\nfile.write('x')\nfile.flush()",
        ENDED + "OSError: \\[Errno 28\\] No space left on device \\(program.py, line 3\\)",
    ),
    "words of its own": ("raise SystemExit('no data in /x')", ENDED + "its last line: no data in /x"),
    "an exception in one rank": (
        "import os, time\nif os.environ['SLURM_TF_TASK'] == 'worker:1':\n    {}['rate']\ntime.sleep(600)",
        ENDED + "KeyError: 'rate' \\(program.py, line 3\\)",
    ),
    "tasks that never joined": ("print('trained')", "none of the 2 tasks has joined the cluster: each trained .*"),
}  # fmt: skip


def over(run: RunFolder, code: int) -> RunOverview:
    """Return what is known of a run as if it had been job 7 of Slurm, which says that it has failed."""
    attempts.write(run, [replace(each, id="7.0", job="7") for each in attempts.read(run)])
    shown = status.read(run)
    assert shown is not None
    status.write(run, replace(shown, job="7"))
    job_chain.add(run, "7", "", (), False, submission=1)
    slurm = Slurm()
    slurm.live = [JobRecord("7", JobState.FAILED, exit_code=code)]
    (point,) = run_overview.read_overviews(slurm, [SelectedRun(run)])
    return point


@pytest.mark.parametrize("way", PROGRAMS)
def test_the_one_line(way: str, start_job: StartJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = PROGRAMS[way]
    several = way in ("an exception in one rank", "tasks that never joined")
    program = tmp_path / "program.py"
    program.write_text(text)
    job = start_job(f"exec {sys.executable} {program}", join_required=True, **({} if several else SINGLE))
    code = job.wait()
    index = 1 if several else 0
    pattern = expected.format(host=re.escape(os.uname().nodename), index=index, code=code)
    point = over(job.run, code)
    line = reasons.reason_words(point)
    assert re.fullmatch(pattern, line), line
    assert job.text.splitlines()[-1] == f"slurm-tf: the job failed: {line}"
    assert f"\nWhy         {line}\n" in tables.status([point])
    assert tables.run_list([point]).rstrip().endswith(line)
    with click.Context(click.Command("slurm-tf")):
        run_end.print_end([point])
    assert f"\n  why          {line}\n" in capsys.readouterr().err
