"""A user's folder with runs, on a cluster that was recorded, and a terminal on which slurm-tf is typed."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from slurm_tf import cli, search_path
from slurm_tf.cli import watch_commands
from slurm_tf.cli.terminal import Screen
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.doctor import findings, login_node
from slurm_tf.errors import UnreachableError
from slurm_tf.launch.direct import local_tasks
from slurm_tf.page import server
from slurm_tf.page.server import Listening
from slurm_tf.run import fault_request, job_chain, lease, status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.run.settings import LaunchSettings, RoleSettings, write_settings
from slurm_tf.run.status import AttemptState, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm import associations, client, live_cluster
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.submit import horovod_wheel, packed_modules
from slurm_tf.watch import tensorboard
from tests.conftest import RECORDED, write_manifest
from tests.launch.conftest import DEFAULTS
from tests.prepare.data_sets import write_data_set
from tests.watch.conftest import Slurm

# In the place of the folder, and as long as it: tables are as wide everywhere.
FOLDER = "/home/ann/project/flowers"
_START = datetime(2026, 3, 14, 9, 0, 0, tzinfo=timezone.utc)
_END = datetime(2026, 3, 14, 15, 9, 26, tzinfo=timezone.utc)
_WHY = "worker:1 on gpu007 ended with exit code 1: KeyError: 'rate' (train.py, line 41)"
JOB = """\
name = "flowers"
strategy = "multi_worker"
command = ["python", "train.py"]
time = "4:00:00"
exclusive = true
[roles.worker]
count = 2
mem = "8G"
"""
GROUPS = """\
[organizations.physics]
gpus = 4
cpus = 8
mem = "8G"
gpu-hours = 100
max-time = "1-0"
[organizations.physics.users]
alice = { gpus = 3 }
daemon = { gpus = 1 }
"""
CNN = """\
name = "cnn"
description = "a convolutional network on images, under every strategy that averages gradients"
strategy = "multi_worker"
command = ["python", "cnn.py", "--epochs={epochs}", "--rate={rate}"]
[params]
epochs = {default = 10, min = 1, help = "passes over the training images"}
rate = {type = "float", help = "learning rate of each worker"}
[roles.worker]
count = 2
"""
PLAIN = """\
import keras
import numpy as np

x, y = np.load("x.npy"), np.load("y.npy")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, y, batch_size=32, epochs=3)
model.save("model.keras")
"""
# A profile that is not quite that of the recorded cluster.
# a recipe
PETALS = """
cpus = 1
[sources.petals]
format = "csv"
path = "petals.csv"
columns = { flower = "BIGINT", petal = "DOUBLE", colour = "VARCHAR" }
[features.petal]
kind = "float"
[features.colour]
vocabulary = {}
[split]
key = ["flower"]
[output]
folder = "petals"
"""
LAB = """\
inherit = "generic"
default-partition = "cpu"
[partitions.cpu]
cpus-per-node = 16
mem-per-node = "1G"
[partitions.gpu]
gpus-per-node = "h100:8"
[partitions.debug]
[container]
runtime = "apptainer"
images = "images"
"""
# apptainer build IMAGE DEFINITION-FILE
APPTAINER = """\
#!/bin/sh
[ "${3##*/}" != broken.def ] || exit 255
printf '#!/usr/bin/env run-singularity\\n\\0SIF_MAGIC' > "$2"
"""
_FINDINGS = (
    findings.ok("slurm", "22.05.8, cluster sandbox"),
    findings.warning(
        "open-files", "ulimit -n is 1023", "1024 or more",
        "raise it with ulimit before you submit, as Slurm passes limits on to jobs, or ask your administrators",
    ),
    findings.error("partition", "found 'gone'", "one of cpu, gpu, gpu-mig", "slurm-tf sites check shows the others"),
    findings.unknown("quota", "no command of this machine says it"),
)  # fmt: skip
# "sbatch --test-only" of Slurm 22.05.8
_STARTS = "sbatch: Job 9 to start at 2026-03-14T18:00:00 using 2 processors on nodes node[1-2] in partition cpu"


class _Output(io.TextIOWrapper):
    """stdout and stderr together, as a terminal shows them."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        buffer: Any = self.buffer
        return str(buffer.getvalue().decode())


