"""Questions between programs: each is answered, once, whatever happens."""

import json

from slurm_tf.launch.coordinator.message_relay import ANSWER_SECONDS, MessageRelay, Outgoing

RUNNING = ["chief:0", "worker:0", "ps:0", "ps:1"]


def pairs(lines: list[Outgoing]) -> list[tuple[str, str]]:
    return [(each.task, each.line) for each in lines]


def ask(board: MessageRelay, number: int = 7, to: str = "ps", now: float = 0.0) -> list[tuple[str, str]]:
    return pairs(
        board.line("chief:0", {"ask": number, "to": to, "message": {"flush": "/x"}}, RUNNING, RUNNING[:2], now)
    )


def test_a_question_goes_to_every_task_of_the_role_and_the_answers_come_back() -> None:
    board = MessageRelay()
    (first, line), (second, other) = ask(board)
    assert (first, second) == ("ps:0", "ps:1")
    asked = json.loads(line)
    assert asked["message"] == {"flush": "/x"}
    assert line == other
    answer = {"answer": asked["asked"], "error": None}
    assert board.line("ps:0", answer, RUNNING, RUNNING[:2], 1.0) == []
    failed = {"answer": asked["asked"], "error": "disk full"}
    ((task, reply),) = pairs(board.line("ps:1", failed, RUNNING, RUNNING[:2], 2.0))
    assert task == "chief:0"
    assert json.loads(reply) == {"answers": 7, "errors": {"ps:0": None, "ps:1": "disk full"}}
    assert board.line("ps:1", failed, RUNNING, RUNNING[:2], 3.0) == []


def test_two_questions_of_the_same_number_are_two() -> None:
    board = MessageRelay()
    numbers = {json.loads(line)["asked"] for _ in range(2) for _, line in ask(board)}
    assert len(numbers) == 2


def test_nobody_of_the_role() -> None:
    ((task, reply),) = ask(MessageRelay(), to="evaluator")
    assert (task, json.loads(reply)) == ("chief:0", {"answers": 7, "errors": {}})


def test_a_task_that_ends_has_answered() -> None:
    board = MessageRelay()
    ask(board)
    assert board.ended("ps:0") == []
    ((_, reply),) = pairs(board.ended("ps:1"))
    assert json.loads(reply)["errors"] == {"ps:0": "the task ended", "ps:1": "the task ended"}


def test_a_question_whose_asker_ended_is_forgotten() -> None:
    board = MessageRelay()
    ask(board)
    board.ended("chief:0")
    assert board.wakes_at is None
    assert board.tick(1e9) == []


def test_a_task_that_says_nothing_is_answered_for() -> None:
    board = MessageRelay()
    ask(board, now=10.0)
    assert board.wakes_at == 10.0 + ANSWER_SECONDS
    assert board.tick(10.0) == []
    ((_, reply),) = pairs(board.tick(10.0 + ANSWER_SECONDS))
    assert set(json.loads(reply)["errors"].values()) == {f"no answer in {ANSWER_SECONDS:.0f} s"}


def test_what_is_no_message_is_dropped() -> None:
    board = MessageRelay()
    nonsense: list[dict[str, object]] = [{}, {"answer": "x"}, {"answer": 99}, {"ask": 1}]
    for words in nonsense:
        assert board.line("ps:0", words, RUNNING, RUNNING[:2], 0.0) == []


def test_a_question_to_all_goes_to_those_that_listen() -> None:
    ((task, _),) = ask(MessageRelay(), to="*")
    assert task == "worker:0"
