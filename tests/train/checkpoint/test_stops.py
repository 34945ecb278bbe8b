"""Where training stops: a boundary whose agent, checkpoints and workers are the test's own."""

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from slurm_tf.errors import FencedError

pytestmark = pytest.mark.tensorflow


class Agent:
    """Passes nothing on: the others are gone."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.said += [message] if "saved" in message else []

    def request(self, _role: str, _message: object) -> dict[str, str]:
        return {"worker:1": "the task ended"}

    def is_told_to_exit(self) -> bool:
        return False

    def wait_and_exit(self) -> NoReturn:
        raise SystemExit(75)


class Kept:
    """Keeps the step and the extra files of each checkpoint."""

    def __init__(self) -> None:
        self.saves: list[tuple[int, dict[str, bytes]]] = []

    def save(self, _checkpoint: object, step: int, extras: dict[str, bytes]) -> None:
        self.saves.append((step, extras))

    def due(self, _step: int) -> bool:
        return False

    def wait(self) -> None:
        pass


def begun(agent: Agent, kept: Kept, in_lockstep: bool, local_variables: list[object]) -> Any:
    from slurm_tf.train.checkpoint.step_boundary import StepBoundary

    boundary: Any = StepBoundary(agent, True, in_lockstep, saves_in_pauses=in_lockstep)  # type: ignore[arg-type]
    boundary.track(0, None, kept, object(), local_variables)
    return boundary


def test_what_others_had_in_an_earlier_pause_is_not_saved_with_a_later_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.train.checkpoint import local_state

    monkeypatch.setattr(local_state, "gather", lambda *_: b"of step 1")
    agent, kept = Agent(), Kept()
    boundary = begun(agent, kept, True, [object()])
    boundary.after_step(1)
    with boundary.pause():
        pass
    boundary.interrupt("preemption")
    with pytest.raises(SystemExit):
        boundary.after_step(2)
    assert kept.saves == [(2, {})]
    assert agent.said == [{"saved": {"step": 2, "error": None}}]


class Silent(Agent):
    def request(self, _role: str, _message: object) -> dict[str, str]:
        raise TimeoutError("no answer")


def test_an_agent_that_does_not_answer_does_not_keep_training_from_being_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from slurm_tf.train.checkpoint import local_state

    monkeypatch.setattr(local_state, "gather", lambda *_: b"")
    agent, kept = Silent(), Kept()
    boundary = begun(agent, kept, True, [object()])
    boundary.after_step(1)
    boundary.interrupt("preemption")
    with pytest.raises(SystemExit):
        boundary.after_step(2)
    assert kept.saves == [(2, {})]


class Fenced(Kept):
    def save(self, *_: object) -> None:
        raise FencedError("another attempt has taken over")


def test_a_writer_that_may_write_no_more_says_so_at_an_interruption_in_a_pause() -> None:
    agent = Agent()
    boundary = begun(agent, Fenced(), True, [])
    boundary.after_step(1)
    with boundary.pause():
        boundary.interrupt("preemption")
    assert agent.said == [{"saved": {"step": 0, "error": "another attempt has taken over"}}]


class Watched(Agent):
    def send(self, message: dict[str, Any]) -> None:
        self.said += [message] if "phase" in message else []


def test_a_step_after_an_evaluation_has_the_time_of_a_step() -> None:
    agent = Watched()
    boundary = begun(agent, Kept(), True, [])
    boundary.after_step(1)
    with boundary.pause():
        pass
    assert [words["phase"] for words in agent.said] == ["train", "evaluate", "train"]
    boundary.after_step(2, last=True)
    with boundary.pause():
        pass
    assert [words["phase"] for words in agent.said][3:] == ["done", "evaluate", "done"]


def test_steps_that_workers_have_done_are_saved_before_anything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.train import training_loop

    monkeypatch.setattr(training_loop, "tf", SimpleNamespace(function=lambda step: step))
    agent, kept = Agent(), Kept()
    boundary = begun(agent, kept, False, [])

    class Coordinator:
        scheduled = 0

        def schedule(self, *_: object, **__: object) -> Any:
            self.scheduled += 1
            if self.scheduled == 10:
                boundary.interrupt("preemption")
                assert agent.said == []
            return SimpleNamespace(fetch=lambda: {"loss": 0.0})

        def join(self) -> None:
            pass

    closures = training_loop.ParameterServerLoop(dict, None, Coordinator(), 1, boundary)
    with pytest.raises(SystemExit):
        closures.run(0, 100, 200)
    assert kept.saves == [(10, {})]
    assert agent.said == [{"saved": {"step": 10, "error": None}}]


def test_what_is_frozen_is_alike_and_not_gathered() -> None:
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
