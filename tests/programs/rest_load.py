"""Asks a model over REST from several threads, and prints as JSON how many requests failed and which replicas answered.

    rest_load.py SOCKET|PORT MODEL REQUESTS THREADS [PAUSE]

Each request has a number of its own, and the answer must be that of this number. No request is asked twice.
"""

import collections
import http.client
import json
import socket
import sys
import threading
import time


class UnixConnection(http.client.HTTPConnection):
    """A connection over a socket of a path."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(self._path)


def main() -> None:
    """Ask, print a line at the first answer, and the result at the end."""
    where, model, requests, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    pause = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
    numbers, lock = iter(range(requests)), threading.Lock()
    failed: list[str] = []
    answered: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    first = threading.Event()

    def ask() -> None:
        nonlocal slowest
        connection = http.client.HTTPConnection("127.0.0.1", int(where), timeout=120) if where.isdigit() else None
        connection = connection or UnixConnection(where)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            began = time.monotonic()
            try:
                connection.request("POST", f"/v1/models/{model}:predict", json.dumps({"instances": [[number]]}))
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                with lock:
                    failed.append(repr(error))
                continue
            with lock:
                slowest = max(slowest, time.monotonic() - began)
                if answer.status != 200 or body.get("predictions") != [[2 * number]]:
                    failed.append(f"{answer.status}: {body}")
                answered[body.get("replica", "")] += 1
            first.set()
            time.sleep(pause)

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    first.wait(120)
    print("answered", flush=True)
    for worker in workers:
        worker.join()
    found = {"failed": failed[:20], "failures": len(failed), "answered": dict(answered), "slowest": slowest}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
