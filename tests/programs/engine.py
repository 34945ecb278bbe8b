"""A small engine: a scheduler with two queues, workers that square numbers, and a driver that adds them up.

It knows its task, the others' addresses and the secret from its environment alone. The driver waits until it has heard
of each worker. Arguments: what goes wrong, if anything is to, at the first start of a task: "worker:1=memory",
"driver:0=exit".
"""

import json
import os
import queue
import sys
import time
from multiprocessing.managers import BaseManager
from typing import Any

NUMBERS = range(200)


class Queues(BaseManager):
    """The scheduler's queues: `todo` has numbers; `done` has squares, and the names of workers."""


def serve(address: tuple[str, int], key: bytes) -> None:
    """Serve the queues until somebody ends this process."""
    queues: dict[str, queue.Queue[Any]] = {"todo": queue.Queue(), "done": queue.Queue()}
    for name, each in queues.items():
        Queues.register(name, callable=lambda each=each: each)
    Queues(address, key).get_server().serve_forever()


def connect(address: tuple[str, int], key: bytes) -> tuple[Any, Any]:
    """Return the scheduler's queues, once it is there."""
    Queues.register("todo")
    Queues.register("done")
    manager: Any = Queues(address, key)
    while True:
        try:
            manager.connect()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return manager.todo(), manager.done()


def drive(todo: Any, done: Any, workers: set[str]) -> int:
    """Return the sum of the squares, once all `workers` have said that they are there."""
    for number in NUMBERS:
        todo.put(number)
    squares: list[int] = []
    while workers or len(squares) < len(NUMBERS):
        result = done.get()
        if isinstance(result, int):
            squares.append(result)
        else:
            workers.discard(result)
    return sum(squares)


def main() -> None:
    """Do what this task's role does."""
    task, key = os.environ["SLURM_TF_TASK"], bytes.fromhex(os.environ["SLURM_TF_ENGINE_SECRET"])
    fails = sys.argv[1:] if os.environ["SLURM_TF_RESTARTS"] == "0" else []
    cluster = json.loads(os.environ["SLURM_TF_CLUSTER"])
    host, _, port = cluster["scheduler"][0].rpartition(":")
    print(f"has {os.environ.get('SLURM_TF_MEM', 'unknown')} MiB at {os.environ['SLURM_TF_ADDRESS']}", flush=True)
    if task == "scheduler:0":
        serve((host, int(port)), key)
    if f"{task}=memory" in fails:
        print(len(b"x" * (int(os.environ["SLURM_TF_MEM"]) << 21)))
    todo, done = connect((host, int(port)), key)
    if task == "driver:0":
        workers = {f"worker:{index}" for index in range(len(cluster["worker"]))}
        print(f"sum {drive(todo, done, workers)}", flush=True)
        sys.exit(3 if f"{task}=exit" in fails else 0)
    try:
        done.put(task)
        while True:
            done.put(todo.get() ** 2)
    except (EOFError, ConnectionError):
        sys.exit(1)  # the scheduler has ended; at the job's end that is a moment before this worker


if __name__ == "__main__":
    main()
