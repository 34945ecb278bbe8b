"""An interrupted training is saved, ends, and continues with the same bits."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.run import checkpoint_folder, program_messages
from slurm_tf.run.program_messages import CheckpointCommitted, ExitRequest, Listening, Saved, SaveRequest
from slurm_tf.run.train_settings import TrainSettings, to_variable
from tests.conftest import ROOT
from tests.train.fake_agent import Program, start

pytestmark = pytest.mark.tensorflow

EXACT = str(ROOT / "tests/programs/exact.py")


class Trainings:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Program] = []

    def start(self, how: str, pause: float = 0.0, tasks: int = 1, **environ: str) -> list[Program]:
        programs = start(self.folder, [EXACT, how, str(pause)], tasks, **environ)
        self.all += programs
        return programs

    def whole(self, how: str, tasks: int = 1) -> list[str]:
        """Train to the end; return a digest of the bits that each task has then."""
        programs = self.start(how, tasks=tasks)
        for each in programs:
            assert each.process.wait(300) == 0, each.text
        return [each.wait_for(r"\bbits (\w+)")[1] for each in programs]


@pytest.fixture
def trainings(tmp_path: Path) -> Iterator[Any]:
    made: list[Trainings] = []

    def make(name: str) -> Trainings:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Trainings(folder))
        return made[-1]

    yield make
    for each in made:
        for program in each.all:
            program.end()


def interrupt(programs: list[Program]) -> Saved:
    """Interrupt all programs, as a coordinator does; return the first one's answer when all have exited."""
    for each in programs:
        each.send(SaveRequest("preemption"))
    saved = programs[0].wait_for_message(Saved)
    for each in programs:
        each.send(ExitRequest(75))
    for each in programs:
        assert each.process.wait(30) == 75, each.text
    return saved


@pytest.mark.parametrize(
    ("how", "tasks"),
    [
        ("loop", 1),
        ("fit pipeline", 1),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                ("fit", 1),
                ("fit", 2),
                ("loop", 2),
                ("loop pipeline", 1),
                ("loop pipeline", 2),
                ("fit pipeline", 2),
            )
        ),
    ],
)
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(trainings: Any, how: str, tasks: int) -> None:
    expected = trainings("whole").whole(how, tasks)
    interrupted = trainings("interrupted")
    for at in (3, 13):
        programs = interrupted.start(how, pause=0.2, tasks=tasks)
        programs[0].wait_for(rf"\bstep {at}$")
        saved = interrupt(programs)
        assert saved.error is None
        assert at <= saved.step <= at + 3
        assert next(checkpoint_folder.complete(str(interrupted.folder / "checkpoints"))).step == saved.step
    assert interrupted.whole(how, tasks) == expected


@pytest.mark.long
def test_a_killed_run_goes_on_at_the_sample_of_its_own_pipeline(trainings: Any) -> None:
    expected = trainings("whole").whole("loop pipeline", 2)
    killed = trainings("killed")
    settings = to_variable(TrainSettings(checkpoint_every_steps=5, checkpoint_keep=9))
    for at in (9, 15):
        programs = killed.start("loop pipeline", pause=0.2, tasks=2, SLURM_TF_TRAIN=settings)
        programs[0].wait_for(rf"\bstep {at}$")
        for each in programs:
            each.process.kill()
            each.process.wait(30)
    programs = killed.start("loop pipeline", tasks=2)
    for each in programs:
        assert each.process.wait(300) == 0, each.text
    assert int(programs[0].wait_for(r"resumed at step (\d+)")[1]) >= 10
    assert "starts anew" not in programs[0].text
    assert [each.wait_for(r"\bbits (\w+)")[1] for each in programs] == expected


@pytest.mark.long
def test_another_number_of_tasks_starts_its_own_pipelines_anew(trainings: Any) -> None:
    training = trainings("r")
    programs = training.start("loop pipeline", pause=0.2, tasks=2)
    programs[0].wait_for(r"\bstep 3$")
    step = interrupt(programs).step
    (program,) = training.start("loop pipeline")
    assert program.process.wait(300) == 0, program.text
    assert f"resumed at step {step} " in program.text
    assert "has no position in the data" in program.text


