"""Starts a command in a step of its own on a node of a job that runs, beside its other steps (srun --overlap)."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NoReturn

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, command_output
from slurm_tf.slurm.records import whole_job


def srun_command(job: str, node: str, argv: Sequence[str], has_terminal: bool) -> list[str]:
    """Return the srun command that runs `argv` as one task on `node` of the job, array task or component `job`.

    srun takes the number of an array task, and of a heterogeneous job that of the whole and a component (22.05.8).
    Raises SlurmError.
    """
    component = job.partition("+")[2]
    words = [
        "srun", "--overlap", f"--jobid={whole_job(job) if component else _number(job)}",
        *([f"--het-group={component}"] if component else []),
        f"--nodelist={node}", "--nodes=1", "--ntasks=1", "--mpi=none", "--export=ALL", "--kill-on-bad-exit=0",
        *(["--pty"] if has_terminal else []),
    ]  # fmt: skip
    return [*words, *argv]


def _number(job: str) -> str:
    """Return the number that Slurm has given an array task; other jobs have the one that they are called by."""
    _, _, task = job.partition("_")
    if not task:
        return job
    argv = ["squeue", "--noheader", "--array", "--all", f"--jobs={client.checked([job])[0]}"]
    text = client.run([*argv, command_output.columns(("JobID", "ArrayTaskID"))]).stdout
    found = [number for number, each in command_output.rows(text, 2) if each == task]
    if not found:
        raise SlurmError(f"Slurm knows no job {job} that runs", "a job that runs")
    return found[0]


def become(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become srun, which has the user's terminal and signals, and ends with the command's exit code.

    Raises UnreachableError if it is not installed.
    """
    try:
        os.execvpe(argv[0], list(argv), dict(environ))  # noqa: S606
    except FileNotFoundError as error:
        raise client.not_installed(argv[0]) from error


def run(argv: Sequence[str], environ: Mapping[str, str], stdout: int) -> int:
    """Run srun, which prints to the file descriptor `stdout`; return its exit code, that of the command.

    Raises UnreachableError if it is not installed.
    """
    # a handler, not SIG_IGN, which srun would inherit: a Ctrl-C reaches it from the terminal
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(list(argv), env=dict(environ), stdout=stdout)
    except FileNotFoundError as error:
        raise client.not_installed(argv[0]) from error
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    code = process.wait()
    return 128 - code if code < 0 else code
