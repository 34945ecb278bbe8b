"""Starts the tasks of a step on this machine, without Slurm, in the place of srun."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from typing import Dict, List, Mapping, NoReturn, Optional, Sequence

from slurm_tf.launch.agent.child import die_with
from slurm_tf.run import env

_GPU_DEVICE = re.compile(r"nvidia(\d+)")


def run_script(script: str, environ: Mapping[str, str], stdout: Optional[int] = None) -> int:
    """Run a batch script as Slurm would, in this terminal; return its exit code.

    `stdout`: the file descriptor for what it prints to stdout; None: that of this process. Signals are left to the
    script: a Ctrl-C reaches it from the terminal, a SIGTERM is passed on.
    """
    # a handler, not SIG_IGN, which the script would inherit
    signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen(["/bin/bash", script], env=dict(environ), stdin=subprocess.DEVNULL, stdout=stdout)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    code = process.wait()
    return 128 - code if code < 0 else code


def main(arguments: Sequence[str]) -> NoReturn:
    """local --ntasks N -- COMMAND..."""
    tasks, command = int(arguments[1]), arguments[arguments.index("--") + 1 :]
    processes = _start(command, tasks, os.environ)

    def pass_on(number: int, _frame: object) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    codes = [process.wait() for process in processes]
    sys.exit(max(128 - code if code < 0 else code for code in codes))


def _start(command: Sequence[str], tasks: int, environ: Mapping[str, str]) -> List["subprocess.Popen[bytes]"]:
    """Start `command` `tasks` times, each with the variables that srun sets for a task.

    Each is a session of its own, so that a Ctrl-C at the terminal reaches the coordinator alone. Each is
    killed when this process dies, and its program with it.
    """
    base = {name: value for name, value in environ.items() if not name.startswith(("SLURM_", "SLURMD_"))}
    base.update({name: value for name, value in environ.items() if name.startswith("SLURM_TF_")})
    base.update(_gpus(environ))
    return [
        subprocess.Popen(
            list(command),
            env={**base, **_task_environ(rank, tasks)},
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
        )
        for rank in range(tasks)
    ]


def _task_environ(rank: int, tasks: int) -> Dict[str, str]:
    return {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_NTASKS": str(tasks),
        "SLURMD_NODENAME": os.uname().nodename,
    }


def _gpus(environ: Mapping[str, str]) -> Dict[str, str]:
    """Give every task all GPUs of the machine, or those that the user narrowed it to; their agents divide them."""
    if any(name in environ for name in env.DEVICE_VARIABLES):
        return {}
    found = sorted(int(match[1]) for match in map(_GPU_DEVICE.fullmatch, os.listdir("/dev")) if match)
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, found))} if found else {}
