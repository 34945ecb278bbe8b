"""Measures a replica under load, beside a bare gRPC server in Python that sends back what it gets.

    python benchmarks/serve.py [--seconds 3] [--rounds 3] [--peers PYTHON]

Needs h2load (Debian: nghttp2-client), which makes the load. Prints a Markdown table, without TLS and with it: requests
a second with 64 in flight (gRPC: 4 connections of 16 streams, REST: 64 connections) and with one, the time of one, and
rows a second with 32 rows a request; then the ratios that count, what batching gives on a model of 8 million weights,
and what a request costs the replica beside TensorFlow and gRPC. Every server is a process of its own; a round is one
run of each, and the next round runs them in reverse order. Cells are medians of the rounds with the smallest and
largest; a ratio is of one round. Every request that a replica answered must count as OK in its metrics. The replica
asks for its token, counts its metrics and finds the version by a label. LitServe, BentoML and Ray Serve take part where
--peers names an interpreter that has one of them beside TensorFlow (benchmarks/serve_peers/): they answer REST, and
ask for no token.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

from benchmarks.serve_programs import PREDICT, TOKEN, message
from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.replica import certificate
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, ServedModel

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PROGRAMS = str(ROOT / "benchmarks" / "serve_programs.py")
MANY, ONE = 64, 1
# Of a call of the replica: those of several requests.
MOST_ROWS = Batching().max_batch_size
PEERS = {"litserve": "LitServe", "bentoml": "BentoML", "ray": "Ray Serve"}
ECHO, GRPC, REST = "bare gRPC echo", "replica, gRPC", "replica, REST"


@functools.cache
def document(rows):
    """Return the body of a REST request."""
    import numpy as np

    pixels = np.random.default_rng(0).random((rows, 28, 28, 1)).round(3).tolist()
    return json.dumps({"instances": pixels}).encode()


# --- the servers ---


class Server:
    """A server by its command, with all the processes that it starts; `asks`: how to load it, by the name of a row."""

    def __init__(self, command, folder):
        self.log = (folder / "server.log").open("w+")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, cwd=folder, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(folder / "bentoml")},
        )  # fmt: skip

    def wait_for(self, ready):
        end = time.monotonic() + 120
        while not ready():
            assert self.process.poll() is None, Path(self.log.name).read_text()
            assert time.monotonic() < end, Path(self.log.name).read_text()
            time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


class Echo(Server):
    def __init__(self, folder, tls):
        port = folder / "echo.port"
        port.unlink(missing_ok=True)
        super().__init__([sys.executable, PROGRAMS, "echo", str(folder), *(pair(folder) if tls else [])], folder)
        self.wait_for(lambda: port.exists() and port.read_text())
        self.grpc = f"{scheme(tls)}://127.0.0.1:{port.read_text()}{PREDICT}"
        self.asks = {ECHO: lambda *how: over_grpc(self, "digits", *how)}


class Replica(Server):
    def __init__(self, folder, tls=False, max_batch_size=MOST_ROWS):
        endpoints = folder / "endpoints"
        endpoints.mkdir(mode=0o700, exist_ok=True)
        models = tuple(
            ServedModel(name, str(folder / name), Batching(max_batch_size=max_batch_size))
            for name in ("digits", "wide")
        )
        settings = ReplicaSettings(
            "measured", models, str(endpoints), token_file=str(folder / "token"), plaintext=not tls,
            connection_seconds=3600,
        )  # fmt: skip
        replica_settings.write(str(folder / "settings.json"), settings)
        endpoint.remove(str(endpoints), "measured")
        super().__init__([sys.executable, "-m", "slurm_tf.serve.replica", str(folder / "settings.json")], folder)
        path = Path(endpoint.path(str(endpoints), "measured"))
        self.wait_for(path.exists)
        at = endpoint.read(str(path))
        self.grpc = f"{scheme(tls)}://127.0.0.1:{at.grpc_port}{PREDICT}"
        self.rest = f"{scheme(tls)}://127.0.0.1:{at.rest_port}"
        url = f"{self.rest}/v1/models/digits/labels/stable:predict"
        self.asks = {
            GRPC: lambda *how: over_grpc(self, "digits", *how),
            REST: lambda *how: self.counted(lambda: over_rest(url, *how), how[-1]),
        }

    def counted(self, ask, seconds):
        """Return what `ask` returns, a rate first, once the metrics say that all was answered with OK."""
        before = self.answered()
        found = ask()
        after = self.answered()
        assert after[1] == before[1], "a request failed"
        assert after[0] - before[0] >= found[0] * seconds * 0.9
        return found

    def answered(self):
        """Return how many requests were OK, and how many were not; h2load cancels those that it has at its end."""
        with get(f"{self.rest}/monitoring/prometheus/metrics") as answer:
            counts = re.findall(r'request_count\{.*status="(\w+)"\} ([0-9.e+]+)', answer.read().decode())
        return sum(float(count) for status, count in counts if status == "OK"), sum(
            float(count) for status, count in counts if status not in ("OK", "CANCELLED")
        )


class Peer(Server):
    """A server of benchmarks/serve_peers/."""

    def __init__(self, folder, python, name, tls):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [str(folder / "digits" / "1"), str(port)]
        words += pair(folder) if tls else []
        super().__init__([python, str(ROOT / "benchmarks" / "serve_peers" / f"{name}_server.py"), *words], folder)
        url = f"{scheme(tls)}://127.0.0.1:{port}/predict"
        self.wait_for(lambda: self.answers(url))
        self.asks = {PEERS[name]: lambda *how: over_rest(url, *how)}

    def answers(self, url):
        with contextlib.suppress(OSError), get(url, document(1)) as answer:
            return len(json.load(answer))
        return False


def pair(folder):
    """Return the files of a certificate and its key."""
    return [str(folder / "certificate.pem"), str(folder / "key.pem")]


def scheme(tls):
    return "https" if tls else "http"


def get(url, body=None):
    request = urllib.request.Request(url, body, {**HEADERS, "Content-Type": "application/json"})  # noqa: S310 - ours
    context = ssl._create_unverified_context() if url.startswith("https") else None  # noqa: S323 - our own
    return urllib.request.urlopen(request, context=context, timeout=10)  # noqa: S310


# --- the load ---


def load(url, body, words, seconds, headers):
    """Return requests a second, and the mean time of a request in milliseconds; 0 and NaN where none was answered.

    h2load connects again and again to a server that resets its connections, and does not end then.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        argv = ["h2load", "-D", str(seconds), "--warm-up-time=1", *words, "-d", file.name, "-t1"]
        argv += [part for key, value in headers.items() for part in ("-H", f"{key}: {value}")]
        try:
            done = subprocess.run([*argv, url], capture_output=True, text=True, timeout=seconds + 60, check=True)
        except subprocess.TimeoutExpired:
            return 0.0, math.nan
    rate = float(re.search(r"finished in [^,]*, ([0-9.]+) req/s", done.stdout)[1])
    mean = re.search(r"time for request: +\S+ +\S+ +([0-9.]+)(us|ms|s) ", done.stdout)
    failed = re.search(r"requests: .* (\d+) failed, (\d+) errored", done.stdout)
    assert failed[1] == failed[2] == "0", done.stdout
    return rate, float(mean[1]) * {"us": 0.001, "ms": 1, "s": 1000}[mean[2]]


