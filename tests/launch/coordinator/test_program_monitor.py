"""What programs tell of their training, and who uses it."""

from pathlib import Path

import pytest

from slurm_tf.launch.coordinator.program_monitor import ProgramMonitor
from slurm_tf.launch.coordinator.progress_monitor import ProgressMonitor
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.run.attempts import AttemptRecorder
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.program_messages import (
    FROM_PROGRAM,
    CheckpointCommitted,
    Listening,
    Phase,
    PhaseEntered,
    ProgramMessage,
    Request,
    RequestAnswer,
    Saved,
    StepReached,
)
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import DEFAULTS, StartJob


class Monitored:
    """A monitor of one task's program, which has a recorder unless it is a preflight's."""

    def __init__(self, folder: Path, is_recorded: bool = True) -> None:
        run = RunFolder(str(folder))
        self.termination = Termination(DEFAULTS)
        self.termination.started("worker:0")
        self.recorder = AttemptRecorder(run, "7.0", "7", print)
        progress = ProgressMonitor(
            run, DEFAULTS.watch, Exclusion(JobContext(run.submission(1), None, {}), print), print
        )
        status = StatusWriter(run, "r", ["worker:0"], {}, print)
        self.monitor = ProgramMonitor(self.termination, progress, status, self.recorder if is_recorded else None)

    def tell(self, *messages: ProgramMessage) -> None:
        for each in messages:
            self.monitor.handle("worker:0", each)


def test_each_message_of_a_program_has_a_handler(tmp_path: Path) -> None:
    # requests and their answers go to the relay
    handled = {*Monitored(tmp_path).monitor._handlers, Request, RequestAnswer}
    assert handled == set(FROM_PROGRAM.values())


@pytest.mark.parametrize(
    ("message", "trains"),
    [
        (PhaseEntered(Phase.COMPILE), False),
        (PhaseEntered(Phase.EVALUATE), False),
        (PhaseEntered(Phase.DONE), False),
        (PhaseEntered(Phase.TRAIN), True),
        (StepReached(1), True),
    ],
)
def test_training_begins_with_the_first_step(message: ProgramMessage, trains: bool, tmp_path: Path) -> None:
    monitored = Monitored(tmp_path)
    monitored.tell(message)
    assert (monitored.recorder.attempt.began is not None) == trains


@pytest.mark.parametrize("is_writer", [True, False])
def test_the_writer_tells_of_checkpoints(is_writer: bool, tmp_path: Path) -> None:
    monitored = Monitored(tmp_path)
    monitored.tell(Listening(is_writer))
    assert monitored.termination.listeners == ["worker:0"]
    assert monitored.recorder.speaks == is_writer


def test_checkpoints_are_recorded_and_a_save_that_failed_is_noted(tmp_path: Path) -> None:
    monitored = Monitored(tmp_path)
    monitored.tell(CheckpointCommitted(5), CheckpointCommitted(9), Saved(9, "disk full"))
    assert (monitored.recorder.attempt.first, monitored.recorder.attempt.last) == (5, 9)
    assert monitored.termination.notes == ["worker:0 could not save: disk full"]


def test_a_preflight_has_no_record(tmp_path: Path) -> None:
    monitored = Monitored(tmp_path, is_recorded=False)
    monitored.tell(Listening(True), PhaseEntered(Phase.TRAIN), StepReached(1), CheckpointCommitted(1))
    assert (monitored.recorder.attempt.began, monitored.recorder.attempt.last) == (None, None)


def test_lines_that_are_no_messages_change_nothing(start_job: StartJob) -> None:
    lines = [
        "up", "[1]", '{"type": "Save"}', '{"type": "StepReached", "step": "1"}',
        f'{{"type": "StepTime", "seconds": 1{"0" * 400}}}',
    ]  # fmt: skip
    job = start_job(
        f"printf '%s\\n' {' '.join(repr(line) for line in lines)} >&$SLURM_TF_CONTROL_FD; sleep 1; echo ends",
        strategy="single", roles=(RoleSettings("worker", 1),),
    )  # fmt: skip
    assert job.wait() == 0, job.text
    assert job.lines("worker:0") == ["ends"]
    assert "Error" not in job.text
