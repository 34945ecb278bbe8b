"""A replica computes calls of many rows in a process beside its event loop, and goes on without that process."""

import mmap
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica_settings import Batching
from tests.serve.running_replica import TOKEN, Replica, predict_request, wait_for

ROWS, ELEMENTS = 1000, 128


class Client:
    """Asks a replica for many rows, one request after the other, and looks at every answer."""

    def __init__(self, replica: Replica, number: int) -> None:
        self.replica, self.answers = replica, 0
        self.wrong: list[str] = []
        self.x = np.arange(number, number + ROWS * ELEMENTS, dtype=np.float32).reshape(ROWS, ELEMENTS)
        self.expected = self.x[:, 108:110].ravel()

    def run(self, stop: threading.Event) -> None:
        import grpc

        request = predict_request("rolled", {"x": self.x}).SerializeToString()
        with self.replica.channel() as channel:
            method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while not stop.is_set():
                try:
                    answer = method(request, metadata=[("authorization", f"Bearer {TOKEN}")], timeout=30)
                except grpc.RpcError as error:
                    self.wrong.append(str(error))
                    continue
                if not np.array_equal(output(answer), self.expected):
                    self.wrong.append("an answer of other rows")
                self.answers += 1


def output(answer: bytes) -> Any:
    return np.array(protocol.PredictResponse.FromString(answer).outputs["y"].float_val, np.float32)


@contextmanager
def clients(replica: Replica) -> Iterator[list[Client]]:
    """Have eight clients ask during the block; all their answers must be right."""
    asking, stop = [Client(replica, number) for number in range(8)], threading.Event()
    threads = [threading.Thread(target=client.run, args=[stop]) for client in asking]
    for thread in threads:
        thread.start()
    try:
        yield asking
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert [client.wrong[:2] for client in asking] == [[]] * 8
    assert all(client.answers for client in asking)


@pytest.fixture
def rolled(models: Path, tmp_path: Path) -> Iterator[Replica]:
    """Return a replica of the model `rolled`."""
    batching = Batching(max_batch_size=2048)
    running = Replica(tmp_path / "replica", {"rolled": models / "rolled"}, batching, plaintext=True).ready()
    yield running
    running.process.kill()
    running.process.wait(60)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def more_answers(asking: list[Client], number: int = 100) -> None:
    before = sum(client.answers for client in asking)
    wait_for(lambda: sum(client.answers for client in asking) >= before + number)


def has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_it_computes_many_rows_and_outlives_a_signal_to_the_step(rolled: Replica) -> None:
    import grpc

    if len(os.sched_getaffinity(0)) < 2:
        assert rolled.beside() == []  # there is no core for it
        return
    (beside,) = rolled.beside()
    begin = processor_seconds(beside)
    with clients(rolled) as asking:
        wait_for(lambda: processor_seconds(beside) > begin + 0.3)
        # Slurm signals all processes of a step; a request that fails does not fail those of its batch
        os.kill(beside, signal.SIGTERM)
        os.kill(beside, signal.SIGINT)
        negative = predict_request("rolled", {"x": -asking[1].x})
        with pytest.raises(grpc.RpcError, match="found a negative element"):
            rolled.call("Predict", negative)
        begin = processor_seconds(beside)
        wait_for(lambda: processor_seconds(beside) > begin + 0.3)
    assert rolled.stop() == 0
    assert has_ended(beside)
    assert "lost" not in rolled.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_no_request_fails_when_it_is_lost(rolled: Replica, number: signal.Signals) -> None:
    with clients(rolled) as asking:
        more_answers(asking)
        for beside in rolled.beside():
            os.kill(beside, number)
            wait_for(lambda: "is lost" in rolled.log.read_text())
        more_answers(asking)
        assert rolled.beside() == []
    assert rolled.stop() == 0


def test_it_ends_with_a_replica_that_is_killed(rolled: Replica) -> None:
    beside = rolled.beside()
    rolled.process.kill()
    rolled.process.wait(60)
    wait_for(lambda: all(has_ended(pid) for pid in beside), 10)


@pytest.mark.parametrize(("cores", "threads"), [({0}, ""), ({0}, "8"), ({0, 1, 2}, "1")])
def test_there_is_none_without_a_core_for_it(monkeypatch: pytest.MonkeyPatch, cores: set[int], threads: str) -> None:
    from slurm_tf.serve.replica import call_process

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
    assert call_process.fork(lambda *_: None) is None


@hypothesis.given(st.lists(st.tuples(st.sampled_from("bhfd?"), st.lists(st.integers(0, 9), max_size=3))))
def test_arrays_in_shared_memory_are_apart_and_aligned(kinds: list[tuple[str, list[int]]]) -> None:
    from slurm_tf.serve.replica import call_messages

    placed = call_messages.place([(np.dtype(kind), tuple(shape)) for kind, shape in kinds], 4096, 8192)
    if placed is None:
        assert sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in kinds) > 4096 - 64 * len(kinds)
        return
    with mmap.mmap(-1, 8192) as memory:
        values: list[Any] = [np.full(each.shape, number, each.dtype) for number, each in enumerate(placed)]
        for each, value in zip(placed, values):
            each.view(memory)[...] = value
        assert all(np.array_equal(each.view(memory), value) for each, value in zip(placed, values))
        assert not any(memory[:4096])
    assert all(each.offset % 64 == 0 for each in placed)
