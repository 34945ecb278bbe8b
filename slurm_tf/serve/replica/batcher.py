"""Batches: requests of several clients become one call of the model.

A batch is what has come while the call before it ran, so that a client that is alone never waits for others; where a
timeout is set, what has come until then, or until the batch is full.

A call that takes less than QUICK_SECONDS runs on the event loop itself: a thread would wait for Python's lock before it
and after it, some milliseconds under load. Nothing comes while it runs, so its batch is as many requests as the last
one had, or those that have come until none came for _IDLE_SECONDS. One that takes more than _BESIDE_SECONDS is computed
by the process beside, if that has the version and takes it: requests are read meanwhile.
"""

import asyncio
import math
import time
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Callable, Deque, List, Optional, Sequence, Tuple

import numpy as np

from slurm_tf.serve.replica.call_process import Called, CallError
from slurm_tf.serve.replica.expected_requests import ExpectedRequests
from slurm_tf.serve.replica.request_error import Code, RequestError
from slurm_tf.serve.replica_settings import Batching

Arrays = List[np.ndarray]
# Begins a call in the process beside, see CallProcess.begin.
Begin = Callable[[Sequence[Arrays], int], "Optional[asyncio.Future[Called]]"]
QUICK_SECONDS = 0.005
# To hand a call to the process beside takes about 0.2 ms.
_BESIDE_SECONDS = 0.0015
# How long none has come when no more are expected; asyncio waits in whole milliseconds.
_IDLE_SECONDS = 0.001
# An answer is on its way for at least so many rounds of the event loop.
_ROUNDS = 3
# The weight of the last call in the average time of calls.
_WEIGHT = 0.1


