"""Endpoint files: who reads them finds the replicas that live, and believes nobody else."""

from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.errors import ModelError
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import STALE_SECONDS, Endpoint, ModelStatus, VersionState, VersionStatus

MODELS = (
    ModelStatus("digits", 2, (VersionStatus(2, VersionState.AVAILABLE), VersionStatus(3, VersionState.END, "torn"))),
    ModelStatus("fresh", None, (), "no such folder"),
)
FIRST = Endpoint("digits-0", "17", "node1", 5001, 5002, "", "", False, MODELS, 100.0, 1000.0, 2000.0)


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "endpoints"
    made.mkdir(mode=0o700)
    return made


def test_what_is_written_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    endpoints = folder(tmp_path)
    endpoint.write(str(endpoints), FIRST)
    file = endpoints / "digits-0.json"
    assert endpoint.read(str(file)) == FIRST
    assert file.stat().st_mode & 0o777 == 0o600
    assert FIRST.answers("digits")
    assert not FIRST.answers("fresh")
    assert not FIRST.answers("other")
    endpoint.remove(str(endpoints), "digits-0")
    endpoint.remove(str(endpoints), "digits-0")
    assert not list(endpoints.iterdir())


def test_only_replicas_that_renew_their_file_live(tmp_path: Path) -> None:
    endpoints = folder(tmp_path)
    endpoint.write(str(endpoints), FIRST)
    endpoint.write(str(endpoints), replace(FIRST, replica="digits-1", started=90.0, written=1000.0 + STALE_SECONDS))
    (endpoints / "damaged.json").write_text("{")
    (endpoints / ".digits-2.json").write_text("{}")
    assert [each.replica for each in endpoint.living(str(endpoints), 1000.0)] == ["digits-1", "digits-0"]
    assert [each.replica for each in endpoint.living(str(endpoints), 1001.0 + STALE_SECONDS)] == ["digits-1"]


def test_what_others_can_write_is_not_believed(tmp_path: Path) -> None:
    endpoints = folder(tmp_path)
    endpoint.write(str(endpoints), FIRST)
    file = endpoints / "digits-0.json"
    file.chmod(0o666)
    with pytest.raises(ModelError, match="others can change it"):
        endpoint.read(str(file))
    assert endpoint.living(str(endpoints), 1000.0) == ()
    endpoints.chmod(0o777)
    with pytest.raises(ModelError, match="others can change it"):
        endpoint.living(str(endpoints), 1000.0)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="name"):
        endpoint.path(str(tmp_path), "../token")


def test_the_fingerprint_is_that_of_the_first_certificate(tmp_path: Path) -> None:
    import ssl

    one, other = ssl.DER_cert_to_PEM_cert(b"one"), ssl.DER_cert_to_PEM_cert(b"other")
    expected = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert endpoint.fingerprint(one + other) == expected
    (tmp_path / "chain.pem").write_text(one)
