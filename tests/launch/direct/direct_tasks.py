"""Tasks of a step, as real processes with its variables, and what a TaskProlog makes of their environment."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.launch.conftest import LAUNCH

Done = list["subprocess.CompletedProcess[str]"]

SHOW = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"
PROGRAM = [sys.executable, "-c", SHOW]
LAUNCHER = [*LAUNCH, "launch"]


def step(rank: int, tasks: int, folder: Path) -> dict[str, str]:
    """Return the environment of one task; all are on this machine."""
    return {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank), "SLURM_NTASKS": str(tasks), "SLURM_LOCALID": str(rank), "SLURMD_NODENAME": "n1",
        "SLURM_SUBMIT_DIR": str(folder), "SLURM_CLUSTER_NAME": "c",
    }  # fmt: skip


def start(
    command: Sequence[str],
    tasks: int,
    folder: Path,
    ranks: Sequence[int] | None = None,
    environ: Mapping[str, str] = {},
) -> Done:
    """Run `command` as each task of a step at once."""
    processes = [
        subprocess.Popen(
            command, env={**step(rank, tasks, folder), **environ}, cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (range(tasks) if ranks is None else ranks)
    ]  # fmt: skip
    try:
        texts = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(command, process.returncode, *text)
        for process, text in zip(processes, texts, strict=True)
    ]


def seen(done: Done) -> list[tuple[dict[str, str], list[Any]]]:
    """Return each program's environment and arguments."""
    assert [each.returncode for each in done] == [0] * len(done), [each.stderr for each in done]
    return [tuple(json.loads(each.stdout)) for each in done]


def places(environs: Sequence[dict[str, str]]) -> list[str]:
    """Return each task's name, having checked that all know one cluster."""
    configs = [json.loads(environ["TF_CONFIG"]) for environ in environs]
    assert all(config["cluster"] == configs[0]["cluster"] for config in configs)
    return [f"{config['task']['type']}:{config['task']['index']}" for config in configs]


def one_error(done: Done, code: int) -> str:
    """Return what the one task that speaks said."""
    assert [each.returncode for each in done] == [code] * len(done)
    said = [each.stderr or each.stdout for each in done if each.stderr or each.stdout]
    assert len(said) == 1, said
    return said[0]


def after(output: str, environ: dict[str, str]) -> dict[str, str]:
    """Return the environment that Slurm makes of what a TaskProlog prints (seen with 22.05.8)."""
    environ = dict(environ)
    for line in output.split("\n"):
        word, _, rest = line.partition(" ")
        if word == "export":
            name, _, value = rest.partition("=")
            environ[name] = value
        elif word == "unset":
            environ.pop(rest, None)
    return environ
