"""The settings of a replica: what is written is read, and what cannot be is refused with what was needed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.errors import ModelError
from slurm_tf.models.serving_file import PolicyKind, VersionPolicy
from slurm_tf.serve import replica_settings
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, RequestLogSettings, ServedModel

OPEN = ReplicaSettings("digits-0", (ServedModel("digits", "/models/digits"),), "/run/endpoints", open=True)


def test_what_is_written_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "replica.json"
    policy = VersionPolicy(PolicyKind.SPECIFIC, 1, (2, 3))
    batching = Batching(32, 500, 8, 1, (8, 32))
    settings = replace(
        OPEN,
        models=(ServedModel("a", "/m/a", batching, policy), ServedModel("b", "/m/b")),
        token_file="/run/token",
        open=False,
        ends=1.5,
        request_log=RequestLogSettings("/run/requests"),
    )
    replica_settings.write(str(file), settings)
    assert replica_settings.read(str(file)) == settings
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (replace(OPEN, open=False), "a token"),
        (replace(OPEN, token_file="/run/token"), "a token"),
        (replace(OPEN, models=()), "one model or more"),
        (replace(OPEN, models=OPEN.models * 2), "each once"),
        (replace(OPEN, models=(ServedModel("../../etc", "/m"),)), "letters, digits"),
        (replace(OPEN, replica="a\nb"), "letters, digits"),
        (replace(OPEN, plaintext=True, address="0.0.0.0"), "TLS"),
        (replace(OPEN, certificate_file="/c.pem"), "both or neither"),
        (replace(OPEN, grpc_port=70000), "0 to 65535"),
        (replace(OPEN, max_in_flight=0), "above 0"),
        (replace(OPEN, poll_seconds=0), "above 0"),
        (replace(OPEN, models=(ServedModel("a", "/m", Batching(max_batch_size=0)),)), "1 or more"),
        (replace(OPEN, models=(ServedModel("a", "/m", Batching(batch_timeout_micros=-1)),)), "0 or more"),
        (replace(OPEN, models=(ServedModel("a", "/m", Batching(allowed_batch_sizes=(64, 8))),)), "rising sizes"),
        (replace(OPEN, models=(ServedModel("a", "/m", Batching(allowed_batch_sizes=(8, 32))),)), "max_batch_size"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: ReplicaSettings, needed: str, tmp_path: Path) -> None:
    file = tmp_path / "replica.json"
    with pytest.raises(ModelError) as caught:
        replica_settings.write(str(file), settings)
    assert needed in caught.value.needed
    assert not file.exists()


def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "replica.json"
    replica_settings.write(str(file), OPEN)
    file.write_text(json.dumps({**json.loads(file.read_text()), "models": "digits"}))
    with pytest.raises(ModelError, match=r"replica\.json"):
        replica_settings.read(str(file))


@pytest.mark.parametrize(
    ("mode", "text", "found"),
    [(0o600, "", "no token"), (0o600, "short", "no token"), (0o644, "x" * 43, "can read"), (0o620, "x" * 43, "mode")],
)
def test_a_token_that_is_none_or_that_others_have_is_refused(mode: int, text: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ModelError, match=found):
        replace(OPEN, open=False, token_file=str(file)).token()


def test_the_token_is_what_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("x" * 43 + "\n")
    file.chmod(0o600)
    assert replace(OPEN, open=False, token_file=str(file)).token() == b"x" * 43
    assert OPEN.token() is None
