"""A step's launcher, which srun stands in for: it leaves a child that ends the step when the launcher is killed."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.launch.coordinator.step import Step
from tests.launch.conftest import DEFAULTS

# As srun does (22.05.8): the child waits for a byte, or for its parent's death, and then tries to reach somebody again
# and again; another child is a program of its own.
SRUN = f"""#!{sys.executable}
import os, subprocess, sys, time
folder, own = sys.argv[1], open(sys.argv[1] + "/pids", "w")
reader, writer = os.pipe()
shepherd = os.fork()
if not shepherd:
    os.close(writer)
    word = os.read(reader, 1)
    for _ in range(300):
        try:
            open(folder + ("/told" if word else "/kills-the-step"), "w").close()
            break
        except OSError:
            os.mkdir(folder + "/tries") if not os.path.exists(folder + "/tries") else time.sleep(0.1)
    os._exit(0)
other = subprocess.Popen(["sleep", "60"])
print(shepherd, other.pid, file=own, flush=True)
until = open(folder + "/leave")
until.read()
other.kill()
os.write(writer, b"x")
os.waitpid(shepherd, os.WNOHANG)
"""


def files_of(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Held:
    """A step whose launcher has the name `name`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        os.mkfifo(folder / "leave")
        (folder / name).write_text(SRUN)
        (folder / name).chmod(0o700)
        self.step = Step([[str(folder / name), str(folder)]], DEFAULTS, 1, b"")
        wait_until(lambda: (folder / "pids").exists() and (folder / "pids").read_text().endswith("\n"))
        self.shepherd, self.other = map(int, (folder / "pids").read_text().split())

    @property
    def launcher(self) -> int:
        return os.getpgid(self.shepherd)

    def is_over(self) -> bool:
        return self.step.tick(time.monotonic())

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()


@pytest.fixture
def held(tmp_path: Path) -> Held:
    made = Held(tmp_path, "srun")
    made.step.keep_if_srun_is_killed()
    assert files_of(made.shepherd) == 0
    return made


def test_sruns_shepherd_is_held_as_long_as_srun_runs(held: Held) -> None:
    assert files_of(held.other) > 0
    assert files_of(held.launcher) > 0
    assert not held.is_over()
    assert files_of(held.shepherd) == 0
    (held.folder / "leave").write_text("")
    wait_until(held.is_over)


def test_where_srun_alone_is_killed_its_shepherd_ends_the_step(held: Held) -> None:
    os.kill(held.launcher, signal.SIGKILL)
    os.kill(held.other, signal.SIGKILL)
    wait_until(lambda: held.has("tries"))
    assert not held.has("kills-the-step")
    wait_until(held.is_over)
    wait_until(lambda: held.has("kills-the-step"))


def test_no_child_of_another_launcher_is_held(tmp_path: Path) -> None:
    made = Held(tmp_path, "mpirun")
    made.step.keep_if_srun_is_killed()
    assert files_of(made.shepherd) > 0
    (tmp_path / "leave").write_text("")
    wait_until(lambda: made.has("told"))
    wait_until(made.is_over)


def test_of_several_sruns_each_has_its_shepherd_back_when_it_has_ended(tmp_path: Path) -> None:
    first, second = folders = [tmp_path / "first", tmp_path / "second"]
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o700)
    for folder in folders:
        folder.mkdir()
        os.mkfifo(folder / "leave")
    step = Step([[str(tmp_path / "srun"), str(folder)] for folder in folders], DEFAULTS, 1, b"")
    wait_until(lambda: all((folder / "pids").exists() and (folder / "pids").read_text()[-1:] for folder in folders))
    step.keep_if_srun_is_killed()
    (first / "leave").write_text("")
    wait_until(lambda: not step.tick(time.monotonic()) and (first / "told").exists())
    assert step.end_in_words.endswith("srun ended with exit code 0")
    assert files_of(int((second / "pids").read_text().split()[0])) == 0
    (second / "leave").write_text("")
    wait_until(lambda: step.tick(time.monotonic()))


def test_what_a_launcher_prints_is_read_where_stderr_is_a_file(tmp_path: Path) -> None:
    code = (
        "import sys; from slurm_tf.launch.coordinator.step import Step; from tests.launch.conftest import DEFAULTS\n"
        "print('before', file=sys.stderr, flush=True)\n"
        "step = Step([['sh', '-c', 'echo srun: error: no >&2']], DEFAULTS, 1, b'')\n"
        "step._launchers[0].wait(); print(repr(step.printed))"
    )
    argv = [sys.executable, "-c", code]
    with (tmp_path / "log").open("ab") as log:
        to_file = subprocess.run(argv, stdout=subprocess.PIPE, stderr=log, timeout=60, check=True)
    to_pipe = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    assert (to_file.stdout, to_pipe.stdout) == (b"'srun: error: no\\n'\n", b"''\n")
