"""Programs that make no progress: found by what they do, shown where they stand, killed."""

import sys

import pytest

from slurm_tf.launch.decide.hangs import HangAction, HangDetector
from slurm_tf.run.program_messages import Phase
from slurm_tf.run.settings import RoleSettings, WatchSettings
from tests.launch.conftest import StartJob

LIMITS = WatchSettings(step=10, compile=100, evaluate=1000, output=0)


def watch(limits: WatchSettings = LIMITS) -> HangDetector:
    watchdog = HangDetector(limits)
    watchdog.started("worker:0", 0)
    return watchdog


@pytest.mark.parametrize(("phase", "limit"), [(Phase.COMPILE, 100), (Phase.TRAIN, 10), (Phase.EVALUATE, 1000)])
def test_each_phase_has_its_own_time_limit(phase: Phase, limit: float) -> None:
    watchdog = watch()
    watchdog.phase_entered("worker:0", phase, 50)
    assert watchdog.wakes_at == 50 + limit
    assert watchdog.due(50 + limit - 1) == []
    assert watchdog.due(50 + limit) == [("worker:0", HangAction.DUMP)]
    assert watchdog.notes == [f"worker:0 makes no progress for {limit} s in phase {phase.value}: it is killed"]
    assert watchdog.due(50 + limit + 4) == []
    assert watchdog.due(50 + limit + 5) == [("worker:0", HangAction.KILL)]
    # once
    assert watchdog.due(10_000) == []
    assert watchdog.wakes_at is None


def test_a_step_is_progress_and_the_end_of_training_is_not_watched() -> None:
    watchdog = watch()
    watchdog.phase_entered("worker:0", Phase.TRAIN, 0)
    for now in range(5, 50, 5):
        watchdog.step_reached("worker:0", now, now)
        assert watchdog.due(now + 4) == []
    assert watchdog.due(55) == [("worker:0", HangAction.DUMP)]
    assert "after step 45" in watchdog.notes[0]
    watchdog = watch()
    watchdog.phase_entered("worker:0", Phase.DONE, 0)
    assert watchdog.wakes_at is None
    assert watchdog.due(10_000) == []


def test_a_job_that_was_suspended_is_not_hung() -> None:
    watchdog = watch()
    watchdog.phase_entered("worker:0", Phase.TRAIN, 5)
    watchdog.suspended(3600)
    assert watchdog.due(3600 + 14) == []
    assert watchdog.due(3600 + 15) == [("worker:0", HangAction.DUMP)]
    watchdog.suspended(100)
    assert watchdog.due(3600 + 20) == []
    assert watchdog.due(3700 + 20) == [("worker:0", HangAction.KILL)]


def test_a_task_whose_program_does_not_run_is_not_watched() -> None:
    watchdog = watch()
    watchdog.phase_entered("worker:1", Phase.TRAIN, 0)
    watchdog.step_reached("worker:1", 1, 1)
    watchdog.printed("worker:1", 1)
    assert watchdog.wakes_at is None
    assert watchdog.due(10_000) == []


def test_who_says_nothing_is_watched_by_its_output_alone_where_that_is_asked_for() -> None:
    assert watch().wakes_at is None
    watchdog = watch(WatchSettings(output=10))
    assert watchdog.due(9) == []
    watchdog.printed("worker:0", 9)
    assert watchdog.due(18) == []
    # its stacks are not asked for: the signal would end it
    assert watchdog.due(19) == []
    assert watchdog.notes == ["worker:0 makes no progress for 10 s and has printed and saved nothing: it is killed"]
    assert watchdog.due(24) == [("worker:0", HangAction.KILL)]
    # who has spoken is watched by its words
    watchdog = watch(WatchSettings(output=10, step=100))
    watchdog.phase_entered("worker:0", Phase.TRAIN, 0)
    watchdog.printed("worker:0", 50)
    assert watchdog.due(100) == [("worker:0", HangAction.DUMP)]


def test_who_says_nothing_makes_progress_where_checkpoints_change() -> None:
    newest, looks = [7], list[int]()

    def look() -> int:
        looks.append(newest[0])
        return newest[0]

    watchdog = HangDetector(WatchSettings(output=10, step=100), look)
    for name in ("worker:0", "worker:1", "worker:2"):
        watchdog.started(name, 0)
    watchdog.phase_entered("worker:2", Phase.TRAIN, 0)
    newest[0] = 8
    assert watchdog.due(10) == []
    assert (watchdog.notes, watchdog.wakes_at) == ([], 20)
    # a file may be removed as well
    newest[0] = 6
    watchdog.due(20)
    assert (watchdog.notes, watchdog.wakes_at) == ([], 30)
    watchdog.due(30)
    assert [note.split()[0] for note in watchdog.notes] == ["worker:0", "worker:1"]
    # once at the start, then once each time that somebody seems to hang
    assert looks == [7, 8, 6, 6]
    newest[0] = 9
    watchdog.step_reached("worker:2", 1, 31)
    # who was said to hang does, and who speaks is watched by its words
    assert watchdog.due(131) == [
        ("worker:0", HangAction.KILL),
        ("worker:1", HangAction.KILL),
        ("worker:2", HangAction.DUMP),
    ]


