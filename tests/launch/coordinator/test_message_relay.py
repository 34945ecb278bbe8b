"""Requests between programs: each is answered, once, whatever happens."""

from typing import cast

from slurm_tf.launch.coordinator.message_relay import ANSWER_SECONDS, MessageRelay, Outgoing
from slurm_tf.run.program_messages import RelayedRequest, Request, RequestAnswer, RequestResult

RUNNING = ["chief:0", "worker:0", "ps:0", "ps:1"]


def ask(relay: MessageRelay, number: int = 7, role: str = "ps", now: float = 0.0) -> list[Outgoing]:
    return relay.request("chief:0", Request(number, role, {"flush": "/x"}), RUNNING, RUNNING[:2], now)


def relayed(relay: MessageRelay) -> int:
    """Send a request to the parameter servers; return the number that they are to answer."""
    return cast(RelayedRequest, ask(relay)[0].message).number


def test_a_request_goes_to_every_task_of_the_role_and_the_answers_come_back() -> None:
    relay = MessageRelay()
    first, second = ask(relay)
    assert (first.task, second.task) == ("ps:0", "ps:1")
    assert isinstance(first.message, RelayedRequest)
    assert first.message.content == {"flush": "/x"}
    assert first.message == second.message
    number = first.message.number
    assert relay.answer("ps:0", RequestAnswer(number, None)) == []
    failed = RequestAnswer(number, "disk full")
    assert relay.answer("ps:1", failed) == [Outgoing("chief:0", RequestResult(7, {"ps:0": None, "ps:1": "disk full"}))]
    assert relay.answer("ps:1", failed) == []


def test_two_requests_of_the_same_number_are_two() -> None:
    relay = MessageRelay()
    assert relayed(relay) != relayed(relay)


def test_nobody_of_the_role() -> None:
    assert ask(MessageRelay(), role="evaluator") == [Outgoing("chief:0", RequestResult(7, {}))]


def test_a_task_that_ends_has_answered() -> None:
    relay = MessageRelay()
    ask(relay)
    assert relay.ended("ps:0") == []
    errors = {"ps:0": "the task ended", "ps:1": "the task ended"}
    assert relay.ended("ps:1") == [Outgoing("chief:0", RequestResult(7, errors))]


def test_a_request_whose_sender_ended_is_forgotten() -> None:
    relay = MessageRelay()
    ask(relay)
    relay.ended("chief:0")
    assert relay.wakes_at is None
    assert relay.tick(1e9) == []


def test_a_task_that_says_nothing_is_answered_for() -> None:
    relay = MessageRelay()
    ask(relay, now=10.0)
    assert relay.wakes_at == 10.0 + ANSWER_SECONDS
    assert relay.tick(10.0) == []
    error = f"no answer in {ANSWER_SECONDS:.0f} s"
    assert relay.tick(10.0 + ANSWER_SECONDS) == [Outgoing("chief:0", RequestResult(7, {"ps:0": error, "ps:1": error}))]


def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    relay = MessageRelay()
    number = relayed(relay)
    assert relay.answer("ps:0", RequestAnswer(99, None)) == []
    assert relay.answer("worker:0", RequestAnswer(number, None)) == []
    assert relay.answer("ps:0", RequestAnswer(number, None)) == []
    assert len(relay.answer("ps:1", RequestAnswer(number, None))) == 1


def test_a_request_to_all_goes_to_those_that_listen() -> None:
    (only,) = ask(MessageRelay(), role="*")
    assert only.task == "worker:0"
