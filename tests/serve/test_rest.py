"""A replica over REST answers as TensorFlow Serving does: the forms of its JSON, its paths and its statuses."""

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import forkserver
from tests.conftest import ROOT
from tests.serve.running_replica import TOKEN, Replica

pytestmark = pytest.mark.tensorflow

PREDICT = "/v1/models/kinds:predict"
PAIR = {"signature_name": "pair"}
ROW = {"a": [1, 2], "b": 3}
B64 = {"b64": "AAH/"}


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (PREDICT, {"instances": [2.0, 4.0]}, {"predictions": [3.0, 4.0]}),
        (PREDICT, {"instances": [2]}, {"predictions": [3.0]}),
        (PREDICT, {"instances": [{"x": 2}, {"x": 4}]}, {"predictions": [3.0, 4.0]}),
        (PREDICT, {"inputs": [2.0, 4.0]}, {"outputs": [3.0, 4.0]}),
        (PREDICT, {"inputs": {"x": [2.0, 4.0]}}, {"outputs": [3.0, 4.0]}),
        (PREDICT, {"inputs": []}, {"outputs": []}),
        (PREDICT, {"signature_name": "serving_default", "inputs": [0.2]}, {"outputs": [2.1]}),
        ("/v1/models/kinds/versions/1:predict", {"inputs": [2]}, {"outputs": [3.0]}),
        ("/V1/Models/kinds:PREDICT", {"inputs": [2]}, {"outputs": [3.0]}),
        ("/v1/models/%6binds:predict", {"inputs": [2]}, {"outputs": [3.0]}),
        (PREDICT, {**PAIR, "instances": [ROW, ROW]}, {"predictions": [{"double": 6, "sum": 3.0}] * 2}),
        (PREDICT, {**PAIR, "inputs": {"a": [[1, 2]], "b": [3]}}, {"outputs": {"double": [6], "sum": [3.0]}}),
        (
            PREDICT,
            {"signature_name": "text", "instances": ["a\u00e4\u0000", {"b64": "Yg=="}]},
            {"predictions": [{"raw_bytes": {"b64": "YcOkAA=="}, "text": "a\u00e4\u0000"},
                             {"raw_bytes": {"b64": "Yg=="}, "text": "b"}]},
        ),
        (
            PREDICT,
            {"signature_name": "types",
             "inputs": {"flag": [True], "small": [255], "wide": [1e300], "narrow": [0.1]}},
            {"outputs": {"flag": [True], "small": [255], "wide": [1e300], "narrow": [0.1]}},
        ),
        (PREDICT, {"signature_name": "total", "inputs": [[1, 2, 3], [4, 5, 6]]}, {"outputs": 21.0}),
        (
            "/v1/models/kinds:classify",
            {"signature_name": "classify", "examples": [{"x": 0.25}, {"x": 1.0}]},
            {"results": [[["low", 0.75], ["high", 0.25]], [["low", 0.0], ["high", 1.0]]]},
        ),
        (
            "/v1/models/kinds:regress",
            {"signature_name": "regress", "context": {"x": 4.0}, "examples": [{"x": [2.0]}, {}]},
            {"results": [3.0, 4.0]},
        ),
    ],
)  # fmt: skip
def test_the_forms_of_json(replica: Replica, path: str, body: Any, answer: Any) -> None:
    status, found, headers = replica.rest(path, body)
    assert (status, found) == (200, answer)
    assert headers["content-type"] == "application/json"


