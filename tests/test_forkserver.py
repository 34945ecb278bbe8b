"""The forked programs of tests differ from a real Python's in nothing but how soon they have TensorFlow."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import forkserver
from tests.conftest import PYTHONPATH
from tests.forkserver import command_line
from tests.sandbox import linux

pytestmark = pytest.mark.tensorflow

SHOW = """
import json, os, signal, sys, threading
has = "tensorflow" in sys.modules
import numpy as np
print(json.dumps([sys.argv, os.getcwd(), os.environ["NAME"], sorted(os.environ), __name__, sys.stdin.read(),
    os.read(int(sys.argv[1]), 9).decode(), os.getpid() == os.getsid(0), threading.active_count()]))
print(has, os.getpid(), np.random.random(), file=sys.stderr)
sys.exit(int(sys.argv[2]))
"""


def python(*arguments: str, forked: bool = True, name: str = "python", **more: Any) -> "subprocess.Popen[str]":
    environ = {"PATH": "/usr/bin:/bin", **forkserver.VARIABLES, "NAME": "a value", **more.pop("environ", {})}
    program = str(Path(forkserver.python()).with_name(name)) if forked else sys.executable
    process: subprocess.Popen[str] = subprocess.Popen(
        [program, *arguments], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, **more,
    )  # fmt: skip
    return process


@pytest.mark.parametrize("name", ["python", "python3"])
def test_a_program_has_its_arguments_variables_folder_and_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    results = []
    for forked in (True, False):
        own, its = os.pipe()
        os.write(its, b"piped")
        os.close(its)
        process = python("show.py", str(own), "7", forked=forked, name=name, cwd=tmp_path, pass_fds=[own])
        out, err = process.communicate("typed", timeout=60)
        os.close(own)
        has, pid, number = err.split()
        assert process.returncode == 7
        assert has == str(forked)
        assert (int(pid) == process.pid) == (not forked)
        results.append(([*json.loads(out)[0][2:], *json.loads(out)[1:]], number))
    assert results[0][0] == results[1][0]
    assert results[0][1] != results[1][1]


@pytest.mark.parametrize(
    ("text", "code"),
    [("raise ValueError('wrong')", 1), ("import os; os.kill(os.getpid(), 9)", -9), ("import os; os._exit(3)", 3)],
)
def test_its_end_is_the_programs(text: str, code: int) -> None:
    process = python("-c", text)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert ("ValueError: wrong" in err) == (code == 1)


def test_what_its_path_has_behind_the_servers_is_where_python_has_it() -> None:
    text = "import sys; print('tensorflow' in sys.modules, sys.path[: sys.path.index('/a/b') + 1])"
    environ = {"PYTHONPATH": f"{forkserver.VARIABLES['PYTHONPATH']}:/a/train.zip:/a/b"}
    (has, path), (real_has, real_path) = (
        python("-c", text, forked=forked, environ=environ).communicate(timeout=60)[0].split(" ", 1)
        for forked in (True, False)
    )
    assert (has, real_has) == ("True", "False")
    assert path == real_path


WAITS = "import os, signal, time; signal.signal(signal.SIGUSR1, lambda *_: os._exit(5)); print(1, flush=True); "


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 5), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_reach_it(number: int, code: int) -> None:
    process = python("-c", WAITS + "time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(number)
    assert process.wait(10) == code


def test_it_does_not_outlive_its_client_nor_do_those_that_it_started() -> None:
    process = python("-c", WAITS + "os.system('sleep 60 & echo $!'); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    assert int(process.stdout.readline())
    process.kill()
    # the pipe has its end when none of them has it open any more
    assert process.communicate(timeout=10) == ("", "")


def test_other_variables_of_tensorflow_and_other_uses_have_the_real_python() -> None:
    text = "import sys; print('tensorflow' in sys.modules)"
    assert python("-c", text, environ={"TF_USE_LEGACY_KERAS": "1"}).communicate(timeout=60)[0] == "False\n"
    assert python("-m", "platform").wait(60) == 0
    assert python("-c", text).communicate(timeout=60)[0] == "True\n"


def test_slurm_tf_is_what_it_is_without_the_server(tmp_path: Path) -> None:
    show = "echo $NAME; pwd; umask; ulimit -a; grep -E 'Sig[BIC]|Cap|Groups|NoNew' /proc/self/status; exit 7"
    job = f'name = "a"\nstrategy = "single"\ncommand = ["sh", "-c", "{show}"]\n[roles.worker]\n'
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, "NAME": "a value"}
    forked = command_line.slurm_tf(["run", "-", "--name=r"], environ, tmp_path, text=job)
    shutil.rmtree(tmp_path / "runs")
    real = subprocess.run(
        [sys.executable, "-m", "slurm_tf", "run", "-", "--name=r"], input=job, env=environ, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert forked.returncode == real.returncode == 7
    assert forked.stdout == real.stdout
    assert "[worker:0] a value\n" in real.stdout
    assert re.sub(r"process \d+", "", forked.stderr) == re.sub(r"process \d+", "", real.stderr)


def test_slurm_tf_has_the_time_zone_of_its_environment(tmp_path: Path) -> None:
    (tmp_path / "saved.txt").write_text("JobID|Start|End|State\n1|2026-01-01T00:00:00|2026-01-01T01:00:00|COMPLETED\n")
    words = ["usage", "--from", "saved.txt", "--since", "2026-01-01"]
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, "TZ": "Asia/Tokyo"}
    assert "2026-01-01T00:00:00+0900" in command_line.slurm_tf(words, environ, tmp_path).stdout


def test_slurm_tf_ends_at_the_timeout(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH}
    job = 'name = "a"\nstrategy = "single"\ncommand = ["sh", "-c", "echo $$ > pid; exec sleep 600"]\n[roles.worker]\n'
    with pytest.raises(subprocess.TimeoutExpired):
        command_line.slurm_tf(["run", "-"], environ, tmp_path, timeout=5, text=job)
    linux.wait_until("the end of what it started", lambda: not _alive(tmp_path / "pid"))


def _alive(path: Path) -> bool:
    return path.exists() and Path("/proc", path.read_text().strip()).exists()
