"""An examination of two nodes by the real programs, with a srun that starts them on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.launch.examination import batch_host
from slurm_tf.run import examination, json_file
from slurm_tf.run.examination import Clock, ExaminationReport, ExaminationSettings, Ping, Pong
from slurm_tf.submit import packed_modules

# Starts the program once for each node of the job; {fault} is what node2 does instead.
SRUN = """\
#!/bin/bash
while [[ $1 = --* ]]; do shift; done
exec 3>&1 4>&2
task() {{
  export SLURMD_NODENAME=node$(($1 + 1))
  [[ $1 = 1 ]] && {{ {fault}; }}
  "${{@:2}}"
}}
tee -p >(task 0 "$@" 2>&1 | sed -u 's/^/0: /' >&3) >(task 1 "$@" 2>&1 | sed -u 's/^/1: /' >&3) > /dev/null
wait
"""
SETTINGS = ExaminationSettings("token", 0, None, None, "", "", "/usr/bin/python3", True, 0, True, "")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in {"sbcast": "exit 1", "scontrol": "echo JobId=7"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def examine(folder: Path, bin_folder: Path, fault: str = ":") -> ExaminationReport:
    (bin_folder / "srun").write_text(SRUN.format(fault=fault))
    (bin_folder / "srun").chmod(0o755)
    json_file.write(str(folder / examination.SETTINGS), SETTINGS)
    Path(examination.own_file(str(folder), examination.LOGIN)).write_text(SETTINGS.token)
    json_file.write(str(folder / examination.PING), Ping(SETTINGS.token, 0))
    launcher = folder / "launch.pyz"
    launcher.write_bytes(packed_modules.launcher())
    environ = {
        **os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }  # fmt: skip
    command = [sys.executable, "-IS", str(launcher), "examine", str(folder), str(launcher), "--", sys.executable, "-IS"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "the nodes start" in done.stderr
    return json_file.read(str(folder / examination.REPORT), ExaminationReport)


@pytest.mark.slow
def test_two_nodes(tmp_path: Path, bin_folder: Path) -> None:
    report = examine(tmp_path, bin_folder)
    assert (report.missing, report.scontrol, report.batch_problem, report.batch_host) == ({}, "", "", "node1")
    assert [each.node for each in sorted(report.nodes, key=lambda each: each.node)] == ["node1", "node2"]
    assert all(each.shared.sees_login and not each.unreachable for each in report.nodes)
    assert {each.node: (each.broken, each.unseen) for each in report.met} == {"node1": ({}, ()), "node2": ({}, ())}
    assert {each.node: each.tensorflow.problem for each in report.finished} == dict.fromkeys(
        ("node1", "node2"), "this Python has no TensorFlow"
    )
    assert set(report.clocks) == {"node1", "node2"}
    assert all(abs(clock.ahead) <= clock.uncertainty for clock in report.clocks.values())
    pong = json_file.read(str(tmp_path / examination.PONG), Pong)
    assert pong.number == 0
    assert pong.seen <= pong.written


@pytest.mark.slow
def test_a_node_that_does_not_start(tmp_path: Path, bin_folder: Path) -> None:
    (bin_folder / "scontrol").write_text("#!/bin/sh\necho no answer >&2\nexit 1\n")
    words = "found Python 3.8.10; needed 3.9"
    ended = "srun: error: node2: task 1: Exited with exit code 1"
    report = examine(tmp_path, bin_folder, f'echo "slurm-tf: {words}" >&2; echo "{ended}" >&4; exit 1')
    assert report.missing == {"node2": f"slurm-tf: {words}"}
    assert [each.node for each in report.met] == ["node1"]
    assert report.met[0].broken == {}
    assert report.scontrol == "no answer"


@pytest.mark.parametrize(
    ("line", "ranks"),
    [
        ("srun: error: node2: task 1: Exited with exit code 1", {1}),
        ("srun: error: node[1-3]: tasks 0,2-3: Terminated", {0, 2, 3}),
        ("srun: error: Unable to create step", set()),
        ("slurmstepd: error: node2: task 1: Killed", set()),
    ],
)
def test_tasks_that_have_failed(line: str, ranks: set[int]) -> None:
    assert batch_host._ended(line) == ranks


def test_how_far_a_clock_is_ahead() -> None:
    assert batch_host.between(105.0, 99.0, 101.0) == Clock(5.0, 1.0)