@dataclass
class _Waiting:
    """A request that waits for its call; `alone`: a call of its own, without others' rows."""

    inputs: Arrays
    rows: int
    alone: bool
    deadline: float
    answer: "asyncio.Future[Arrays]"
    key: Tuple[Tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.key = tuple([each.shape[1:] for each in self.inputs])


class Batcher:
    """Gathers the requests for one signature and its outputs; lives on one event loop.

    `batched`: whether the rows of several requests can be one call. `seconds`: what a call takes, inf if unknown.
    """

    def __init__(
        self,
        call: Callable[[Sequence[np.ndarray]], Arrays],
        batched: bool,
        batching: Batching,
        threads: Executor,
        begin: Begin = lambda *_: None,
    ) -> None:
        self.seconds = math.inf
        self._row_seconds = 0.0
        self._begin_beside = begin
        self.calls = 0
        self._call, self._threads, self._batching = call, threads, batching
        self._max_rows = batching.max_batch_size if batched else 1
        self._max_waiting = batching.max_batch_size * batching.max_enqueued_batches
        self._waiting: Deque[_Waiting] = deque()
        self._rows = 0
        self._running = 0
        self._scheduled = False
        self._timeout: Optional[asyncio.TimerHandle] = None
        self._expected = ExpectedRequests()
        self._come = 0
        self._timer = False
        self._answering = 0

    def timed(self, inputs: Sequence[np.ndarray]) -> Arrays:
        """Call the model and remember how long that took. Raises RequestError."""
        begin = time.perf_counter()
        outputs = self._call(inputs)
        self._took(outputs, time.perf_counter() - begin)
        return outputs

    def _took(self, outputs: Sequence[np.ndarray], seconds: float) -> None:
        """Note how long a call took that had these outputs."""
        row_seconds = seconds / (len(outputs[0]) or 1) if self._max_rows > 1 and outputs[0].ndim else seconds
        self.calls += 1
        # the first call takes longer than those after it
        if self.calls <= 2:
            self.seconds, self._row_seconds = seconds, row_seconds
        else:
            self.seconds += _WEIGHT * (seconds - self.seconds)
            self._row_seconds += _WEIGHT * (row_seconds - self._row_seconds)

    async def run(self, inputs: Arrays, deadline: float, alone: bool) -> Arrays:
        """Return the outputs of a request. `alone`: the replica has no other now. Raises RequestError."""
        if self._answering:
            self._expected.another()
        elif alone and self._answers_at_once():
            self._answer_goes(asyncio.get_running_loop(), _ROUNDS)
            return self.timed(inputs)
        return await self.submit(inputs, deadline)

    def _answers_at_once(self) -> bool:
        """Return whether a client that is alone need not wait for others."""
        return (
            self.seconds < QUICK_SECONDS
            and not self._batching.batch_timeout_micros
            and not self._waiting
            and self._expected.number == 1
        )

    def _answer_goes(self, loop: asyncio.AbstractEventLoop, rounds: int) -> None:
        """Remember for some rounds of the loop that an answer is on its way: who asks now is another client."""
        self._answering = rounds
        if rounds:
            loop.call_soon(self._answer_goes, loop, rounds - 1)

    def submit(self, inputs: Arrays, deadline: float) -> "asyncio.Future[Arrays]":
        """Return what will have the outputs of a request; `deadline`: in seconds of time.monotonic.

        Raises RequestError if too many wait.
        """
        loop = asyncio.get_running_loop()
        rows, alone = self._size(inputs)
        if self._rows and self._rows + rows > self._max_waiting:
            raise RequestError(
                Code.UNAVAILABLE, f"The batch scheduling queue is full: {self._rows} rows wait for the model", busy=True
            )
        answer: asyncio.Future[Arrays] = loop.create_future()
        self._waiting.append(_Waiting(inputs, rows, alone, deadline, answer))
        self._rows += rows
        self._come += 1
        self._schedule(loop)
        return answer

    def _size(self, inputs: Arrays) -> Tuple[int, bool]:
        """Return how many rows a request has, and whether it must be a call of its own."""
        if self._max_rows == 1:
            return 1, True
        sizes = {len(each) if each.ndim else 0 for each in inputs}
        rows = max(sizes, default=0)
        return rows, len(sizes) != 1 or not 0 < rows <= self._max_rows

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the next batch begin once the requests are read that have come, or are expected.

        With a timeout: once it is full, or after that time.
        """
        if self._timeout is not None and self._rows >= self._max_rows:
            self._timeout.cancel()
            self._timeout, self._scheduled = None, False
        if self._scheduled or self._running >= self._batching.num_batch_threads:
            return
        timeout = self._batching.batch_timeout_micros / 1e6
        if not timeout and self._expects_more():
            self._await_more(loop)
            return
        self._scheduled = True
        if timeout and self._rows < self._max_rows:
            self._timeout = loop.call_later(timeout, self._begin, loop)
        else:
            loop.call_soon(self._begin, loop)

    def _expects_more(self) -> bool:
        return (
            self.seconds < QUICK_SECONDS
            and len(self._waiting) < self._expected.number
            and self._rows < self._max_rows
            and not self._waiting[-1].alone
        )

    def _await_more(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._timer:
            self._timer = True
            loop.call_later(_IDLE_SECONDS, self._idle, loop, self._come)

    def _idle(self, loop: asyncio.AbstractEventLoop, come: int) -> None:
        """Begin with those that wait, if none has come since there were `come`."""
        self._timer = False
        if self._scheduled or not self._waiting:
            return
        if self._come > come:
            self._schedule(loop)
        elif self._running < self._batching.num_batch_threads:
            self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled, self._timeout = False, None
        batch = self._next()
        if not batch:
            return
        beside = self._beside(batch)
        if beside or self.seconds < QUICK_SECONDS:
            self._expected.called(len(batch))
        if beside:
            self._running += 1
            beside.add_done_callback(lambda done: self._done_beside(loop, batch, done))
        elif self.seconds < QUICK_SECONDS:
            self._finish(batch, self._outcome(batch))
        else:
            self._running += 1
            running = loop.run_in_executor(self._threads, self._outcome, batch)
            running.add_done_callback(lambda done: self._done(loop, batch, done))
        if self._waiting:
            self._schedule(loop)

    def _beside(self, batch: List[_Waiting]) -> "Optional[asyncio.Future[Called]]":
        """Have the process beside compute a batch of many rows; None if it does not."""
        rows = sum(each.rows for each in batch)
        if batch[0].alone or rows * self._row_seconds < _BESIDE_SECONDS:
            return None
        parts = [list(each) for each in zip(*[each.inputs for each in batch])]
        return self._begin_beside(parts, self._padded(rows))

    def _done_beside(
        self, loop: asyncio.AbstractEventLoop, batch: List[_Waiting], done: "asyncio.Future[Called]"
    ) -> None:
        self._running -= 1
        try:
            called = done.result()
            outcomes: Sequence[Arrays | BaseException] = self._parts(called.outputs, batch)
            self._took(called.outputs, called.seconds)
        except (CallError, RequestError):
            # the same call here says what is wrong with which request
            outcomes = self._outcome(batch)
        self._finish(batch, outcomes)
        if self._waiting:
            self._schedule(loop)

    def _done(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: List[_Waiting],
        done: "asyncio.Future[List[Arrays | BaseException]]",
    ) -> None:
        self._running -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._finish(batch, done.result() if error is None else [error] * len(batch))
        if self._waiting:
            self._schedule(loop)

    def _next(self) -> List[_Waiting]:
        """Return the requests of the next batch: the first that waits, and those after it whose rows go with its."""
        batch: List[_Waiting] = []
        rows, now = 0, time.monotonic()
        while self._waiting:
            each = self._waiting[0]
            if batch and (each.alone or rows + each.rows > self._max_rows or each.key != batch[0].key):
                break
            self._waiting.popleft()
            self._rows -= each.rows
            if each.answer.done():
                continue
            if now >= each.deadline:
                each.answer.set_exception(RequestError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded"))
                continue
            batch.append(each)
            rows += each.rows
            if each.alone:
                break
        return batch

    def _outcome(self, batch: List[_Waiting]) -> "List[Arrays | BaseException]":
        """Call the model; return outputs or error of each request. An error of several is asked for one by one."""
        if len(batch) == 1:
            return [self._alone(batch[0])]
        try:
            return list(self._together(batch))
        except RequestError:
            return [self._alone(each) for each in batch]

    def _alone(self, waiting: _Waiting) -> "Arrays | BaseException":
        try:
            if waiting.alone or not self._batching.allowed_batch_sizes:
                return self.timed(waiting.inputs)
            return self._together([waiting])[0]
        except RequestError as error:
            return error

    def _together(self, batch: List[_Waiting]) -> List[Arrays]:
        """Return the outputs of each request of a batch that is one call. Raises RequestError."""
        rows = sum(each.rows for each in batch)
        inputs = [np.concatenate(parts) for parts in zip(*[each.inputs for each in batch])]
        size = self._padded(rows)
        if size > rows:
            inputs = [np.concatenate([each, np.repeat(each[:1], size - rows, axis=0)]) for each in inputs]
        return self._parts(self.timed(inputs), batch)

    def _padded(self, rows: int) -> int:
        """Return how many rows a call of so many has with those that are added up to an allowed size."""
        return next((each for each in self._batching.allowed_batch_sizes if each >= rows), rows)

    def _parts(self, outputs: Arrays, batch: List[_Waiting]) -> List[Arrays]:
        """Return the rows of each request of a batch. Raises RequestError for outputs without rows."""
        size = self._padded(sum(each.rows for each in batch))
        for each in outputs:
            if not each.ndim or len(each) != size:
                self._max_rows = 1  # the signature says that its outputs have rows, and they have none
                raise RequestError(Code.INTERNAL, f"{size} rows gave an output of shape {list(each.shape)}")
        parts, begin = [], 0
        for waiting in batch:
            parts.append([each[begin : begin + waiting.rows] for each in outputs])
            begin += waiting.rows
        return parts

    @staticmethod
    def _finish(batch: List[_Waiting], outcomes: "Sequence[Arrays | BaseException]") -> None:
        for waiting, outcome in zip(batch, outcomes):
            if waiting.answer.done():
                continue
            if isinstance(outcome, BaseException):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