def over_grpc(server, model, rows, in_flight, seconds):
    """Load a server over gRPC; a replica must have answered all with OK."""
    headers = {**HEADERS, "content-type": "application/grpc", "te": "trailers"}
    data = message(model, rows)
    body = struct.pack(">BI", 0, len(data)) + data
    words = ("-c4", f"-m{in_flight // 4}") if in_flight > 1 else ("-c1", "-m1")

    def ask():
        return load(server.grpc, body, words, seconds, headers)

    return server.counted(ask, seconds) if isinstance(server, Replica) else ask()


def over_rest(url, rows, in_flight, seconds):
    headers = {**HEADERS, "content-type": "application/json"}
    return load(url, document(rows), ("--h1", f"-c{in_flight}"), seconds, headers)


# --- what is measured ---


def servers(folder, tls, peers):
    """Return functions that start a server each."""
    found = [lambda: Echo(folder, tls), lambda: Replica(folder, tls)]
    for name in PEERS:
        program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
        if peers and subprocess.run([peers, "-c", program], check=False).returncode == 0:
            found.append(lambda name=name: Peer(folder, peers, name, tls))
    return found


def cell(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def measure(folder, tls, peers, rounds, seconds):
    """Return what each server does in each round, by the name of its row."""
    measured = {}
    every = servers(folder, tls, peers)
    for number in range(rounds):
        for start in every if number % 2 == 0 else every[::-1]:
            server = start()
            try:
                for name, ask in server.asks.items():
                    found = measured.setdefault(name, {"many": [], "one": [], "ms": [], "rows": []})
                    found["many"].append(ask(1, MANY, seconds)[0])
                    rate, mean = ask(1, ONE, seconds)
                    found["one"].append(rate)
                    found["ms"].append(mean)
                    found["rows"].append(32 * ask(32, MANY, seconds)[0])
            finally:
                server.stop()
    return measured


def print_measured(measured, tls):
    heads = ("requests/s, 64 in flight", "one at a time", "ms of one", "rows/s, 32 a request")
    print(f"| {'TLS' if tls else 'no TLS'} | {' | '.join(heads)} |\n|---|---|---|---|---|")
    for name, found in measured.items():
        cells = (cell(found["many"]), cell(found["one"]), cell(found["ms"], 2), cell(found["rows"]))
        print(f"| {name} | {' | '.join(cells)} |")
    print()


def ratios(first, second):
    """Return the ratio of each round; inf where the other server answered none in time."""
    return [one / other if other else math.inf for one, other in zip(first, second, strict=True)]


def best_peer(measured, what):
    """Return the best of the other servers in each round."""
    rows = [measured[name][what] for name in PEERS.values() if name in measured]
    return [max(each) for each in zip(*rows, strict=True)]


def print_ratios(measured, call):
    """Print what is wanted of a replica; `call`: of the model, in milliseconds."""
    ours, rest, bare = measured[GRPC], measured[REST], measured[ECHO]
    limits = [2 * each + call for each in bare["ms"]]
    lines = [
        ("gRPC, 64 in flight, to the bare echo", ratios(ours["many"], bare["many"]), "at least 0.5"),
        ("gRPC, rows/s, 32 a request, to requests/s of one row", ratios(ours["rows"], ours["many"]), "at least 12"),
        ("gRPC, ms of one, to twice the bare echo's and the model's call", ratios(ours["ms"], limits), "at most 1"),
    ]
    if any(name in measured for name in PEERS.values()):
        many, rows = best_peer(measured, "many"), best_peer(measured, "rows")
        lines.append(("REST, 64 in flight, to the best of the others", ratios(rest["many"], many), "at least 3"))
        lines.append(("REST, rows/s, 32 a request, to the best of the others", ratios(rest["rows"], rows), ""))
    print("| of the replica | ratio | wanted |\n|---|---|---|")
    for name, found, wanted in lines:
        print(f"| {name} | {cell(found, 2)} | {wanted} |")
    print()


def batching(folder, rounds, seconds):
    found = {1: [], MOST_ROWS: []}
    for _ in range(rounds):
        for size, rates in found.items():
            server = Replica(folder, max_batch_size=size)
            try:
                rates.append(over_grpc(server, "wide", 1, MANY, seconds)[0])
            finally:
                server.stop()
    print("| 8M weights, requests/s, 64 in flight | no batching | batching | ratio |\n|---|---|---|---|")
    alone, together = found.values()
    print(f"| replica, gRPC | {cell(alone)} | {cell(together)} | {cell(ratios(together, alone), 1)} |\n")


def prepare(folder):
    """Write what the servers need: the models, a token, a certificate."""
    printed("export", folder)
    made = certificate.own(["127.0.0.1"])
    for name, data in (("token", TOKEN.encode()), ("certificate.pem", made.chain), ("key.pem", made.key)):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)


def printed(program, folder):
    """Return what a program of benchmarks/serve_programs.py prints."""
    words = [sys.executable, PROGRAMS, program, str(folder)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load, after one that does not count")
    parser.add_argument(
        "--peers", metavar="PYTHON", help="an interpreter with LitServe, BentoML, Ray Serve, TensorFlow"
    )
    options = parser.parse_args()
    if not shutil.which("h2load"):
        sys.exit("found no h2load; needed it, of nghttp2 (Debian: apt install nghttp2-client)")
    with tempfile.TemporaryDirectory() as made:
        compare(Path(made), options)


def compare(folder, options):
    prepare(folder)
    call, rows_alone, work = map(float, printed("own-work", folder).split())
    for tls in (False, True):
        measured = measure(folder, tls, options.peers, options.rounds, options.seconds)
        print_measured(measured, tls)
        print_ratios(measured, call / 1000)
    batching(folder, options.rounds, options.seconds)
    print(
        f"The model's call: {call:.0f} us; alone, in calls of {MOST_ROWS} rows, it computes {rows_alone:,.0f} rows/s. "
        f"The replica's own work a request: {work:.1f} us (at most 25)."
    )


if __name__ == "__main__":
    main()
