"""Whether the other side still answers, by questions in vain."""

from slurm_tf.launch.decide.heartbeat import Heartbeat, HeartbeatAction

ASK, GIVE_UP = HeartbeatAction.ASK, HeartbeatAction.GIVE_UP


def asked(pulse: Heartbeat, now: float) -> HeartbeatAction | None:
    assert pulse.wakes_at is not None
    assert pulse.due(pulse.wakes_at - 0.01) is None
    return pulse.due(max(now, pulse.wakes_at))


def test_four_questions_in_vain_are_the_end() -> None:
    pulse = Heartbeat(10.0, 0.0)
    assert [asked(pulse, 0.0) for _ in range(5)] == [ASK] * 4 + [GIVE_UP]
    assert pulse.wakes_at is None
    assert pulse.due(1000.0) is None


def test_the_silence_ends_when_it_says() -> None:
    pulse = Heartbeat(10.0, 5.0)
    while pulse.due(pulse.wakes_at or 0.0) != GIVE_UP:
        last = pulse.wakes_at
    assert last == 15.0


def test_a_word_begins_it_anew() -> None:
    pulse = Heartbeat(10.0, 0.0)
    assert [asked(pulse, 0.0) for _ in range(4)] == [ASK] * 4
    pulse.heard(9.0)
    assert pulse.wakes_at == 11.0
    assert asked(pulse, 0.0) == ASK


def test_who_was_stopped_itself_has_asked_once_in_that_time() -> None:
    pulse = Heartbeat(10.0, 0.0)
    assert pulse.due(3600.0) == ASK
    assert pulse.due(3600.1) is None
    assert pulse.wakes_at == 3602.0


def test_for_ever() -> None:
    pulse = Heartbeat(0.0, 0.0)
    assert pulse.wakes_at is None
    assert pulse.due(1e9) is None
