"""Measures a replica under load, beside a bare gRPC server in Python that sends back what it gets.

    python benchmarks/serve.py [--seconds 4] [--rounds 3]

Needs h2load (Debian: nghttp2-client). Prints a Markdown table: requests a second with 64 in flight (4 connections of 16
streams) and with one, the time of one, and rows a second with 32 rows a request; then what batching gives on a model of
8 million weights, and what a request costs the replica beside TensorFlow and gRPC. Every way is a process of its own;
a round is one run of each, and the next round runs them in reverse order. Cells are medians of the rounds with the
smallest and largest. Every request that a replica answered must count as OK in its metrics. The replica asks for its
token, counts its metrics and finds the version by a label. LitServe, BentoML and Ray Serve take part where they are
installed; they answer REST, the model called by tf.saved_model.load.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

from slurm_tf.models import serving_file
from slurm_tf.models.serving_file import Serving
from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, ServedModel

TOKEN = "benchmark-benchmark-benchmark"  # noqa: S105 - of a server that lives for a minute
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MANY, ONE = ("-c4", "-m16"), ("-c1", "-m1")
OTHERS = {"LitServe": "litserve", "BentoML": "bentoml", "Ray Serve": "ray"}


def export(folder):
    """Write the two models, in a process of its own."""
    from tensorflow import keras

    layers = keras.layers
    digits = keras.Sequential([
        layers.Input((28, 28, 1), name="image"), layers.Conv2D(8, 3, activation="relu"), layers.MaxPool2D(),
        layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    wide = keras.Sequential([
        layers.Input((784,), name="image"), layers.Dense(2048, activation="relu"),
        layers.Dense(2816, activation="relu"), layers.Dense(400, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    digits.export(str(folder / "digits" / "1"), verbose=False)
    wide.export(str(folder / "wide" / "1"), verbose=False)
    for name in ("digits", "wide"):
        (folder / name).chmod(0o700)
        for path in (folder / name).rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        serving_file.write(str(folder / name), Serving(labels={"stable": 1}))


def request(model, rows):
    """Return the body of a gRPC request: random pixels for a model."""
    import numpy as np

    shape = (rows, 28, 28, 1) if model == "digits" else (rows, 784)
    message = protocol.PredictRequest()
    message.model_spec.name, message.model_spec.version_label = model, "stable"
    tensor = message.inputs["image"]
    tensor.dtype = 1
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = np.random.default_rng(0).random(shape, np.float32).tobytes()
    return message.SerializeToString()


# --- the servers ---


def echo(folder):
    """Serve a bare gRPC method that sends back what it gets."""
    import grpc

    async def same(data, _):
        return data[:64]

    async def main():
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(same)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        (folder / "echo.port").write_text(str(port))
        await server.wait_for_termination()

    asyncio.run(main())


class Server:
    """A process of a server; `url`: where it answers."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


class Echo(Server):
    def __init__(self, folder):
        (folder / "echo.port").unlink(missing_ok=True)
        super().__init__([sys.executable, __file__, "--echo", str(folder)])
        wait_for(lambda: (folder / "echo.port").exists() and (folder / "echo.port").read_text(), self.process)
        self.url = f"http://127.0.0.1:{(folder / 'echo.port').read_text()}{PREDICT}"


