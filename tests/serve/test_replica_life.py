"""The life of a replica: what it refuses to start with, its endpoint file, and an end without a failed request."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.serve import endpoint, replica_settings, request_log
from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, RequestLogSettings, ServedModel
from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT
from tests.serve.running_replica import Replica, predict_request, wait_for

pytestmark = pytest.mark.tensorflow


def value(*numbers: float) -> Any:
    import numpy as np

    return predict_request("kinds", {"x": np.array(numbers, np.float32)})


def refusal(settings: ReplicaSettings, folder: Path) -> tuple[int, str]:
    """Return exit code and log of a replica that does not start."""
    file = folder / "settings.json"
    replica_settings.write(str(file), settings)
    done = subprocess.run(
        [sys.executable, "-m", "slurm_tf.serve.replica", str(file)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"}, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_what_a_replica_does_not_start_with(models: Path, tmp_path: Path) -> None:
    endpoints = tmp_path / "endpoints"
    endpoints.mkdir(mode=0o700)
    served = (ServedModel("kinds", str(models / "kinds")),)
    settings = ReplicaSettings("first", served, str(endpoints), open=True)
    code, log = refusal(replace(settings, token_file=str(tmp_path / "none"), open=False), tmp_path)
    assert (code, "No such file" in log, "Traceback" in log) == (74, True, False)
    code, log = refusal(replace(settings, endpoint_folder=str(tmp_path / "nowhere")), tmp_path)
    assert (code, "No such file" in log, "Traceback" in log) == (74, True, False)
    endpoints.chmod(0o777)
    code, log = refusal(settings, tmp_path)
    assert (code, "others can change it" in log, "Traceback" in log) == (65, True, False)


SLOW_STORAGE = """
import os
import signal
import sys
import threading
import time
import urllib.request

from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.replica import replica_process

write, written, answered = endpoint.write, [], threading.Event()


def slow_write(folder, each):
    write(folder, each)
    written.append(each)
    if len(written) == 2:
        print("answered meanwhile:", answered.wait(60))


def ask():
    while len(written) < 2:
        time.sleep(0.01)
    with urllib.request.urlopen(f"http://127.0.0.1:{written[0].rest_port}/v1/models/kinds", timeout=100) as answer:
        answer.read()
    answered.set()
    os.kill(os.getpid(), signal.SIGTERM)


endpoint.write = slow_write
threading.Thread(target=ask, daemon=True).start()
replica_process.run(replica_settings.read(sys.argv[1]))
"""


def test_requests_are_answered_while_the_endpoint_file_is_written(models: Path, tmp_path: Path) -> None:
    endpoints = tmp_path / "endpoints"
    endpoints.mkdir(mode=0o700)
    served = (ServedModel("kinds", str(models / "kinds")),)
    file = tmp_path / "settings.json"
    settings = ReplicaSettings("first", served, str(endpoints), open=True, plaintext=True, connection_seconds=0.1)
    replica_settings.write(str(file), settings)
    done = subprocess.run(
        [forkserver.python(), "-c", SLOW_STORAGE, str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "answered meanwhile: True\n"), done.stderr
    assert not list(endpoints.iterdir())


@pytest.mark.long
def test_a_site_certificate_several_models_and_an_open_replica(models: Path, tmp_path: Path) -> None:
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=site",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    key.chmod(0o600)
    log = RequestLogSettings(str(tmp_path / "requests"), sample_percent=100)
    both = {"kinds": models / "kinds", "versions": models / "versions"}
    replica = Replica(
        tmp_path / "replica", both, certificate_file=str(chain), key_file=str(key), open=True, request_log=log
    ).ready()
    at = replica.endpoint
    assert at.certificate == chain.read_text()
    assert at.fingerprint == endpoint.fingerprint(chain.read_text())
    assert (at.open, len(at.models)) == (True, 2)
    assert "WARNING: open" in replica.log.read_text()
    assert list(replica.call("Predict", value(2), token=None).outputs["y"].float_val) == [3]
    assert replica.rest("/v1/models/versions:predict", {"inputs": [[0] * 4]}, token=None)[1]["outputs"]["version"] == [
        11
    ]
    assert replica.rest("/v1/models/versions:predict", {"inputs": [[0] * 3]}, token=None)[0] == 400
    import grpc

    from slurm_tf.serve.protocol import serving_messages as protocol

    with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
        replica.call("HandleReloadConfigRequest", protocol.ReloadConfigRequest(), token=None)
    assert replica.stop() == 0
    assert not list(replica.endpoints.iterdir())
    records = list(request_log.read(log.folder, "versions"))
    assert [(version, record.api, record.code, bool(record.request)) for version, record in records] == [
        (11, "Predict", "OK", True),
        (11, "Predict", "INVALID_ARGUMENT", True),
    ]
    assert len(list(request_log.read(log.folder, "kinds"))) == 1
    assert (Path(log.folder) / "kinds").stat().st_mode & 0o777 == 0o700


@pytest.mark.long
def test_a_replica_ends_without_a_failed_request_once_its_successor_answers(models: Path, tmp_path: Path) -> None:
    import grpc

    served = {"kinds": models / "kinds"}
    first = Replica(tmp_path / "service", served, successor_seconds=60.0).ready()
    failures: list[str] = []
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        """Ask whoever's endpoint file is there, over one connection a replica, as the forwarder does."""
        channels: dict[str, Any] = {}
        while not done.is_set():
            living = endpoint.living(str(first.endpoints))
            for at in living[-1:]:
                if at.replica not in channels:
                    pem = grpc.ssl_channel_credentials(at.certificate.encode())
                    channels[at.replica] = grpc.secure_channel(f"{at.host}:{at.grpc_port}", pem)
                method = channels[at.replica].unary_unary("/tensorflow.serving.PredictionService/Predict")
                try:
                    method(
                        value(2).SerializeToString(),
                        metadata=[("authorization", "Bearer only-the-tests-know-this-token")],
                        timeout=30,
                    )
                    answers.append(at.replica)
                except grpc.RpcError as error:
                    failures.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    first.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "goes on until a successor answers" in first.log.read_text())
    before = len(answers)
    wait_for(lambda: len(answers) > before)
    assert first.process.poll() is None
    second = Replica(tmp_path / "service", served, replica="second").ready()
    assert first.process.wait(60) == 0
    wait_for(lambda: "second" in answers[-5:])
    done.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert second.stop() == 0