def test_floats_stay_floats_and_have_no_digits_of_their_binary_form(replica: Replica) -> None:
    assert replica.rest(PREDICT, {"inputs": [2, 0.2, 1e10]})[1] == {"outputs": [3.0, 2.1, 5e9]}
    body = subprocess.run(
        ["curl", "-s", "--cacert", "/dev/stdin", "-H", f"Authorization: Bearer {TOKEN}",
         "-d", '{"instances": [2, 0.2]}', f"https://127.0.0.1:{replica.endpoint.rest_port}{PREDICT}"],
        input=replica.endpoint.certificate, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert body == '{"predictions": [3.0, 2.1]}'


def test_nan_and_infinity_are_numbers(replica: Replica) -> None:
    status, found, _ = replica.rest(PREDICT, b'{"instances": [NaN, Infinity, -Infinity]}')
    assert status == 200
    values = found["predictions"]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_status_metadata_and_metrics(replica: Replica) -> None:
    status, found, _ = replica.rest("/v1/models/kinds")
    ok = {"error_code": "OK", "error_message": ""}
    assert (status, found) == (200, {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}]})
    assert replica.rest("/v1/models/kinds/versions/1")[1] == found
    found = replica.rest("/v1/models/kinds/metadata")[1]
    assert found["model_spec"] == {"name": "kinds", "signature_name": "", "version": "1"}
    x = found["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT"
    assert x["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    replica.rest(PREDICT, {"inputs": [2]})
    status, text, headers = replica.rest("/monitoring/prometheus/metrics")
    assert headers["content-type"].startswith("text/plain")
    assert ':tensorflow:serving:request_count{model_name="kinds",status="OK"} ' in text
    assert ':tensorflow:serving:request_latency_count{model_name="kinds",API="Predict",entrypoint="REST"} ' in text
    assert "# TYPE :tensorflow:serving:request_latency histogram" in text


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PREDICT, b"", 400, "The document is empty"),
        (PREDICT, b"{", 400, "JSON Parse error"),
        (PREDICT, b"\xff\xfe{}", 400, "JSON Parse error"),
        (PREDICT, b"[" * 200_000, 400, "nested too deeply"),
        (PREDICT, b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "x"),
        (
            PREDICT,
            b'{"signature_name": "text", "inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
            400,
            "s: nested too deeply",
        ),
        (PREDICT, b'{"inputs": [' + b"9" * 10_000 + b"]}", 400, "JSON Parse error"),
        (PREDICT, [], 400, "Is not object"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, {"inputs": [1], "instances": [1]}, 400, "only one of"),
        (PREDICT, {"instances": 1}, 400, "to be an list/array"),
        (PREDICT, {"instances": []}, 400, "No values"),
        (PREDICT, {"instances": [1, {"x": 2}]}, 400, "at item 1"),
        (PREDICT, {"instances": [{"z": 2}]}, 400, "keys must be equal to: x"),
        (PREDICT, {"instances": [[1, 2], [3]]}, 400, "not all of one length"),
        (PREDICT, {"instances": ["2"]}, 400, "not of expected type: float"),
        (PREDICT, {"instances": [None]}, 400, "not of expected type: float"),
        (PREDICT, {"instances": [B64]}, 400, "not of expected type: float"),
        (PREDICT, {"instances": [[1.0]]}, 400, "(1, 1); needed (?)"),
        (PREDICT, {"inputs": {"y": [1]}}, 400, "Missing named input: x"),
        (PREDICT, {"inputs": 2.0}, 400, "(); needed (?)"),
        (PREDICT, {"signature_name": 3, "inputs": [1]}, 400, "must be a string"),
        (PREDICT, {"signature_name": "nope", "inputs": [1]}, 400, 'key "nope" not found'),
        (PREDICT, {**PAIR, "instances": [[1, 2]]}, 400, "list of objects"),
        (PREDICT, {**PAIR, "inputs": {"a": [[1, 2]], "b": [2.5]}}, 400, "not of expected type: int64"),
        (PREDICT, {**PAIR, "inputs": {"a": [[1, 2]], "b": [2**63]}}, 400, "not of expected type: int64"),
        (PREDICT, {"signature_name": "text", "instances": [{"b64": "%%"}]}, 400, "Unable to base64 decode"),
        (PREDICT, {"signature_name": "text", "instances": [B64]}, 400, "not UTF-8"),
        (PREDICT, {"signature_name": "text", "instances": [1]}, 400, "not of expected type: string"),
        (PREDICT, b'{"signature_name": "text", "instances": ["\\ud800"]}', 400, "surrogate"),
        (PREDICT, b'{"signature_name": "\\ud800", "instances": [1]}', 400, "not found"),
        (PREDICT, {"signature_name": "total", "instances": [[1, 2, 3], [4, 5, 6]]}, 400, "no shape information"),
        ("/v1/models/kinds:classify", {"examples": []}, 400, "empty array"),
        ("/v1/models/kinds:classify", {"examples": [1]}, 400, "must be JSON object"),
        ("/v1/models/kinds:classify", {"examples": [{"x": None}]}, 400, "unexpected JSON type"),
        ("/v1/models/kinds:classify", {"examples": [{"x": [1, "a"]}]}, 400, "Unexpected element type"),
        ("/v1/models/kinds:classify", b'{"examples": [{"\\ud800": 1}]}', 400, "UTF-8"),
        ("/v1/models/kinds:regress", b'{"signature_name": "\\ud800", "examples": [{"x": 1}]}', 400, "UTF-8"),
        ("/v1/models/other:predict", {"inputs": [1]}, 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/%ff:predict", {"inputs": [1]}, 400, "not UTF-8"),
        ("/v1/models/kinds/versions/7:predict", {"inputs": [1]}, 404, "Specific(kinds, 7)"),
        ("/v1/models/kinds/versions/99999999999999999999:predict", {"inputs": [1]}, 400, "to numeric"),
        ("/v1/models/kinds/labels/canary:predict", {"inputs": [1]}, 400, "label: canary"),
        ("/v1/models/kinds:explain", {"inputs": [1]}, 400, "Malformed request: POST"),
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/models/other", None, 404, "Could not find any versions of model other"),
        ("/v1/models/kinds/versions/7", None, 404, "Could not find version 7 of model kinds"),
        ("/", None, 404, "Not found"),
        ("/v1/../etc/passwd", None, 400, "Malformed request: GET"),
    ],
)
def test_what_cannot_be_has_one_clear_error(replica: Replica, path: str, body: Any, status: int, message: str) -> None:
    found = replica.rest(path, body)
    assert (found[0], list(found[1])) == (status, ["error"])
    assert message in found[1]["error"]
    assert len(found[1]["error"]) < 1000


