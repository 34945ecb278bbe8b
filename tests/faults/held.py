"""A training that is held in each phase of its life, seen from outside: its processes, its logs, its checkpoints.

The program is tests/programs/held.py. It does a step when a test allows it, so that no test depends on how fast the
machine is.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slurm_tf.run import checkpoint_folder
from tests import forkserver
from tests.cluster.group import Member
from tests.conftest import PYTHONPATH, ROOT
from tests.sandbox import linux

PROGRAM = ROOT / "tests" / "programs" / "held.py"
SAVES_EACH = 2  # steps
EVALUATES_EACH = 3
# tasks that train, in the order of their ranks; the first writes the checkpoints
TRAINERS = {"multi_worker": ("chief:0", "worker:0"), "single": ("worker:0",), "ps": ("chief:0",)}
PROGRAMS = {**TRAINERS, "ps": ("chief:0", "worker:0", "ps:0")}
_SECONDS_IDLE = 2.0  # after which an interrupted training is let do one more step
ROLE = "[roles.{role}]\ncount = 1\nntasks-per-node = 1\n"
JOB = """name = "held"
strategy = "{strategy}"
command = {command}
time = "02:00:00"
exclusive = true
{roles}
[checkpoint]
every-steps = 2
[launch]
max-restarts = 99
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
{tables}
"""


def job_file(strategy: str, hold: Path, steps: int, tables: str = "", program: tuple[str, ...] = ()) -> str:
    """Return the text of a job file for the program, held by files in `hold`."""
    roles = "".join(ROLE.format(role=task.partition(":")[0]) for task in PROGRAMS[strategy])
    command = ["python3", *program, str(PROGRAM), str(hold), str(steps)]
    return JOB.format(strategy=strategy, command=json.dumps(command), roles=roles, tables=tables)


def alone(strategy: str, steps: int) -> set[str]:
    """Return the bits of a training that is left alone, on this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "until").write_text(str(steps))
        (folder / "held.toml").write_text(job_file(strategy, folder, steps))
        done = subprocess.run(
            [sys.executable, "-m", "slurm_tf", "run", "held.toml"], cwd=folder, capture_output=True, text=True,
            env={**os.environ, **forkserver.environ(), "PYTHONPATH": PYTHONPATH}, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        bits = re.findall(r"^\[\S+\] bits (\w+)$", done.stdout + done.stderr, re.MULTILINE)
        assert len(bits) == len(TRAINERS[strategy])
        return set(bits)


class Held:
    """A run of tests/programs/held.py."""

    def __init__(
        self,
        member: Member,
        name: str,
        strategy: str,
        steps: int,
        tables: str,
        program: tuple[str, ...],
        words: tuple[str, ...] = (),
    ) -> None:
        """`steps` in all; `tables`: more for the job file; `program`: what Python is to run the program with.

        `words`: more for each submission.
        """
        self.steps, self._words = steps, words
        self.member, self.name, self.strategy = member, name, strategy
        self.trainers, self.programs = TRAINERS[strategy], PROGRAMS[strategy]
        self.folder = member.folder / "runs" / name
        self.checkpoints = self.folder / "checkpoints"
        self.jobs: list[str] = []
        # when each job was (time.monotonic), and how often Slurm had restarted it
        self.cancelled: dict[str, tuple[float, int]] = {}
        self.until = self.lives = 0
        self._hold = member.folder / f"hold-{name}"
        self._hold.mkdir()
        os.chown(self._hold, member.folder.stat().st_uid, member.folder.stat().st_gid)
        self.allow(0)
        self._file = member.write(f"{name}.toml", job_file(strategy, self._hold, steps, tables, program))

    # --- what a test lets it do ---

    def allow(self, step: int) -> None:
        """Let all steps up to this one be done."""
        self.until = step
        aside = self._hold / "until.new"
        aside.write_text(str(step))
        aside.rename(self._hold / "until")

    def let_save(self) -> None:
        """Let steps be done until the programs that are interrupted have saved, and are gone.

        The one that they are in, one more if the interruption is heard just after that, and one at which all meet; and
        more, one at a time, where the coordinator hears of it later than that.
        """
        interrupted = {task: self.pid(task) for task in self.trainers}
        self.allow(self.until + 3)
        idle_since = time.monotonic()

        def are_gone() -> bool:
            nonlocal idle_since
            if not self.is_idle():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _SECONDS_IDLE:
                self.allow(self.until + 1)
                idle_since = time.monotonic()
            return all(pid is None or self.pid(task) != pid for task, pid in interrupted.items())

        self.wait("the programs have saved and are gone", are_gone)

    def hold(self, what: str) -> None:
        (self._hold / what).touch()

    def release(self, what: str) -> None:
        (self._hold / what).unlink(missing_ok=True)

    def forget_step(self) -> None:
        self.release("in-step")

    @property
    def is_in_step(self) -> bool:
        """Whether a worker of ps has begun a step since `forget_step`."""
        return (self._hold / "in-step").exists()

    # --- its jobs ---

    def submit(self, *words: str) -> None:
        """Have a job begin the run, or go on with it."""
        self.jobs.append(self.member.submit(self._file, "--name", self.name, *self._words, *words))
        self.lives += 1

    @property
    def job(self) -> str:
        return self.jobs[-1]

    def state(self, job: str = "") -> str:
        """Return the job's state as squeue has it, "" if it knows none."""
        argv = ("squeue", "--noheader", "--states=all", f"--jobs={job or self.job}", "--Format=State:30")
        return (self.member.run(*argv, check=False).split() or [""])[0]

    def wait_for_state(self, *states: str) -> str:
        self.wait(f"state {states}", lambda: self.state() in states)
        return self.state()

    def start_again(self) -> None:
        """Cut the two minutes that Slurm lets a job wait, once it has left its nodes."""
        self.wait_for_state("PENDING")
        self.wait_until_gone()
        # started again at once, slurmctld (22.05.8) takes the end of the first life for the second's
        time.sleep(2)
        self.member.run("scontrol", "update", f"JobId={self.job}", "StartTime=now")
        self.lives += 1

    def wait_until_gone(self) -> None:
        self.wait("no process is left", lambda: not list(self.processes()))

    def attempts(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.folder / "attempts.json").read_text())["attempts"]
        return rows

    # --- its processes, by their numbers on this machine ---

    def processes(self) -> Iterator[int]:
        """Yield every process of the run, on any node: coordinator, srun, agents, programs."""
        for pid in _pids():
            if f"{self.folder}/".encode() in _read(pid, "cmdline") + _read(pid, "environ"):
                yield pid

    def pid(self, task: str) -> int | None:
        """Return the program of a task, None if it does not run."""
        return program_of(self.folder, task)

    def coordinator(self) -> int | None:
        """Return the process that the batch script has become, None if it does not run."""
        for pid in _pids():
            words = _read(pid, "cmdline").split(b"\0")
            submissions = [word for word in words if word.startswith(f"{self.folder}/submission-".encode())]
            ours = words[:1] == [b"python3"] and b"coordinate" in words and submissions
            if ours and not _is_zombie(pid):
                return pid
        return None

    def pids(self) -> dict[str, int | None]:
        return {**{task: self.pid(task) for task in self.programs}, "batch": self.coordinator()}

    def node(self, task: str) -> str:
        """Return the node of a task of the newest attempt."""
        rows = json.loads((self.folder / "cluster.json").read_text())["tasks"]
        return str(next(row["node"] for row in rows if row["name"] == task))

    @property
    def batch_host(self) -> str:
        return str(json.loads((self.folder / "lease.json").read_text())["host"])

    # --- what it prints ---

    def output(self) -> str:
        """Return the output of all its jobs, where the coordinator speaks."""
        paths = [self.folder / "logs" / f"slurm-{job}.out" for job in self.jobs]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def log(self, task: str) -> str:
        role, _, index = task.partition(":")
        path = self.folder / "logs" / f"{role}-{index}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def begun(self, task: str) -> list[int]:
        """Return the steps at which the lives of a task that trains have begun."""
        return [int(step) for step in re.findall(r"^begins at (\d+)$", self.log(task), re.MULTILINE)]

    def life(self, task: str) -> str:
        """Return what a task has printed in its newest life."""
        return self.log(task).rpartition("begins at ")[2]

    def has_said(self, what: str) -> bool:
        """Whether all tasks that train have begun as often as they should, and said this since."""
        return all(
            len(self.begun(task)) == self.lives and re.search(rf"^{what}$", self.life(task), re.MULTILINE)
            for task in self.trainers
        )

    def is_idle(self) -> bool:
        """Whether all wait to be allowed their next step."""
        return self.has_said(f"step {self.until + 1}")

    def settle(self) -> None:
        self.wait(f"all are in step {self.until + 1}", self.is_idle, 120)

    # --- its checkpoints ---

    def committed(self) -> int:
        """Return the step of the newest whole checkpoint, 0 without one."""
        return next((found.step for found in checkpoint_folder.complete(str(self.checkpoints))), 0)

    def pointer(self) -> int:
        """Return the step that `latest` names, 0 without one."""
        path = self.checkpoints / checkpoint_folder.POINTER
        return int(path.read_text().strip().rpartition("-")[2]) if path.exists() else 0

    def unfinished(self) -> list[Path]:
        """Return the folders that hold TensorFlow's files of a checkpoint, and no manifest."""
        return [
            path.parent
            for path in self.checkpoints.glob("step-*/checkpoint.index")
            if not (path.parent / checkpoint_folder.MANIFEST).exists()
        ]

    # --- waiting ---

    def wait(self, what: str, true: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until it is so. Raises AssertionError with what the run has said."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s\n{self.story()}"
            time.sleep(0.05)

    def story(self) -> str:
        """Return its job's state, and the end of what everybody has printed."""
        texts = {"state": self.state(), "output": self.output(), **{task: self.log(task) for task in self.programs}}
        return "\n".join(f"--- {name}\n{text[-3000:]}" for name, text in texts.items())

    def finish(self) -> set[str]:
        """Let it come to its end; return the bits that its tasks have then."""
        self.allow(self.steps)
        self.wait("its end", lambda: self.state() == "COMPLETED", 240)
        ends = [re.findall(r"^bits (\w+)\nends at (\d+)$", self.life(task), re.MULTILINE) for task in self.trainers]
        assert all(len(each) == 1 and each[0][1] == str(self.steps) for each in ends), self.story()
        assert self.committed() == self.pointer() == self.steps
        return {each[0][0] for each in ends}


@contextlib.contextmanager
def slowed(pid: int, call: str, nth: int) -> Iterator[None]:
    """Have the `nth` call of this name in each thread of a process take a minute, or until the end of this."""
    argv = [
        "strace",
        "-f",
        "-p",
        str(pid),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:delay_enter=60000000:when={nth}",
    ]
    tracer = subprocess.Popen([*argv, "-o", "/dev/null"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline()
        assert "attached" in line, line
        yield
    finally:
        # not asked to end: it then waits for ever for who was killed in a delay (6.1)
        tracer.kill()
        tracer.communicate(timeout=60)


def program_of(folder: Path, task: str) -> int | None:
    """Return the program of a task of the run in `folder`, as this machine numbers it; None if it does not run."""
    wanted = {f"SLURM_TF_TASK={task}".encode(), f"SLURM_TF_RUN_FOLDER={folder}".encode()}
    for pid in _pids():
        if wanted <= set(_read(pid, "environ").split(b"\0")) and not _is_zombie(pid):
            return pid
    return None


def is_stopped(pid: int) -> bool:
    """Whether no thread of a process runs; one that is traced counts as stopped where its tracer holds it."""
    return all(_state(path) in "Tt" for path in Path("/proc", str(pid), "task").iterdir())


def daemon(sandbox: Any, node: str, name: str) -> int:
    """Return Slurm's daemon of this name on a host of the sandbox, "login" or a node, as this machine numbers it."""
    process = linux.Process.read(sandbox.folder / "pids" / node)
    assert process
    inside = os.readlink(f"/proc/{process.pid}/ns/pid_for_children")
    found = [pid for pid in _pids() if _name(pid) == name and _namespace(pid) == inside]
    return min(found)


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _name(pid: int) -> str:
    return _read(pid, "comm").decode().strip()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _state(path: Path) -> str:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "T"


def _is_zombie(pid: int) -> bool:
    return _state(Path("/proc", str(pid))) in "ZX"
