"""Messages between a program and its agent: each as it was sent, or ignored."""

import json
import math
from typing import Any

import pytest

from slurm_tf.run import program_messages
from slurm_tf.run.program_messages import (
    CheckpointCommitted,
    ExitRequest,
    Listening,
    Phase,
    PhaseEntered,
    ProgramMessage,
    ProgressReport,
    RelayedRequest,
    Request,
    RequestAnswer,
    RequestResult,
    Saved,
    SaveRequest,
    StepReached,
    StepTime,
    TensorFlowVersion,
)

FROM_PROGRAM = [
    Listening(True),
    TensorFlowVersion("2.21.0"),
    Request(7, "*", {"step": 3, "more": [{"a": None}]}),
    RequestAnswer(2, None),
    RequestAnswer(2, "disk full\nin /x"),
    ProgressReport(300, 1000, 12.5, {"loss": 0.25, "Verlust für x": 1}),
    ProgressReport(None, None, None, {}),
    PhaseEntered(Phase.EVALUATE),
    StepReached(4),
    StepTime(0.125),
    CheckpointCommitted(200),
    Saved(200, None),
]
TO_PROGRAM = [
    RelayedRequest(0, {"flush": "/x"}),
    RequestResult(7, {"ps:0": None, "ps:1": "disk full"}),
    SaveRequest("preemption"),
    ExitRequest(143),
]


@pytest.mark.parametrize("message", FROM_PROGRAM)
def test_what_a_program_sends_is_what_comes(message: ProgramMessage) -> None:
    line = program_messages.encode(message)
    assert "\n" not in line
    assert program_messages.decode_from_program(line) == message
    assert program_messages.decode_to_program(line.encode()) is None


@pytest.mark.parametrize("message", TO_PROGRAM)
def test_what_an_agent_sends_is_what_comes(message: ProgramMessage) -> None:
    line = program_messages.encode(message)
    assert "\n" not in line
    assert program_messages.decode_to_program(line.encode()) == message
    assert program_messages.decode_from_program(line) is None


def test_a_loss_may_be_nan() -> None:
    line = program_messages.encode(ProgressReport(1, 2, 3.0, {"loss": math.nan}))
    message = program_messages.decode_from_program(line)
    assert isinstance(message, ProgressReport)
    assert math.isnan(message.values["loss"])


@pytest.mark.parametrize("line", ["", "up", "7", "[]", "null", "{}", "[" * 100_000, "\ud800", '{"type": ["Saved"]}'])
def test_what_is_no_message_is_ignored(line: str) -> None:
    assert program_messages.decode_from_program(line) is None


def test_what_is_no_text_is_ignored() -> None:
    assert program_messages.decode_to_program(b"\xff\xfe") is None


@pytest.mark.parametrize(
    "values",
    [
        {"type": "Save", "reason": "preemption", "signal": ""},
        {"type": "Listening"},
        {"type": "Listening", "is_writer": 1},
        {"type": "Listening", "is_writer": True, "more": 1},
        {"type": "Request", "number": "7", "role": "ps", "content": {}},
        {"type": "Request", "number": True, "role": "ps", "content": {}},
        {"type": "Request", "number": 7, "role": "ps", "content": []},
        {"type": "PhaseEntered", "phase": "sleep"},
        {"type": "PhaseEntered", "phase": 1},
        {"type": "StepReached", "step": 1.5},
        {"type": "StepTime", "seconds": None},
        {"type": "StepTime", "seconds": True},
        {"type": "StepTime", "seconds": "1"},
        {"type": "StepTime", "seconds": 10**400},
        {"type": "ProgressReport", "step": 1, "steps": "many", "rate": None, "values": {}},
        {"type": "ProgressReport", "step": 1, "steps": None, "rate": None, "values": {"loss": 10**400}},
        {"type": "ProgressReport", "step": 1, "steps": None, "rate": None, "values": None},
        {"type": "Saved", "step": 1, "error": 5},
    ],
)
def test_a_message_that_is_not_as_expected_is_ignored(values: dict[str, Any]) -> None:
    assert program_messages.decode_from_program(json.dumps(values)) is None