def test_a_body_that_is_too_large_is_not_read(replica: Replica) -> None:
    import socket
    import ssl

    at = replica.endpoint
    context = ssl.create_default_context(cadata=at.certificate)
    with (
        socket.create_connection((at.host, at.rest_port), 30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        length = replica.settings.max_request_bytes + 1
        head = (
            f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).splitlines()[0]


@pytest.mark.parametrize("token", [None, "", "wrong"])
@pytest.mark.parametrize("path", [PREDICT, "/v1/models/kinds", "/monitoring/prometheus/metrics", "/other"])
def test_without_the_token_there_is_nothing(replica: Replica, token: "str | None", path: str) -> None:
    status, found, headers = replica.rest(path, b"{" if path == PREDICT else None, token=token)
    assert status == 401
    assert "token" in found["error"]
    assert headers["www-authenticate"] == "Bearer"


def test_other_methods_are_refused(replica: Replica) -> None:
    for method in ("PUT", "DELETE", "OPTIONS"):
        status, found, _ = replica.rest(PREDICT, b"{}", method=method)
        assert (status, found["error"]) == (400, f"Malformed request: {method} {PREDICT}")


WAITING = """
import asyncio
import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor

from slurm_tf.serve.replica.access import Access
from slurm_tf.serve.replica.inference import Inference
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.model_table import ModelTable
from slurm_tf.serve.replica.recorder import Recorder
from slurm_tf.serve.replica.rest_service import RestService
from slurm_tf.serve.replica_settings import ReplicaSettings, ServedModel

REQUESTS, ROWS = 4, 100
WANTED = {"outputs": {"double": [2] * ROWS, "sum": [1.4375] * ROWS}}


def lists():
    found = [each[0] for each in gc.get_objects() if type(each) is list and len(each) == 2]
    return sum(type(each) is float and each == 0.4375 for each in found)


async def main(threads):
    settings = ReplicaSettings("first", (ServedModel("kinds", sys.argv[1]),), sys.argv[1], open=True)
    metrics = Metrics()
    models = ModelTable(settings, threads, metrics)
    await models.look()
    calls = Inference(models, metrics, 1 << 20, False)
    service = RestService(settings, calls, Recorder(metrics, None, 10), Access(None))
    version = models.models["kinds"].available[1]
    run, come, go, answers = version.run, [], asyncio.Event(), []

    async def waits(*arguments):
        come.append(arguments)
        await go.wait()
        return await run(*arguments)

    version.run = waits
    inputs = {"a": [[0.4375, 1]] * ROWS, "b": [1] * ROWS}
    body = json.dumps({"signature_name": "pair", "inputs": inputs}).encode()
    del inputs
    scope = {"method": "POST", "raw_path": b"/v1/models/kinds:predict", "headers": []}

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        answers.append(message)

    asked = [asyncio.ensure_future(service(scope, receive, send)) for _ in range(REQUESTS)]
    while len(come) < REQUESTS:
        assert not any(each.done() for each in asked), answers
        await asyncio.sleep(0)
    print("lists", lists())
    go.set()
    await asyncio.gather(*asked)
    assert [json.loads(each["body"]) for each in answers if "body" in each] == [WANTED] * REQUESTS
    await models.close()


with ThreadPoolExecutor(2) as threads:
    asyncio.run(main(threads))
"""


def test_while_a_request_waits_its_json_is_not_in_memory(models: Path) -> None:
    """Else the garbage collector looks through all lists of all requests that wait: it took 90 ms a request."""
    done = subprocess.run(
        [forkserver.python(), "-c", WAITING, str(models / "kinds")],
        cwd=ROOT, check=False, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "lists 0\n"
