"""TensorBoard for a run on this machine; on a node: tests/cluster/test_tensorboard.py."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurm_tf.errors import RunError, UsageError
from slurm_tf.watch import tensorboard
from tests import forkserver
from tests.conftest import PYTHONPATH
from tests.sandbox import linux
from tests.watch.conftest import MakeRun

pytestmark = pytest.mark.slow

SSH = re.compile(r"ssh -L (\d+):localhost:\1 \S+@\S+\n")


@contextmanager
def started(*words: str, path: str = "", **environ: str) -> Iterator["subprocess.Popen[str]"]:
    """Start `slurm-tf tensorboard`; end it at the end of the test, whatever happens."""
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    process = subprocess.Popen(
        [sys.executable, "-m", "slurm_tf", "tensorboard", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": PYTHONPATH, "PATH": search, **environ},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()  # it ends what it started
        process.communicate(timeout=60)


DEAF = """
import signal, sys
left = int(sys.argv[1])
def hear(number, frame):
    global left
    left -= 1
    if not left:
        sys.exit(0)
signal.signal(signal.SIGTERM, hear)
print("srun: queued", flush=True)
while True:
    signal.pause()
"""


def deaf(monkeypatch: pytest.MonkeyPatch, times: int) -> tensorboard.TensorBoardServer:
    """Return a server that heeds a signal the so many-th time."""
    monkeypatch.setattr(tensorboard, "_RESEND_SECONDS", 0.1)
    return tensorboard.TensorBoardServer([sys.executable, "-c", DEAF, str(times)], os.environ)


def test_a_signal_that_is_missed_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf(monkeypatch, 3) as server:
        assert server._read_line(None) == "srun: queued"
    assert server._process.returncode == 0


def test_what_does_not_end_is_killed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "_END_SECONDS", 1.0)
    with (
        pytest.raises(RunError, match="tensorboard did not end in 1 s, and was killed"),
        deaf(monkeypatch, 99) as server,
    ):
        server._read_line(None)
    assert server._process.returncode == -signal.SIGKILL


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A program named tensorboard; returns the file that it writes its process id and arguments to."""
    program = tmp_path / "bin" / "tensorboard"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho $$ "$@" > {tmp_path}/started\necho "see https://github.com/ for more"\n'
        '[ -z "$FAIL" ] || { echo "ERROR: $FAIL" >&2; exit 3; }\n'
        "echo 'TensorBoard 2.21.0 at http://127.0.0.1:6123/ (Press CTRL+C to quit)' >&2\nexec sleep 300\n"
    )
    program.chmod(0o755)
    return tmp_path / "started"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_it_runs_until_a_signal_and_prints_the_ssh_line_alone(
    number: signal.Signals, code: int, fake: Path, make_run: MakeRun
) -> None:
    run = make_run("flowers-1", ("40", (), False)).run
    with started(run.path, "--port", "6123", path=str(fake.parent / "bin")) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert SSH.fullmatch(line)
        assert "-L 6123:" in line
        words = fake.read_text().split()
        assert words[1:] == ["--logdir", run.tensorboard, "--host", "127.0.0.1", "--port", "6123"]
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "nothing is in" in err
    assert "other users of this machine can reach it" in err
    assert not Path("/proc", words[0]).exists()
    assert os.stat(run.tensorboard).st_mode & 0o777 == 0o700


def test_in_json_it_says_where_it_is_once_it_is_up(fake: Path, make_run: MakeRun) -> None:
    run = make_run("flowers-1", ("40", (), False)).run
    with started(run.path, "--json", path=str(fake.parent / "bin")) as process:
        assert process.stdout
        said = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert SSH.fullmatch(said.pop("ssh") + "\n")
        assert said.pop("host")
        assert said == {
            "run": "flowers-1", "logdir": run.tensorboard, "url": "http://localhost:6123/", "port": 6123,
            "pid": int(fake.read_text().split()[0]),
        }  # fmt: skip
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 143


def test_one_that_ends_says_why(fake: Path, make_run: MakeRun) -> None:
    run = make_run("flowers-1", ("40", (), False)).run
    with started(run.path, path=str(fake.parent / "bin"), FAIL="port 6006 was already in use") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 73
    assert "tensorboard ended with exit code 3\n" in err
    assert "\n  ERROR: port 6006 was already in use\n" in err


def test_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UsageError, match=r"no tensorboard in PATH(.|\n)*HINT: pip install tensorboard"):
        tensorboard.command("x", 0)


def test_options_of_srun_are_for_a_node(make_run: MakeRun) -> None:
    run = make_run("flowers-1", ("40", (), False)).run
    with started(run.path, "--mem=1G") as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "needed --node" in err) == (2, True)


def test_on_a_node_it_is_a_job_like_the_runs() -> None:
    job = {"partition": None, "account": "vision", "qos": None, "roles": {"chief": None, "worker": {"partition": "g"}}}
    argv = tensorboard.srun_command(job, {"time": "60", "account": "nlp", "exclusive": True}, ["tensorboard", "a b"])
    assert argv[:9] == [
        "srun", "--job-name=tensorboard", "--partition=g", "--account=nlp", "--nodes=1", "--ntasks=1", "--export=ALL",
        "--time=60", "--exclusive",
    ]  # fmt: skip
    assert argv[-2:] == ["tensorboard", "a b"]
    assert tensorboard.srun_command({"partition": "p", "qos": "q"}, {}, ["x"])[2:4] == ["--partition=p", "--qos=q"]


def test_of_a_sweep_it_shows_all_points(make_run: MakeRun) -> None:
    selected = make_run("flowers-1", ("40", (0, 7), True))
    for _ in range(2):
        shown = Path(tensorboard.log_folder(selected))
    os.makedirs(selected.run.point(7).tensorboard)
    Path(selected.run.point(7).tensorboard, "events").touch()
    assert sorted(os.listdir(shown)) == ["0", "7"]
    assert os.listdir(shown / "7") == ["events"]
    assert not (shown / "0").exists()


def shown(url: str) -> object:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - http
        return json.load(answer)


WRITE = """
import sys
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter(sys.argv[1])
value = summary_pb2.Summary.Value(tag="loss", simple_value=0.5)
writer.add_event(event_pb2.Event(step=1, wall_time=1.0, summary=summary_pb2.Summary(value=[value])))
writer.close()
"""


@pytest.mark.tensorflow
def test_the_real_one_shows_what_was_written_and_a_taken_port_is_said(make_run: MakeRun) -> None:
    selected = make_run("flowers-1", ("40", (3,), True))
    subprocess.run(
        [forkserver.python(), "-c", WRITE, selected.run.point(3).tensorboard], check=True, timeout=120,
        env={**os.environ, **forkserver.VARIABLES},
    )  # fmt: skip
    with started(selected.run.path) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = SSH.fullmatch(line)
        assert found, (line, process.stderr and process.stderr.read())
        url = f"http://127.0.0.1:{found[1]}/data/runs"
        linux.wait_until("the run is shown", lambda: shown(url) == ["3"])
        with started(selected.run.path, "--port", found[1]) as second:
            _, err = second.communicate(timeout=120)
        assert second.returncode == 73
        assert f"port {found[1]}" in err
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
