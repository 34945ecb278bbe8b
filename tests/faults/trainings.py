"""Trainings that go from one fault to the next, and what must be true of them all the time, and at their end."""

import re
import threading
import time
from pathlib import Path

from slurm_tf.run import checkpoint_folder
from tests.cluster.group import Member
from tests.faults import held
from tests.faults.held import Held
from tests.faults.strike import strike
from tests.faults.table import Cell

# Slurm starts a job that was put back after 121 s (22.05).
GONE_SECONDS = 180.0


class Watcher:
    """Looks at a run's checkpoints all the time: what has its name is whole, and `latest` names one that is."""

    def __init__(self, run: Held) -> None:
        self.problems: list[str] = []
        self._run = run
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        folder = self._run.checkpoints
        while not self._ended.wait(0.02):
            if not folder.exists():
                continue
            torn = {path: why for _, path, why in checkpoint_folder.listed(str(folder)) if isinstance(why, str)}
            # pruned in between
            self.problems += [f"{path}: {why}" for path, why in torn.items() if Path(path).exists()]
            if (folder / checkpoint_folder.POINTER).exists():
                named = (folder / checkpoint_folder.POINTER).read_text()
                if not (folder / named.strip() / checkpoint_folder.MANIFEST).exists():
                    after = (folder / checkpoint_folder.POINTER).read_text()
                    self.problems += [f"latest names {named!r}, which is not there"] if after == named else []


class Trainings:
    """One training of each strategy."""

    def __init__(self, member: Member, steps: int, tables: str = "", words: tuple[str, ...] = ()) -> None:
        """`steps`: of each training; `tables`: more for their job files; `words`: more for their submissions."""
        self._member, self._steps, self._tables, self._words = member, steps, tables, words
        self._runs: dict[str, Held] = {}
        self._watchers: dict[str, Watcher] = {}
        self._whole: dict[str, set[str]] = {}
        self._all: list[Held] = []

    def strike(self, cell: Cell) -> None:
        """Have a fault happen to the training of its strategy."""
        run = self.run(cell.strategy)
        try:
            strike(run, cell)
            self._check_watched(cell.strategy)
        except BaseException:
            # the next fault is to have a sound one
            self._drop(cell.strategy)
            raise

    def run(self, strategy: str) -> Held:
        """Return the training of a strategy, which waits in a step."""
        if strategy not in self._runs:
            run = self.make(strategy)
            run.submit()
            self.take(run)
        self._runs[strategy].settle()
        return self._runs[strategy]

    def take(self, run: Held) -> None:
        """Have a run be the training of its strategy."""
        self._runs[run.strategy], self._watchers[run.strategy] = run, Watcher(run)

    def check(self, strategy: str) -> None:
        """Let the training end; it ends as one that was left alone."""
        run = self.run(strategy)
        bits = run.finish()
        self._check_watched(strategy)
        self._drop(strategy)
        if strategy != "ps":
            assert bits == self.whole(strategy), run.story()

    def check_cancelled(self) -> None:
        """Show that what was cancelled is gone, and stays so."""
        cancelled = {job: each for run in self._all for job, each in run.cancelled.items()}
        assert cancelled
        for job, (when, restarts) in cancelled.items():
            time.sleep(max(0.0, when + GONE_SECONDS - time.monotonic()))
            shown = self._member.run("scontrol", "--oneliner", "show", "job", job, check=False)
            # slurmctld forgets jobs five minutes after their end
            assert not shown or re.search(rf" JobState=(CANCELLED|FAILED) .* Restarts={restarts} ", shown), shown
            states = self._member.sacct(job)
            # of one that was cancelled while it waited, slurmdbd (22.05.8) keeps how it had ended before
            assert states[0].partition(" ")[0] in ("CANCELLED", "FAILED", "REQUEUED"), (job, states)

    def check_gone(self) -> None:
        """Show that no process of any run is left, also none that Slurm has lost; those that go on are ended first."""
        self.end()
        for run in self._all:
            run.wait_until_gone()

    def whole(self, strategy: str) -> set[str]:
        """Return the bits of a training that is left alone."""
        if strategy not in self._whole:
            self._whole[strategy] = held.alone(strategy, self._steps)
            assert len(self._whole[strategy]) == 1
        return self._whole[strategy]

    def make(self, strategy: str, tables: str = "", program: tuple[str, ...] = ()) -> Held:
        """Return a new run, which nobody watches, and which is not submitted yet."""
        name, tables = f"held-{len(self._all) + 1}", f"{self._tables}{tables}"
        self._all.append(Held(self._member, name, strategy, self._steps, tables, program, self._words))
        return self._all[-1]

    def end(self) -> None:
        """Cancel what is left."""
        for strategy in list(self._runs):
            self._drop(strategy)
        self._member.run("scancel", f"--user={self._member.user}", check=False)

    def _check_watched(self, strategy: str) -> None:
        problems = self._watchers[strategy].problems
        assert not problems, "\n".join(problems)

    def _drop(self, strategy: str) -> None:
        run = self._runs.pop(strategy)
        self._watchers.pop(strategy).end()
        self._member.run("scancel", "--signal=KILL", "--full", run.job, check=False)
        self._member.run("scancel", run.job, check=False)
