"""The conversation of coordinator and agent: proofs, signatures, limits."""

import contextlib
import json
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.errors import AuthenticationError, RunError
from slurm_tf.launch.transport.authentication import AGENT, COORDINATOR, Conversation

SECRET = b"s" * 32


def pack(values: object) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


def move(source: Conversation, target: Conversation) -> list[bytes]:
    data = bytes(source.outgoing)
    source.outgoing.clear()
    return target.receive(data)


def pair(agents_secret: bytes = SECRET) -> tuple[Conversation, Conversation]:
    return Conversation(SECRET, COORDINATOR), Conversation(agents_secret, AGENT)


def shaken() -> tuple[Conversation, Conversation]:
    coordinator, agent = pair()
    assert move(coordinator, agent) == move(agent, coordinator) == move(coordinator, agent) == []
    assert coordinator.authenticated
    assert agent.authenticated
    return coordinator, agent


def test_both_sides_prove_the_secret_and_neither_sends_it() -> None:
    coordinator, agent = pair()
    sent = b""
    for source, target in ((coordinator, agent), (agent, coordinator), (coordinator, agent)):
        sent += bytes(source.outgoing)
        move(source, target)
    assert coordinator.authenticated
    assert agent.authenticated
    assert SECRET not in sent
    assert SECRET.hex().encode() not in sent


def test_an_agent_without_the_secret_is_refused() -> None:
    coordinator, agent = pair(b"x" * 32)
    move(coordinator, agent)
    with pytest.raises(AuthenticationError, match="a proof of the secret came that is wrong"):
        move(agent, coordinator)
    assert not coordinator.authenticated


def test_a_coordinator_without_the_secret_is_refused() -> None:
    coordinator, agent = pair()
    move(coordinator, agent)
    agent.outgoing.clear()
    body = pack({"proof": "0" * 64})
    with pytest.raises(AuthenticationError, match="proof that the coordinator knows"):
        agent.receive(struct.pack(">I", len(body)) + body)


def test_an_agents_own_proof_does_not_pass_for_the_coordinators() -> None:
    coordinator, agent = pair()
    move(coordinator, agent)
    reflected = json.loads(bytes(agent.outgoing)[4:])["proof"]
    body = pack({"proof": reflected})
    with pytest.raises(AuthenticationError):
        agent.receive(struct.pack(">I", len(body)) + body)


def test_another_release_is_told_apart() -> None:
    _, agent = pair()
    body = pack({"slurm-tf": 99, "nonce": "00"})
    with pytest.raises(RunError, match=r"contract version 99\); needed contract version"):
        agent.receive(struct.pack(">I", len(body)) + body)


@given(st.lists(st.binary(), max_size=5), st.integers(1, 7))
def test_messages_arrive_whole_and_in_order_in_any_pieces(messages: list[bytes], size: int) -> None:
    coordinator, agent = shaken()
    for message in messages:
        agent.send(message)
    data, came = bytes(agent.outgoing), []
    for start in range(0, len(data), size):
        came += coordinator.receive(data[start : start + size])
    assert came == messages


def test_what_is_changed_replayed_or_reordered_is_refused() -> None:
    def frames(*messages: object) -> tuple[Conversation, list[bytes]]:
        coordinator, agent = shaken()
        sent = []
        for message in messages:
            agent.send(pack(message))
            sent.append(bytes(agent.outgoing))
            agent.outgoing.clear()
        return coordinator, sent

    coordinator, (first,) = frames({"a": 1})
    with pytest.raises(AuthenticationError, match="signature"):
        coordinator.receive(first.replace(b'"a":1', b'"a":2'))
    coordinator, (first,) = frames({"a": 1})
    coordinator.receive(first)
    with pytest.raises(AuthenticationError, match="signature"):
        coordinator.receive(first)
    coordinator, (first, second) = frames({"a": 1}, {"a": 2})
    with pytest.raises(AuthenticationError, match="signature"):
        coordinator.receive(second + first)


def test_a_message_of_another_conversation_or_of_ones_own_is_refused() -> None:
    coordinator, agent = shaken()
    other_coordinator, _ = shaken()
    agent.send(pack({"a": 1}))
    with pytest.raises(AuthenticationError):
        move(agent, other_coordinator)
    coordinator.send(pack({"a": 1}))
    with pytest.raises(AuthenticationError):
        coordinator.receive(bytes(coordinator.outgoing))


@given(st.binary(max_size=200))
def test_a_stranger_gets_an_error_and_no_memory(data: bytes) -> None:
    coordinator, _ = pair()
    with contextlib.suppress(AuthenticationError):
        assert coordinator.receive(data) == []
    assert not coordinator.authenticated
    assert len(coordinator._incoming) <= 1028 + len(data)


def test_a_stranger_cannot_announce_a_large_message() -> None:
    coordinator, _ = pair()
    with pytest.raises(AuthenticationError, match="a message of 4096 bytes"):
        coordinator.receive(struct.pack(">I", 4096) + os.urandom(8))


@pytest.mark.parametrize(
    "body", [b"[" * 1024, b"[]", b"x", b"{}", b'{"nonce": 1, "proof": 2}', '{"nonce": "é"}'.encode()]
)
def test_a_handshake_that_is_none(body: bytes) -> None:
    coordinator, _ = pair()
    with pytest.raises(AuthenticationError):
        coordinator.receive(struct.pack(">I", len(body)) + body)
