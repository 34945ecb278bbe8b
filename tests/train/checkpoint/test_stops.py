"""A step boundary whose agent, checkpoints and workers are fakes."""

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from slurm_tf.errors import FencedError
from slurm_tf.run.program_messages import Phase, PhaseEntered, ProgramMessage, Saved

pytestmark = pytest.mark.tensorflow


class Agent:
    """An agent whose requests fail: the other tasks are gone. `sent`: the answers to interruptions."""

    def __init__(self) -> None:
        self.sent: list[ProgramMessage] = []

    def send(self, message: ProgramMessage) -> None:
        self.sent += [message] if isinstance(message, Saved) else []

    def request(self, _role: str, _message: object) -> dict[str, str]:
        return {"worker:1": "the task ended"}

    def is_exit_requested(self) -> bool:
        return False

    def wait_and_exit(self) -> NoReturn:
        raise SystemExit(75)


class RecordedSaves:
    """Checkpoints that record the step and the extra files of each save."""

    def __init__(self) -> None:
        self.saves: list[tuple[int, dict[str, bytes]]] = []

    def save(self, _checkpoint: object, step: int, extras: dict[str, bytes]) -> None:
        self.saves.append((step, extras))

    def due(self, _step: int) -> bool:
        return False

    def wait(self) -> None:
        pass


def tracking(agent: Agent, checkpoints: RecordedSaves, in_lockstep: bool, local_variables: list[object]) -> Any:
    from slurm_tf.train.checkpoint.step_boundary import StepBoundary

    boundary: Any = StepBoundary(agent, True, in_lockstep, saves_in_pauses=in_lockstep)  # type: ignore[arg-type]
    boundary.track(0, None, checkpoints, object(), local_variables)
    return boundary


def test_local_state_of_an_earlier_pause_is_not_saved_with_a_later_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.train.checkpoint import local_state

    monkeypatch.setattr(local_state, "gather", lambda *_: b"of step 1")
    agent, checkpoints = Agent(), RecordedSaves()
    boundary = tracking(agent, checkpoints, True, [object()])
    boundary.after_step(1)
    with boundary.pause():
        pass
    boundary.interrupt("preemption")
    with pytest.raises(SystemExit):
        boundary.after_step(2)
    assert checkpoints.saves == [(2, {})]
    assert agent.sent == [Saved(2, None)]


class Silent(Agent):
    """An agent that does not answer requests."""

    def request(self, _role: str, _message: object) -> dict[str, str]:
        raise TimeoutError("no answer")


def test_training_is_saved_although_the_agent_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from slurm_tf.train.checkpoint import local_state

    monkeypatch.setattr(local_state, "gather", lambda *_: b"")
    agent, checkpoints = Silent(), RecordedSaves()
    boundary = tracking(agent, checkpoints, True, [object()])
    boundary.after_step(1)
    boundary.interrupt("preemption")
    with pytest.raises(SystemExit):
        boundary.after_step(2)
    assert checkpoints.saves == [(2, {})]


class Fenced(RecordedSaves):
    """Checkpoints of an attempt that has lost the lease."""

    def save(self, *_: object) -> None:
        raise FencedError("another attempt has taken over")


def test_a_fenced_writer_answers_an_interruption_in_a_pause_with_the_error() -> None:
    agent = Agent()
    boundary = tracking(agent, Fenced(), True, [])
    boundary.after_step(1)
    with boundary.pause():
        boundary.interrupt("preemption")
    assert agent.sent == [Saved(0, "another attempt has taken over")]


class PhaseRecorder(Agent):
    """An agent that records the phases."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[Phase] = []

    def send(self, message: ProgramMessage) -> None:
        self.phases += [message.phase] if isinstance(message, PhaseEntered) else []


def test_after_an_evaluation_the_phase_is_that_of_before() -> None:
    agent = PhaseRecorder()
    boundary = tracking(agent, RecordedSaves(), True, [])
    boundary.after_step(1)
    with boundary.pause():
        pass
    assert agent.phases == [Phase.TRAIN, Phase.EVALUATE, Phase.TRAIN]
    boundary.after_step(2, last=True)
    with boundary.pause():
        pass
    assert agent.phases[3:] == [Phase.DONE, Phase.EVALUATE, Phase.DONE]


def test_after_an_evaluation_without_training_no_time_limit_counts() -> None:
    agent = PhaseRecorder()
    boundary = tracking(agent, RecordedSaves(), True, [])
    with boundary.pause():
        pass
    assert agent.phases == [Phase.EVALUATE, Phase.DONE]


def test_steps_that_workers_have_done_are_saved_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.train import training_loop

    monkeypatch.setattr(training_loop, "tf", SimpleNamespace(function=lambda step: step))
    agent, checkpoints = Agent(), RecordedSaves()
    boundary = tracking(agent, checkpoints, False, [])

    class Coordinator:
        scheduled = 0

        def schedule(self, *_: object, **__: object) -> Any:
            self.scheduled += 1
            if self.scheduled == 10:
                boundary.interrupt("preemption")
                assert agent.sent == []
            return SimpleNamespace(fetch=lambda: {"loss": 0.0})

        def join(self) -> None:
            pass

    loop = training_loop.ParameterServerLoop(dict, None, Coordinator(), 1, boundary)
    with pytest.raises(SystemExit):
        loop.run(0, 100, 200)
    assert checkpoints.saves == [(10, {})]
    assert agent.sent == [Saved(10, None)]


def test_frozen_weights_are_equal_in_all_tasks_and_not_gathered() -> None:
    import keras

    from slurm_tf.train.checkpoint import local_state

    base = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    )
    base.trainable = False
    model = keras.Sequential([keras.Input((4,)), base, keras.layers.Dense(1)])
    names = sorted(variable.path.rpartition("/")[2] for variable in local_state.variables([model], 2))
    assert names == ["moving_mean", "moving_variance", "seed_generator_state"]
    assert [variable.path.rpartition("/")[2] for variable in local_state.variables([model], 1)] == [
        "seed_generator_state"
    ]
