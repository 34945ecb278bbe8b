"""One cell of the matrix: the phase is entered, the blow falls, what comes of it is looked at."""

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import table
from tests.faults.held import Held, is_stopped
from tests.faults.phases import ENTER
from tests.faults.table import Cell

# The others wait meanwhile; any time will do.
_SECONDS_STOPPED = 1.0


@dataclass(frozen=True)
class Before:
    """How things are when the blow falls. `done`: steps that all have done; `said`: length of the output.

    `left`: how often agents have put it back.
    """

    pids: dict[str, int | None]
    committed: int
    done: int
    said: int
    left: int

    @classmethod
    def of(cls, run: Held, cell: Cell) -> "Before":
        done = run.until
        if cell.phase == "compile":
            done = run.begun(run.trainers[0])[-1]
        elif cell.phase == "requeue":
            last = run.attempts()[-1]["last"]  # None: the attempt had nothing new to save
            done = run.begun(run.trainers[0])[-1] if last is None else last
        elif cell.phase == "step" and cell.strategy == "ps":
            done -= 1
        return cls(run.pids(), run.committed(), done, len(run.output()), _left_alone(run))


def strike(run: Held, cell: Cell) -> None:
    """Have the fault happen to a run that waits in a step; leave it so, in whatever attempt."""
    run.settle()
    with ENTER[cell.phase](run):
        before = Before.of(run, cell)
        if cell.phase == "requeue":
            assert not any(before.pids[task] for task in run.programs), before
        if cell.expected == table.ABSENT:
            assert before.pids[cell.task] is None
        else:
            _blow(run, cell, before)
    lives = run.lives
    _COMES[cell.expected](run, cell, before)
    begun = [run.begun(task)[-1] for task in run.trainers]
    assert run.lives == lives or min(begun) >= before.committed, run.story()


def _blow(run: Held, cell: Cell, before: Before) -> None:
    if cell.signal == "scancel":
        words = ("scancel", *table.SCANCEL[cell.target], run.job)
        if cell.expected == table.REQUEUED:
            # slurmctld refuses a signal for a job that leaves its nodes, and scancel asks again for a minute (22.05)
            run.member.run("timeout", "5", *words, check=False)
        else:
            run.member.run(*words)
        return
    pid = _victim(cell, before)
    os.kill(pid, signal.Signals[cell.signal])
    if cell.signal == "SIGSTOP":
        run.wait("it is stopped", lambda: is_stopped(pid))
    elif cell.signal == "SIGKILL":
        run.wait("it is gone", lambda: pid not in run.pids().values())


def _victim(cell: Cell, before: Before) -> int:
    pid = before.pids["batch" if cell.target == "batch" else cell.task]
    assert pid, before
    return pid


def _unchanged(run: Held, cell: Cell, before: Before) -> None:
    if cell.signal == "SIGSTOP":
        if cell.target == "batch":  # training does not need it
            run.allow(run.until + 1)
            run.settle()
        else:
            time.sleep(_SECONDS_STOPPED)
        assert is_stopped(_victim(cell, before))
        os.kill(_victim(cell, before), signal.SIGCONT)
    run.allow(run.until + 1)
    run.settle()
    assert run.pids() == before.pids
    assert run.output()[before.said :].count("slurm-tf: ") == 0, run.output()[before.said :]


def _restarted(run: Held, cell: Cell, before: Before) -> None:
    alone = cell.strategy == "ps" and cell.target == "worker"
    how = f"{cell.task} is" if alone else "all tasks are"
    words = rf"{cell.task} on node\d was ended by signal 9 \(SIGKILL\); {how} started again in place"
    run.wait("the coordinator says so", lambda: re.search(words, run.output()[before.said :]))
    run.lives += not alone
    if alone:
        run.wait("it is there again", lambda: run.pid(cell.task))
    run.settle()
    run.allow(run.until + 1)
    run.settle()
    after = run.pids()
    assert after["batch"] == before.pids["batch"]
    changed = {task for task in run.programs if after[task] != before.pids[task]}
    assert changed == ({cell.task} if alone else set(run.programs))
    run.wait("nothing half is left", lambda: not run.unfinished())


def _requeued(run: Held, cell: Cell, before: Before) -> None:
    if cell.phase != "requeue":
        run.let_save()
    run.start_again()
    run.settle()
    row = run.attempts()[-2]
    assert (row["cause"], row["code"]) == ("timeout", 75), row
    assert "timeout: the coordinator got SIGUSR1" in run.output()
    _check_resumed(run, before)


def _cancelled(run: Held, cell: Cell, before: Before) -> None:
    if cell.phase != "requeue":
        run.let_save()
    run.wait_for_state("CANCELLED", "FAILED")
    run.wait("no process is left", lambda: not list(run.processes()))
    row, said = run.attempts()[-1], run.output()[before.said :]
    if cell.phase != "requeue":
        assert (row["cause"], row["code"]) == ("cancel", 143), (row, said)
        assert re.search(r"the job ends: cancel: .* got SIGTERM", said), said
    restarts = int(row["id"].rpartition(".")[2]) + (cell.phase == "requeue")
    run.cancelled[run.job] = time.monotonic(), restarts
    run.submit()
    run.settle()
    _check_resumed(run, before)


def _left(run: Held, _cell: Cell, before: Before) -> None:
    run.let_save()
    run.start_again()
    run.settle()
    assert run.attempts()[-2]["ended"] is None
    assert _left_alone(run) == before.left + 1, run.story()
    _check_resumed(run, before)


def _left_alone(run: Held) -> int:
    words = "the coordinator is gone; job \\d+ waits to be started again"
    return sum(len(re.findall(words, run.log(task))) for task in run.programs)


def _check_resumed(run: Held, before: Before) -> None:
    """All that was done was saved, and is not done again."""
    assert all(run.begun(task)[-1] >= before.done for task in run.trainers), (before, run.story())


def _absent(run: Held, cell: Cell, before: Before) -> None:
    _requeued(run, cell, before)


_COMES: dict[str, Callable[[Held, Cell, Before], None]] = {
    table.UNCHANGED: _unchanged,
    table.RESTARTED: _restarted,
    table.REQUEUED: _requeued,
    table.CANCELLED: _cancelled,
    table.LEFT: _left,
    table.ABSENT: _absent,
}


def node_dies(run: Held, task: str) -> None:
    """Take the node of a task away, as a power cut does; Slurm has its job go on on others."""
    node, committed, said = run.node(task), run.committed(), len(run.output())
    sandbox = run.member.sandbox
    sandbox.stop_node(node)
    try:
        # what slurmctld finds out by itself, after SlurmdTimeout
        sandbox.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=died", user="root")
        run.allow(run.until + 2)
        run.start_again()
        run.settle()
        assert node not in {run.node(each) for each in run.programs}
    finally:
        sandbox.start_node(node)
    assert all(run.begun(each)[-1] >= committed for each in run.trainers), run.output()[said:]
    rows = run.attempts()
    assert [row["id"].partition(".")[0] for row in rows[-2:]] == [run.job] * 2, rows
    run.wait(
        f"{node} is back",
        lambda: "IDLE" in sandbox.run("scontrol", "show", "node", node, user="root").stdout.partition("State=")[2][:20],
    )