@pytest.mark.long
def test_too_many_requests_are_refused_and_late_ones_are_not_done(models: Path, tmp_path: Path) -> None:
    held = Batching(batch_timeout_micros=500_000)
    replica = Replica(tmp_path / "replica", {"kinds": models / "kinds"}, held, plaintext=True, max_in_flight=1).ready()
    assert replica.endpoint.certificate == ""
    import grpc

    with replica.channel() as channel:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        metadata = [("authorization", "Bearer only-the-tests-know-this-token")]
        # fewer rows than a batch: it waits for others, as the settings say, and is in flight meanwhile
        request = value(*range(100)).SerializeToString()
        calls = [method.future(request, metadata=metadata, timeout=30) for _ in range(20)]
        codes = {call.code().name for call in calls}
        assert codes == {"OK", "UNAVAILABLE"}
        with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
            method(request, metadata=metadata, timeout=0.0001)
        assert method(value(2).SerializeToString(), metadata=metadata, timeout=30)
    assert replica.stop() == 0


@pytest.mark.long
def test_a_replica_whose_endpoint_folder_goes_answers_on(models: Path, tmp_path: Path) -> None:
    replica = Replica(tmp_path / "replica", {"kinds": models / "kinds"}).ready()
    at = replica.endpoint
    written = at.written
    wait_for(lambda: replica.endpoint.written > written, 10)
    replica.endpoints.rename(tmp_path / "gone")
    wait_for(lambda: "endpoint file cannot be written" in replica.log.read_text(), 10)
    (tmp_path / "gone").rename(replica.endpoints)
    assert list(replica.call("Predict", value(2)).outputs["y"].float_val) == [3]
    assert replica.stop() == 0


@pytest.mark.long
def test_batching_of_settings_reaches_the_model(models: Path, tmp_path: Path) -> None:
    batching = Batching(8, 20_000, 4, 1, (4, 8))
    replica = Replica(tmp_path / "replica", {"kinds": models / "kinds"}, batching).ready()
    with replica.channel() as channel:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        metadata = [("authorization", "Bearer only-the-tests-know-this-token")]
        begin = time.monotonic()
        calls = [method.future(value(number).SerializeToString(), metadata=metadata, timeout=30) for number in range(6)]
        answers = [protocol.PredictResponse.FromString(call.result()).outputs["y"].float_val[0] for call in calls]
        assert answers == [0.5 * number + 2 for number in range(6)]
        assert time.monotonic() - begin < 10
    assert replica.stop() == 0
