"""The phases of a training, each entered with evidence that it is the one."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from slurm_tf.run import checkpoint_folder
from tests.faults.held import EVALUATES_EACH, SAVES_EACH, Held, daemon, is_stopped, slowed


def restart(run: Held) -> None:
    """Have all programs start again in place."""
    pid = run.pid(run.programs[-1])
    assert pid, run.story()
    os.kill(pid, signal.SIGKILL)
    run.lives += 1


@contextlib.contextmanager
def compiling(run: Held) -> Iterator[None]:
    """All trace their first step."""
    run.hold("compile")
    restart(run)
    if run.strategy == "ps":  # its chief has its first step run only when that is allowed
        run.allow(run.until + 1)
    run.wait("all compile", lambda: run.has_said(r"compile \d+"))
    assert not any("\nstep" in run.life(task).partition("\ncompile")[2] for task in run.trainers)
    yield
    run.release("compile")


@contextlib.contextmanager
def stepping(run: Held) -> Iterator[None]:
    """All are within a step."""
    run.settle()
    if run.strategy == "ps":
        run.hold("step")
        run.forget_step()
        run.allow(run.until + 1)
        run.wait("a worker is in its step", lambda: run.is_in_step)
    assert run.is_idle() or run.strategy == "ps"
    yield
    run.release("step")


@contextlib.contextmanager
def saving(run: Held) -> Iterator[None]:
    """The writer has TensorFlow's files in a folder aside, and flushes the first of them."""
    with _slow_save(run, 1, run.unfinished) as old:
        assert run.unfinished()
        assert run.pointer() == run.committed() == old
        yield
        assert run.pointer() == run.committed() == old


@contextlib.contextmanager
def renaming(run: Held) -> Iterator[None]:
    """The writer has given a checkpoint its name, and flushes the folder that the name is in before it goes on."""
    if not run.committed():
        run.allow(run.until + SAVES_EACH)
        run.wait("a checkpoint", run.committed)
    files = len(next(checkpoint_folder.complete(str(run.checkpoints))).manifest["files"])
    # the files, their folder, the manifest, the folder again: TensorFlow flushes nothing, but renames in its threads
    with _slow_save(run, files + 4, lambda: run.committed() > run.pointer()) as old:
        new = run.committed()
        assert new > run.pointer() == old
        yield
        assert (run.committed(), run.pointer()) == (new, old)


@contextlib.contextmanager
def _slow_save(run: Held, nth: int, is_there: Callable[[], object]) -> Iterator[int]:
    run.settle()
    if run.pointer() < run.committed():  # its writer was killed before it said so: the next one does
        run.allow(run.until + SAVES_EACH)
        run.settle()
    # with its first report a program removes from progress.jsonl what is done again, and flushes that file as well
    while not run.has_said(r"evaluate \d+"):
        run.allow(run.until + 1)
        run.settle()
    run.wait("the last checkpoint is on storage", lambda: run.pointer() >= run.until - run.until % SAVES_EACH)
    old, writer = run.pointer(), run.pid(run.trainers[0])
    assert writer
    with slowed(writer, "fsync", nth):
        run.allow(run.until + SAVES_EACH - run.until % SAVES_EACH)
        run.wait(f"fsync {nth} of a save", is_there)
        run.settle()
        yield old


@contextlib.contextmanager
def evaluating(run: Held) -> Iterator[None]:
    """All are between two yields of `run.loop`."""
    run.settle()
    run.hold("evaluate")
    run.allow(run.until + EVALUATES_EACH - run.until % EVALUATES_EACH)
    run.wait("all evaluate", lambda: run.has_said(f"evaluate {run.until}"))
    assert not run.is_idle()
    yield
    run.release("evaluate")


@contextlib.contextmanager
def requeueing(run: Held) -> Iterator[None]:
    """The job is put back into the queue, and its batch script waits for its end, which a stopped slurmd delays."""
    run.settle()
    coordinator = run.coordinator()
    slurmd = daemon(run.member.sandbox, run.batch_host, "slurmd")
    said = len(run.output())
    os.kill(slurmd, signal.SIGSTOP)
    try:
        run.wait("slurmd is stopped", lambda: is_stopped(slurmd))
        assert coordinator
        os.kill(coordinator, signal.SIGUSR1)
        run.let_save()
        run.wait("requeued", lambda: f"job {run.job} waits to be started again" in run.output()[said:])
        assert run.coordinator() == coordinator
        yield
    finally:
        os.kill(slurmd, signal.SIGCONT)


ENTER = {
    "compile": compiling,
    "step": stepping,
    "save": saving,
    "evaluate": evaluating,
    "rename": renaming,
    "requeue": requeueing,
}