@pytest.mark.long  # an interrupted run, above, saves within training as well
def test_saves_within_training_do_not_change_its_bits(trainings: Any) -> None:
    expected = trainings("whole").whole("fit", 2)
    saving = trainings("saving")
    settings = to_variable(TrainSettings(checkpoint_every_steps=5, checkpoint_keep=9))
    programs = saving.start("fit", tasks=2, SLURM_TF_TRAIN=settings)
    for each in programs:
        assert each.process.wait(300) == 0, each.text
    assert [each.wait_for(r"\bbits (\w+)")[1] for each in programs] == expected
    # due after 5 steps, and saved one step later, where all tasks come together
    steps = [each.step for each in checkpoint_folder.complete(str(saving.folder / "checkpoints"))]
    assert steps == [24, 21, 16, 11, 6]
    assert [message.step for message in programs[0].messages(CheckpointCommitted)] == steps[::-1]


def test_an_interruption_before_the_first_step_is_answered_at_once(trainings: Any) -> None:
    training = trainings("r")
    (program,) = training.start("fit compile")
    program.wait_for("compiling")
    before = time.monotonic()
    assert interrupt([program]) == Saved(0, None)
    assert time.monotonic() - before < 30  # the step would take a minute
    assert Listening(is_writer=True) in program.sent


@pytest.mark.parametrize("how", ["fit evaluate", pytest.param("loop evaluate", marks=pytest.mark.long)])
def test_an_interruption_does_not_wait_for_an_evaluation(trainings: Any, how: str) -> None:
    expected = trainings("whole").whole(how.split(maxsplit=1)[0])
    training = trainings("r")
    (program,) = training.start(how)
    program.wait_for("evaluating")
    saved = interrupt([program])
    assert saved == Saved(6 if "fit" in how else 10, None)
    assert training.whole(how.split(maxsplit=1)[0]) == expected


@pytest.mark.long
def test_signals_that_reach_the_program_itself_change_nothing(trainings: Any) -> None:
    training = trainings("r")
    programs = training.start("fit", pause=0.1, tasks=2)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        programs[0].wait_for(r"^step \d+")
        for each in programs:
            os.kill(each.process.pid, number)
    # except SIGQUIT, by which the agent has the program print its stacks
    os.kill(programs[0].process.pid, signal.SIGQUIT)
    programs[0].wait_for(r"most recent call first")
    for each in programs:
        assert each.process.wait(60) == 0, each.text
    assert programs[0].messages(Saved) == []


@pytest.mark.parametrize("is_due", [True, False])
def test_an_interruption_just_after_the_check_at_the_end_of_a_step(is_due: bool, tmp_path: Path) -> None:
    import tensorflow as tf

    from slurm_tf.train.agent_connection import AgentConnection
    from slurm_tf.train.checkpoint.checkpoints import Checkpoints
    from slurm_tf.train.checkpoint.step_boundary import StepBoundary
    from slurm_tf.train.collectives import allreduce

    class Late(Checkpoints):
        def due(self, step: int) -> bool:
            boundary.interrupt("preemption")
            return is_due and super().due(step)

    agent, program = socket.socketpair()
    with agent, program, agent.makefile() as lines:
        boundary = StepBoundary(
            AgentConnection(program.fileno()), is_writer=True, in_lockstep=True, saves_in_pauses=True
        )
        checkpoints = Late(str(tmp_path), keep=2, every_steps=1)
        boundary.track(0, allreduce.SingleTaskCollective(), checkpoints, tf.train.Checkpoint(v=tf.Variable(1.0)), ())
        boundary.after_step(1)
        program.shutdown(socket.SHUT_WR)
        messages = [program_messages.decode_from_program(line) for line in lines]
    saved = [message for message in messages if isinstance(message, Saved)]
    # otherwise it is saved after the next step, where all tasks come together
    assert saved == ([Saved(1, None)] if is_due else [])
    assert [each.step for each in checkpoint_folder.complete(str(tmp_path))] == ([1] if is_due else [])
    assert boundary.is_interrupted


def test_two_interruptions_are_answered_once(trainings: Any) -> None:
    (program,) = trainings("r").start("loop", pause=0.2)
    program.wait_for(r"\bstep 3$")
    program.send(SaveRequest("preemption"))
    program.send(SaveRequest("timeout"))
    interrupt([program])
    assert len(program.messages(Saved)) == 1
    assert "preemption: all of step" in program.text


def test_another_number_of_workers_continues_at_the_same_step_and_sample(trainings: Any) -> None:
    training = trainings("r")
    programs = training.start("fit", pause=0.2, tasks=2)
    programs[0].wait_for(r"\bstep 8$")
    saved = interrupt(programs)
    (program,) = training.start("fit")
    assert program.process.wait(120) == 0, program.text
    assert int(program.wait_for(r"^step (\d+)$")[1]) == saved.step + 1
