"""A job whose programs have ended, with fakes of Slurm's commands."""

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.requeue import continuation, finalize
from slurm_tf.launch.requeue.finalize import Finalizer
from slurm_tf.launch.transport.signal_pipe import SignalPipe
from slurm_tf.run import job_chain, lease
from slurm_tf.run.attempts import AttemptRecorder
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.run.settings import RetrySettings
from slurm_tf.run.status import AttemptState
from slurm_tf.slurm.in_job import JobStatus
from tests.launch.conftest import DEFAULTS

SETTINGS = dataclasses.replace(DEFAULTS, local=False, retry=RetrySettings((2,), (75,), 2, 3, 600.0))
PREEMPTED = Outcome(75, "preemption: worker:0 got SIGTERM", OutcomeCause.TERMINATION)
AGAIN = ["scontrol requeue incomplete 7", "scontrol update JobId=7 StartTime=now+600"]
# Appends its arguments to the file `calls`; answers as the file of its name and first argument says: exit code, output,
# error text. A requeue gives the job one restart more, unless it is COMPLETING; squeue-next is what squeue says then.
COMMAND = """#!/bin/sh
name=$(basename "$0")
echo "$name $*" >> "$KEPT/calls"
answer="$KEPT/$name"
case "$name $*" in
scontrol*) answer="$answer-$1";;
*--format=%x*) answer="$answer-excluded";;
*--format=%F*) answer="$answer-dependants";;
*--test-only*) answer="$answer-trial";;
esac
[ "$answer" = "$KEPT/scontrol-requeue" ] && [ ! -e "$answer" ] && {
    grep -q COMPLETING "$KEPT/squeue" && [ "$2" = incomplete ] || sed -i 's/ 0 \\([09]\\)$/ 1 \\1/' "$KEPT/squeue"
    [ ! -e "$KEPT/squeue-next" ] || mv "$KEPT/squeue-next" "$KEPT/squeue"
}
[ -e "$answer" ] || exit 0
{ read -r code; read -r errors; output=$(cat); } < "$answer"
[ -z "$output" ] || printf "%s\n" "$output"
[ -z "$errors" ] || echo "$errors" >&2
[ ! -e "$answer-once" ] || rm "$answer" "$answer-once"
exit "$code"
"""


class Pipe(SignalPipe):
    """Signals that a test sends: the first read returns them, later ones return none."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)

    def read(self) -> set[int]:
        came, self.numbers = self.numbers, set()
        return came


class EndedJob:
    """Job 7 of a run, whose programs have ended, with fakes of Slurm's commands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(continuation, "_PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(finalize, "_END_SECONDS", 0.0)
        self.said = list[str]()
        self.bad = dict[str, str]()
        for name in ("squeue", "scontrol", "sbatch", "scancel", "sinfo"):
            (folder / name).write_text(COMMAND)
            (folder / name).chmod(0o755)
        self.kept = folder / "kept"
        self.kept.mkdir()
        self.environ = {"PATH": f"{folder}:{os.environ['PATH']}", "KEPT": str(self.kept), "SLURM_JOB_ID": "7"}
        self.run = RunFolder(str(folder / "run"))
        os.makedirs(self.run.logs)
        self.hold("7.0")
        job_chain.add(self.run, "7", "", (), array=False, submission=1)
        self.context = JobContext(self.run.submission(1), None, self.environ)
        self.shown: list[AttemptState] = []
        self.pipe = Pipe()
        self.answer("squeue", 0, "RUNNING N/A 9999999999 1 10:00 0 0")

    def hold(self, attempt: str) -> None:
        lease.write(self.run, Lease(attempt, "7", "node1", "1-1", 0.0))

    def answer(self, command: str, code: int, output: str = "", errors: str = "", once: bool = False) -> None:
        (self.kept / command).write_text(f"{code}\n{errors}\n{output}\n")
        if once:
            (self.kept / f"{command}-once").touch()

    @property
    def calls(self) -> list[str]:
        """Calls of Slurm's commands that change something."""
        lines = (self.kept / "calls").read_text().splitlines() if (self.kept / "calls").exists() else []
        return [line for line in lines if not line.startswith(("squeue", "sinfo"))]

    def conclude(
        self,
        outcome: Outcome,
        termination: Termination,
        step: int | None = None,
        name: str = "7.0",
        only_stages: bool = False,
        **changes: Any,
    ) -> Outcome:
        settings = dataclasses.replace(SETTINGS, **changes)
        self.record = AttemptRecorder(self.run, name, "7", self.said.append)
        if only_stages:
            self.record.only_stages()
        if step is not None:
            self.record.committed(step)
        self.exclusion = Exclusion(self.context, self.said.append)
        for node, reason in self.bad.items():
            self.exclusion.is_bad(node, reason)
        return Finalizer(self.context, settings, self.record, self.pipe, self.exclusion, self.said.append).conclude(
            outcome, termination, lambda _, state: self.shown.append(state)
        )

    @property
    def states(self) -> tuple[str, str]:
        """Cause in attempts.json, and the state that `status` shows."""
        return self.record.attempt.cause, (self.shown or [AttemptState.REGISTERING])[-1].value


def preemption(left: float = 30.0) -> Termination:
    made = Termination(SETTINGS)
    made.started("worker:0")
    made.listening("worker:0", True, 0.0)
    made.signal(signal.SIGTERM, "worker:0", False, time.monotonic())
    made.due(time.monotonic())
    made.learn(JobStatus("RUNNING", preempted=True), left, time.monotonic())
    return made


def quiet() -> Termination:
    return Termination(SETTINGS)


def cancel(_: EndedJob, termination: Termination) -> None:
    termination.signal(signal.SIGTERM, "the coordinator", True, time.monotonic())


def mark(ended: EndedJob, _: Termination) -> None:
    Path(ended.run.cancelled).touch()


def signal_late(ended: EndedJob, _: Termination) -> None:
    ended.pipe.numbers = {signal.SIGTERM}


def ends_early(ended: EndedJob, _: Termination) -> None:
    ended.answer("squeue", 0, f"COMPLETING {int(time.time())} {int(time.time())} 1 10:00 0 0")