def killed(watchdog: HangDetector, now: float) -> list[str]:
    """Return who has hung alone, at a time when it is killed."""
    watchdog.due(now)
    watchdog.due(now + 5)
    return watchdog.alone


def test_who_hangs_while_others_go_on_hangs_alone() -> None:
    watchdog = watch()
    watchdog.started("worker:1", 0)
    for name in ("worker:0", "worker:1"):
        watchdog.phase_entered(name, Phase.TRAIN, 0)
    watchdog.step_reached("worker:1", 1, 11)
    assert killed(watchdog, 15) == ["worker:0"]


@pytest.mark.parametrize("last", [0, 5, 10])
def test_where_tasks_wait_for_each_other_nobody_hangs_alone(last: float) -> None:
    watchdog = watch()
    watchdog.started("worker:1", 0)
    for name, now in (("worker:0", 0), ("worker:1", last)):
        watchdog.phase_entered(name, Phase.TRAIN, now)
    assert killed(watchdog, 25) == []
    # of one that never says anything nobody knows
    watchdog = watch()
    watchdog.started("ps:0", 0)
    watchdog.phase_entered("worker:0", Phase.TRAIN, 0)
    assert killed(watchdog, 25) == []


def test_an_evaluator_hangs_alone_and_is_nobodys_witness() -> None:
    watchdog = watch()
    watchdog.started("evaluator:0", 0)
    watchdog.phase_entered("worker:0", Phase.TRAIN, 0)
    assert killed(watchdog, 25) == ["worker:0"]
    watchdog = watch()
    watchdog.started("evaluator:0", 0)
    watchdog.phase_entered("evaluator:0", Phase.TRAIN, 0)
    assert killed(watchdog, 25) == ["evaluator:0"]


def test_an_ended_program_is_forgotten() -> None:
    watchdog = watch()
    watchdog.phase_entered("worker:0", Phase.TRAIN, 0)
    watchdog.ended("worker:0")
    assert watchdog.wakes_at is None
    assert watchdog.due(1000) == []


HANGS = """exec {python} -c '
import faulthandler, json, os, signal, socket, time
faulthandler.register(signal.SIGQUIT, all_threads=True)
line = socket.socket(fileno=int(os.environ["SLURM_TF_CONTROL_FD"]))
for message in {{"type": "Listening", "is_writer": True}}, {{"type": "PhaseEntered", "phase": "train"}}:
    line.sendall(json.dumps(message).encode() + b"\\n")
print("up", flush=True)
def stands_here():
    time.sleep(1000)
if os.environ["SLURM_TF_RESTARTS"] == "0":
    stands_here()
'"""


@pytest.mark.slow
def test_a_hung_program_prints_its_stacks_and_starts_again(start_job: StartJob) -> None:
    job = start_job(
        HANGS.format(python=sys.executable), strategy="single", roles=(RoleSettings("worker", 1),), max_restarts=1,
        watch=WatchSettings(step=1),
    )  # fmt: skip
    assert job.wait(40) == 0, job.text
    assert "worker:0 makes no progress for 1 s in phase train: it is killed" in job.text
    assert any("in stands_here" in line for line in job.lines("worker:0")), job.text
    assert job.lines("worker:0").count("up") == 2


@pytest.mark.slow
def test_a_program_that_prints_nothing_for_too_long_is_killed(start_job: StartJob) -> None:
    job = start_job(
        "for i in 1 2 3 4; do echo up; sleep 1; done; sleep 1000", strategy="single",
        roles=(RoleSettings("worker", 1),), watch=WatchSettings(output=8),
    )  # fmt: skip
    assert job.wait(60) == 137, job.text
    assert job.lines("worker:0") == ["up"] * 4
    assert "worker:0 makes no progress for 8 s and has printed and saved nothing: it is killed" in job.text


@pytest.mark.slow
def test_a_program_that_only_saves_is_not_hung(start_job: StartJob) -> None:
    job = start_job(
        'for i in 1 2 3 4 5 6; do sleep 1; mkdir -p "$SLURM_TF_CHECKPOINT_FOLDER/new"; '
        'echo $i > "$SLURM_TF_CHECKPOINT_FOLDER/new/ckpt-1"; done; echo saved; exec sleep 1000',
        strategy="single", roles=(RoleSettings("worker", 1),), watch=WatchSettings(output=3),
    )  # fmt: skip
    assert job.wait(60) == 137, job.text
    assert job.lines("worker:0") == ["saved"]