class Replica(Server):
    def __init__(self, folder, tls=False, max_batch_size=64):
        endpoints = folder / "endpoints"
        endpoints.mkdir(mode=0o700, exist_ok=True)
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        models = tuple(
            ServedModel(name, str(folder / name), Batching(max_batch_size=max_batch_size))
            for name in ("digits", "wide")
        )
        settings = ReplicaSettings(
            "measured", models, str(endpoints), token_file=str(token), plaintext=not tls, connection_seconds=3600
        )
        replica_settings.write(str(folder / "settings.json"), settings)
        endpoint.remove(str(endpoints), "measured")
        super().__init__([sys.executable, "-m", "slurm_tf.serve.replica", str(folder / "settings.json")])
        path = Path(endpoint.path(str(endpoints), "measured"))
        wait_for(path.exists, self.process)
        at = endpoint.read(str(path))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{at.grpc_port}{PREDICT}"
        self.rest = f"{scheme}://127.0.0.1:{at.rest_port}"

    def answered(self):
        """Return how many requests were OK, and how many were not; h2load cancels those that it has at its end."""
        page = urllib.request.Request(f"{self.rest}/monitoring/prometheus/metrics", headers=HEADERS)  # noqa: S310
        import ssl

        context = ssl._create_unverified_context() if self.rest.startswith("https") else None  # noqa: S323 - our own
        with urllib.request.urlopen(page, context=context, timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
        counts = re.findall(r'request_count\{.*status="(\w+)"\} ([0-9.e+]+)', text)
        return sum(float(count) for status, count in counts if status == "OK"), sum(
            float(count) for status, count in counts if status not in ("OK", "CANCELLED")
        )


HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OTHER_APPLICATION = """
import os, sys
import numpy as np
import tensorflow as tf
PATH, PORT = sys.argv[1:3]
"""
APPLICATIONS = {
    "LitServe": """
import litserve
class Api(litserve.LitAPI):
    def setup(self, device):
        self.call = tf.saved_model.load(PATH).signatures["serving_default"]
    def decode_request(self, request): return np.array(request["instances"], np.float32)
    def predict(self, rows): return self.call(image=tf.constant(rows))["output_0"].numpy()
    def encode_response(self, output): return {"predictions": output.tolist()}
server = litserve.LitServer(Api(), accelerator="cpu", api_path="/predict")
server.run(host="127.0.0.1", port=int(PORT), generate_client_file=False)
""",
}


def wait_for(ready, process):
    end = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def load(url, body, how, seconds, headers, h1=False):
    """Return requests a second, and the mean time of a request in milliseconds."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        argv = ["h2load", "-D", str(seconds), "--warm-up-time=1", *how, "-d", file.name, "-t1"]
        argv += ["--h1"] if h1 else []
        argv += [part for key, value in headers.items() for part in ("-H", f"{key}: {value}")]
        done = subprocess.run([*argv, url], capture_output=True, text=True, timeout=seconds + 60, check=True)
    rate = float(re.search(r"finished in [^,]*, ([0-9.]+) req/s", done.stdout)[1])
    mean = re.search(r"time for request: +\S+ +\S+ +([0-9.]+)(us|ms|s) ", done.stdout)
    failed = re.search(r"requests: .* (\d+) failed, (\d+) errored", done.stdout)
    assert failed[1] == failed[2] == "0", done.stdout
    return rate, float(mean[1]) * {"us": 0.001, "ms": 1, "s": 1000}[mean[2]]


def over_grpc(server, model, rows, how, seconds):
    """Load a server over gRPC; a replica must have answered all with OK."""
    message = request(model, rows)
    headers = {**HEADERS, "content-type": "application/grpc", "te": "trailers"}
    before = server.answered() if isinstance(server, Replica) else None
    found = load(server.url, struct.pack(">BI", 0, len(message)) + message, how, seconds, headers)
    if before:
        after = server.answered()
        assert after[1] == before[1], "a request failed"
        assert after[0] - before[0] >= found[0] * seconds * 0.9
    return found


def over_rest(url, rows, how, seconds):
    import numpy as np

    pixels = np.random.default_rng(0).random((rows, 28, 28, 1)).round(3).tolist()
    connections = ("-c64",) if how is MANY else ("-c1",)
    body = json.dumps({"instances": pixels}).encode()
    return load(url, body, connections, seconds, {**HEADERS, "content-type": "application/json"}, h1=True)


# --- what is measured ---


def ways(folder):
    """Yield a name, a function that starts a server, and one that loads it: (server, rows, how, seconds)."""

    def grpc(server, rows, how, seconds):
        return over_grpc(server, "digits", rows, how, seconds)

    yield "bare gRPC echo", lambda: Echo(folder), grpc
    yield "replica, gRPC", lambda: Replica(folder), grpc
    yield "replica, gRPC, TLS", lambda: Replica(folder, tls=True), grpc
    yield (
        "replica, REST",
        lambda: Replica(folder),
        lambda server, rows, how, seconds: over_rest(
            f"{server.rest}/v1/models/digits/labels/stable:predict", rows, how, seconds
        ),
    )
    for name, text in APPLICATIONS.items():
        if importlib.util.find_spec(OTHERS[name]):
            yield name, lambda text=text: Other(folder, text), over_other


class Other(Server):
    def __init__(self, folder, text):
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = folder / "other.py"
        program.write_text(OTHER_APPLICATION + "if __name__ == '__main__':\n" + re.sub("(?m)^", "    ", text))
        super().__init__([sys.executable, str(program), str(folder / "digits" / "1"), str(port)])
        self.url = f"http://127.0.0.1:{port}/predict"

        def answers():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_for(answers, self.process)
        time.sleep(15)  # its workers load the model after it listens


def over_other(server, rows, how, seconds):
    return over_rest(server.url, rows, how, seconds)


def cell(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def compare(folder, rounds, seconds):
    measured = {}
    every = list(ways(folder))
    for number in range(rounds):
        for name, start, ask in every if number % 2 == 0 else every[::-1]:
            server = start()
            try:
                found = measured.setdefault(name, {"many": [], "one": [], "ms": [], "rows": []})
                found["many"].append(ask(server, 1, MANY, seconds)[0])
                rate, mean = ask(server, 1, ONE, seconds)
                found["one"].append(rate)
                found["ms"].append(mean)
                found["rows"].append(32 * ask(server, 32, MANY, seconds)[0])
            finally:
                server.stop()
    print("| | requests/s, 64 in flight | one at a time | ms of one | rows/s, 32 a request |\n|---|---|---|---|---|")
    for name, found in measured.items():
        cells = (cell(found["many"]), cell(found["one"]), cell(found["ms"], 2), cell(found["rows"]))
        print(f"| {name} | {' | '.join(cells)} |")


def batching(folder, rounds, seconds):
    found = {1: [], 64: []}
    for _ in range(rounds):
        for size, rates in found.items():
            server = Replica(folder, max_batch_size=size)
            try:
                rates.append(over_grpc(server, "wide", 1, MANY, seconds)[0])
            finally:
                server.stop()
    ratio = [many / one for one, many in zip(found[1], found[64], strict=True)]
    print("\n| 8M weights, requests/s, 64 in flight | no batching | batching | ratio |\n|---|---|---|---|")
    print(f"| replica, gRPC | {cell(found[1])} | {cell(found[64])} | {cell(ratio, 1)} |")


def own_work(folder):
    """Print what a request costs in the replica beside TensorFlow's call and gRPC, and what the call costs."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from slurm_tf.serve.replica.grpc_service import GrpcService
    from slurm_tf.serve.replica.inference import Inference
    from slurm_tf.serve.replica.metrics import Metrics
    from slurm_tf.serve.replica.model_table import ModelTable
    from slurm_tf.serve.replica.recorder import Recorder

    class Context:
        def time_remaining(self):
            return 10.0

    async def main():
        settings = ReplicaSettings("own", (ServedModel("digits", str(folder / "digits")),), str(folder), open=True)
        metrics = Metrics()
        with ThreadPoolExecutor(2) as threads:
            models = ModelTable(settings, threads, metrics)
            await models.look()
            service = GrpcService(Inference(models, metrics, 1 << 26, False), Recorder(metrics, None, 100))
            handle = service._handlers[PREDICT].unary_unary
            loaded = models.models["digits"].available[1].loaded
            signature = loaded.signatures["serving_default"]
            image = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
            data, call, output = request("digits", 1), loaded.call, [np.zeros((1, 10), np.float32)]
            calls = await timed(lambda: call(signature, ("output_0",), [image]))
            loaded.call = lambda *_: output
            own = await timed(lambda: handle(data, Context()))
            await models.close()
        print(f"\nThe model's call: {calls:.0f} us. The replica's own work a request: {own:.1f} us.")

    async def timed(what, number=5000):
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            for _ in range(number):
                found = what()
                if asyncio.iscoroutine(found):
                    await found
            times.append((time.perf_counter() - begin) / number * 1e6)
        return min(times)

    asyncio.run(main())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--echo", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        echo(options.echo)
    elif options.export:
        export(options.export)
    elif not shutil.which("h2load"):
        sys.exit("found no h2load; needed it, of nghttp2 (Debian: apt install nghttp2-client)")
    else:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            subprocess.run([sys.executable, __file__, "--export", made], check=True, stderr=subprocess.DEVNULL)
            compare(folder, options.rounds, options.seconds)
            batching(folder, options.rounds, options.seconds)
            own_work(folder)


if __name__ == "__main__":
    main()