class Scene:
    """The folder, in which words can be typed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        self._slurm = Slurm()
        self._slurm.live = records()
        stand_in(self._slurm, monkeypatch)
        packaged = search_path.packaged

        def own(kind: str) -> Path:  # pages and jobs change, and what shows them does not; paths are as long everywhere
            return packaged(kind) if kind == search_path.TEMPLATES else folder / "packaged" / kind

        monkeypatch.setattr(search_path, "packaged", own)
        # by which click tells `python -m` from a program
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None, raising=False)

    def type(self, commands: Sequence[str], screen: Screen) -> str:
        """Type lines of words; return what a screen shows, with FOLDER for the folder's name.

        `| head -4` behind a line shows so many lines of what is the same on every screen, such as JSON.
        """
        self._patch.chdir(self.folder)
        shown = ""
        for line in commands:
            words, _, head = line.partition(" | head -")
            printed = self._run(["bin/slurm-tf", *words.split()], screen).splitlines(keepends=True)
            shown += f"$ slurm-tf {line}\n{''.join(printed[: int(head or len(printed))])}"
        return shown.replace(str(self.folder), FOLDER)

    def restore(self) -> None:
        """Make the folder what it was at first."""
        self._patch.chdir(self.folder.parent)
        shutil.rmtree(self.folder)
        shutil.copytree(self.folder.parent / "pristine", self.folder)

    def _run(self, argv: Sequence[str], screen: Screen) -> str:
        self._patch.setattr(sys, "argv", [str(self.folder / argv[0]), *argv[1:]])
        variables = {
            "COLUMNS": str(screen.width or ""), "NO_COLOR": "" if screen.colour else "1", "TERM": "xterm",
            "PATH": f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder), "LOGNAME": "ann", "TZ": "UTC",
            "XDG_CACHE_HOME": f"{self.folder}/.cache", "XDG_CONFIG_HOME": f"{self.folder}/.config",
            "XDG_STATE_HOME": f"{self.folder}/.state", "SLURM_TF_SITE": "generic",
        }  # fmt: skip
        for name, value in variables.items():
            self._patch.setenv(name, value)
        if screen.width is None:
            self._patch.delenv("COLUMNS")
        output, code = _Output(screen.width is not None), 0
        with redirect_stdout(output), redirect_stderr(output):
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return output.text() + (f"(exit code {code})\n" if code else "")


def furnished() -> Path:
    """Make a folder with a job file, a run that has failed, one that runs, and a sweep; return it."""
    folder = Path(tempfile.mkdtemp(prefix="stf-", dir="/tmp"), "flowers")
    assert len(str(folder)) == len(FOLDER)
    (folder / "bin").mkdir(parents=True)
    (folder / "flowers.toml").write_text(JOB)
    (folder / "train.py").write_text("")
    (folder / "groups.toml").write_text(GROUPS)
    (folder / "plain.py").write_text(PLAIN)
    packaged = {
        "docs/install.md": "# Installing", "docs/submit.md": "# Submitting and watching jobs", "jobs/cnn.toml": CNN,
        "jobs/cnn.py": "",
    }  # fmt: skip
    for name, text in packaged.items():
        (folder / "packaged" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "packaged" / name).write_text(f"{text}\n")
    shutil.copytree(search_path.packaged(search_path.SITE_CONFIGS), folder / "packaged" / "site_configs")
    image = folder / "images" / "tf" / "2.18"
    (image / "usr/lib/python3.12/site-packages/tensorflow-2.18.0.dist-info").mkdir(parents=True)
    (image / "etc").mkdir()
    os.utime(image, (time.time() - 3 * 86400,) * 2)
    for name in ("tf.def", "broken.def"):
        (folder / name).write_text("Bootstrap: docker\n")
    for name, text in {"slurm-tf": "#!/bin/sh\n", "python": "#!/bin/sh\n", "apptainer": APPTAINER}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    for version, colours in (("1", (b"red", b"white")), ("2", (b"red", b"white", b"blue\x1b[m"))):
        make_data_set(folder.parent / "data" / version, colours)
    (folder.parent / "data" / "2" / "test-00000-of-00001.tfrecord").write_bytes(b"")
    (folder.parent / "data" / "petals.csv").write_text("flower,petal,colour\n1,1.5,red\n2,2.5,white\n3,4,red\n")
    (folder.parent / "data" / "petals.toml").write_text(PETALS)
    for version in ("1", "2", "3"):
        (folder / "models" / "petals" / version).mkdir(parents=True)
        (folder / "models" / "petals" / version / "saved_model.pb").touch()
    failed = make_run(folder, "flowers-1", "7")
    tasks = {"worker:0": TaskStatus(TaskState.ENDED, "gpu006", 0, 0), "worker:1": TaskStatus(TaskState.ENDED, "gpu007")}
    end = RunStatus("flowers-1", "7", 0, "gpu006", 0, AttemptState.ENDED, 0, 1, _WHY, "worker:1", tasks=tasks)
    status.write(failed, end)
    Path(failed.logs, "slurm-7.out").write_text(f"[worker:0] step 1, loss 2.31\nslurm-tf: {_WHY}\n")
    for index, text in enumerate(("step 1, loss 2.31\n", "step 1, loss 2.31\nKeyError: 'rate'\n")):
        Path(failed.log("worker", index)).write_text(text)
    running = make_run(folder, "flowers-2", "8")
    lease.write(running, Lease("8.0", "8", "gpu000", "1-1", 0.0))
    tasks = {name: TaskStatus(TaskState.RUNNING, f"gpu00{n}") for n, name in enumerate(("worker:0", "worker:1"))}
    status.write(running, RunStatus("flowers-2", "8", 0, "gpu000", 0, AttemptState.RUNNING, tasks=tasks))
    points = {str(n): {"rate": 0.1 / 2**n, "units": 32} for n in range(4)}
    make_run(folder, "rates-1", "9", ArrayShape(None, True, points))
    (folder / ".config" / "slurm-tf" / "site_configs").mkdir(parents=True, mode=0o755)
    (folder / ".config" / "slurm-tf" / "site_configs" / "lab.toml").write_text(LAB)
    (folder / ".state" / "slurm-tf").mkdir(parents=True, mode=0o700)
    shutil.copytree(folder, folder.parent / "pristine")
    return folder


def make_data_set(folder: Path, colours: Sequence[bytes]) -> None:
    """Write 300 flowers for training, and 60 for a test, of which 2 are in both."""
    schema = Schema(
        (Feature("flower", Kind.INT64), Feature("petal", Kind.FLOAT, default=0.0), Feature("colour", Kind.BYTES))
    )
    rows = [
        {"flower": n, "petal": n % 90 / 7 if n % 9 else None, "colour": colours[n % len(colours)]} for n in range(358)
    ]
    write_data_set(folder, schema, {"train": rows[:300], "test": rows[298:]}, count=1, key=["flower"])


def records() -> list[JobRecord]:
    """Return Slurm's records of the jobs of the runs, and of the one that is submitted next."""
    times: dict[str, Any] = {"submitted": _START, "started": _START}
    codes = (0, 1, 0, 137)
    return [
        JobRecord("7", JobState.FAILED, exit_code=1, ended=_END, nodes="gpu[006-007]", **times),
        JobRecord("8", JobState.RUNNING, nodes="gpu[000-001]", **times),
        *(
            JobRecord(f"9_{n}", JobState.FAILED if code else JobState.COMPLETED, exit_code=code, ended=_END, **times)
            for n, code in enumerate(codes)
        ),
        JobRecord("10", JobState.PENDING, submitted=_START, reason="AssocGrpGRES"),
    ]


