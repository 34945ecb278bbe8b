"""TensorFlow trained on a real Slurm that takes its nodes away: it ends with the bits of a run that was left alone."""

import json
import re
from pathlib import Path

import pytest

from tests.cluster.group import Member
from tests.cluster.test_interruptions import Run, preempt
from tests.conftest import ROOT
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox
from tests.train.fake_agent import start

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

EXACT = ROOT / "tests" / "programs" / "exact.py"
JOB = """name = "a"
strategy = "multi_worker"
command = ["python3", "{program}", "{how}", "{pause}", "{epochs}"]
exclusive = true
[roles.worker]
count = 2
ntasks-per-node = 1
[env]
TF_ENABLE_ONEDNN_OPTS = "0"  # as of the training that is left alone: oneDNN's sums have other bits
{tables}
"""


class Training(Run):
    """A run of tests/programs/exact.py, of 6 steps an epoch, in two tasks on two nodes."""

    def __init__(
        self,
        member: Member,
        name: str,
        *words: str,
        epochs: int,
        pause: float = 0.0,
        how: str = "fit",
        tables: str = "",
    ) -> None:
        text = JOB.format(program=EXACT, how=how, pause=pause, epochs=epochs, tables=tables)
        self.member, self.name = member, name
        self.job = member.submit(member.write("a.toml", text), "--name", name, *words)
        self.folder = member.folder / "runs" / name

    @property
    def output(self) -> str:
        return self.member.ok("logs", self.name)

    def bits(self) -> set[tuple[str, str]]:
        """Wait for the end; return what each task has then."""
        assert self.member.type("wait", self.name, timeout=280).returncode == 0, self.output
        found = set(re.findall(r"\[worker:(\d)\] bits (\w+)", self.output))
        assert {task for task, _ in found} == {"0", "1"}, self.output
        return found

    def steps(self, pattern: str = "step") -> list[int]:
        """Return the steps that the first task has done, those done twice too."""
        return super().steps(pattern)

    def check_work_redone(self) -> None:
        """Each attempt went on where the one before it had saved, which was at most a step before its end."""
        lasts = [row["last"] for row in self.attempts()]
        resumed = [int(step) for step in re.findall(r"resumed at step (\d+) from", self.output)]
        assert resumed == lasts[:-1]
        done = self.steps()
        assert done == sorted(done)
        # the step at which all meet is saved before the program prints it
        assert len(done) >= max(done) - len(resumed)


def wait_for_step(run: Training, step: int) -> None:
    """Wait until it has done `step`, which it does not print if that is the one at which all met and saved."""
    later = "|".join(str(each) for each in range(step, step + 7))
    run.wait_for(rf"\[(worker|chief):0\] step ({later})\b", timeout=120)


def whole(folder: Path, epochs: int) -> set[tuple[str, str]]:
    """Return the bits of a training that is left alone, on this machine."""
    programs = start(folder, [str(EXACT), "fit", "0", str(epochs)], 2)
    assert [each.process.wait(280) for each in programs] == [0, 0], programs[0].text
    return {(str(task), each.wait_for(r"\bbits (\w+)")[1]) for task, each in enumerate(programs)}


@pytest.mark.long  # once: tests/faults/test_representative.py
@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.timeout(900)
def test_a_training_that_is_preempted_again_and_again(
    times: int, alice: Member, sandbox: Sandbox, tmp_path: Path
) -> None:
    epochs = times + 1
    run = Training(alice, "preempted", "--qos=scavenge", epochs=epochs, pause=0.3)
    for number in range(times):
        wait_for_step(run, 6 * number + 4)
        preempt(sandbox)
        run.start_again()
    assert run.bits() == whole(tmp_path, epochs)
    assert [row["cause"] for row in run.attempts()] == ["preemption"] * times + [""]
    run.check_work_redone()
    (point,) = alice.status("preempted")
    assert (point["job"], point["requeues"]) == (run.job, times)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_chain_of_five_allocations_or_more_is_one_run(alice: Member, tmp_path: Path) -> None:
    epochs = 28
    tables = '[checkpoint]\nwarning = "0:05"'
    run = Training(alice, "chain", "--time=1", epochs=epochs, pause=1.2, tables=tables)
    limits = 0
    while True:
        run.wait_for(r"timeout: .*: all of step \d+ is saved|\[worker:0\] bits", limits + 1, timeout=150)
        if "bits" in run.output:
            break
        run.start_again()
        limits += 1
    assert limits >= 4
    assert run.bits() == whole(tmp_path, epochs)
    assert [row["cause"] for row in run.attempts()] == ["timeout"] * limits + [""]
    run.check_work_redone()


@pytest.mark.long  # as scancel-evaluate-chief of tests/faults
def test_a_training_that_is_cancelled_has_saved_and_is_gone(alice: Member) -> None:
    run = Training(alice, "cancelled", epochs=20, pause=0.3, how="loop")
    wait_for_step(run, 4)
    alice.run("scancel", run.job)
    assert alice.type("wait", "cancelled", timeout=120).returncode != 0
    # written when it is decided: with a short KillWait the batch script may be killed before it writes the end
    linux.wait_until("the cause is written", lambda: run.attempts()[0]["cause"])
    (row,) = run.attempts()
    assert row["cause"] == "cancel", run.output
    assert row["last"] >= 4
    assert json.loads(Path(run.folder, "status.json").read_text())["code"] == 143
    assert alice.sacct(run.job)[0].startswith("CANCELLED")