def make_run(folder: Path, name: str, job: str, array: ArrayShape | None = None) -> RunFolder:
    run = RunFolder(str(folder / "runs" / name))
    for each in (run.path, run.submission(1).path, *run.folders):
        Path(each).mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in (None, 1):
        write_manifest(run, name.rpartition("-")[0], array, number, sbatch={}, roles={"worker": {}})
    write_settings(run.submission(1), LaunchSettings(**{**DEFAULTS.__dict__, "roles": (RoleSettings("worker", 2),)}))
    points = tuple(map(int, array.points)) if array else ()
    job_chain.add(run, job, "", points, bool(points), submission=1)
    return run


class _Board:
    """In the place of a TensorBoard that runs until Ctrl-C."""

    pid = 4242

    def __init__(self, argv: Sequence[str], environ: object) -> None:
        pass

    def __enter__(self) -> "_Board":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_up(self, _say: object) -> tensorboard.Address:
        return tensorboard.Address("", 6006)

    def wait(self) -> None:
        raise KeyboardInterrupt


def _serve(_listener: object, _connect: object, _runs: str, _admin: bool, say: Callable[[Listening], None]) -> None:
    """Say where a page is that runs until Ctrl-C."""
    say(Listening(8080, "", "http://localhost:8080/5b1d0cf3a2e94c07/open?link=kY3vT8Qe"))
    raise KeyboardInterrupt


def stand_in(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the cluster "typed" answer, and nothing start that takes long."""
    rows = json.loads((RECORDED / "slurm-22.05.8" / "clusters" / "typed.json").read_text())
    limits = json.loads((RECORDED / "slurm-22.05.8" / "organizations.json").read_text())["alice"]
    printed = {tuple(row["argv"]): (row["stdout"], row["stderr"]) for row in rows}

    def run(argv: Sequence[str], *_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        if argv[0] == "sbatch":
            answer = ("", _STARTS) if "--test-only" in argv else ("10\n", "")
        elif tuple(argv) in printed:
            answer = printed[tuple(argv)]
        elif " ".join(argv) in limits:
            # jobs that ended long ago: a time of today is shown without its day
            answer = re.sub(r"\d{4}-\d\d-\d\dT", "2026-03-14T", limits[" ".join(argv)]), ""
        else:
            raise UnreachableError(f"{argv[0]} did not answer in 60 s")
        return subprocess.CompletedProcess(argv, 0, *answer)

    monkeypatch.setattr(client, "run", run)
    monkeypatch.setattr(live_cluster, "_user", lambda: "alice")
    monkeypatch.setattr(associations, "me", lambda: "alice")
    monkeypatch.setattr(watch_commands, "connect", lambda: slurm)
    monkeypatch.setattr(local_tasks, "run_script", lambda *_: 0)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for name in ("launcher", "train_library"):
        monkeypatch.setattr(packed_modules, name, bytes)
    monkeypatch.setattr(login_node, "examine", lambda *_: _FINDINGS)
    monkeypatch.setattr(fault_request, "write", lambda *_: None)
    monkeypatch.setattr(tensorboard, "TensorBoardServer", _Board)
    monkeypatch.setattr(tensorboard, "host_name", lambda: "login1.uni.example")
    monkeypatch.setattr(server, "serve", _serve)
    monkeypatch.setattr(tensorboard, "command", lambda *_: ["tensorboard"])
    monkeypatch.setattr(horovod_wheel, "install", lambda *_: Path(os.environ["HOME"], ".cache/horovod-0.28.1.whl"))
