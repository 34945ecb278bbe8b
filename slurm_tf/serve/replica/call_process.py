"""The process beside a replica's event loop that computes calls of many rows, as the replica sees it.

A call on the event loop keeps it from reading requests, and a thread that computes one waits for Python's lock before
and after it. Inputs and outputs are in memory that both processes share. The process is a fork of the replica, made
before that has threads of its own or a session of TensorFlow: what TensorFlow's import made is in memory once. It has
only versions whose calls one thread computes: those are small, and in memory twice.

Where the process is lost or late, the replica computes all calls itself from then on.
"""

import asyncio
import contextlib
import itertools
import mmap
import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from slurm_tf.serve.replica import call_messages, tensors
from slurm_tf.serve.replica.call_messages import Answer, Call, Load, Unload
from slurm_tf.serve.replica.replica_log import say
from slurm_tf.serve.replica.signatures import ServedSignature

# Calls that the process has at a time: one that it computes, and the next one.
_SLOTS = 2
# Of inputs and outputs of a call; only pages that are used take memory.
_SLOT_BYTES = 16 << 20
# A process that has not answered by then is lost: a call takes some milliseconds.
_CALL_SECONDS, _LOAD_SECONDS = 5.0, 120.0

# Does what the messages of a connection say, in the process.
Compute = Callable[[Connection, mmap.mmap], None]


@dataclass(frozen=True)
class Called:
    """The outputs of a call, and how long TensorFlow took for it."""

    outputs: List[np.ndarray]
    seconds: float


class CallError(Exception):
    """The process has not done what it was asked for."""


@dataclass(frozen=True)
class _Asked:
    """A message that is not answered. `slot`: the part of the memory that a call has."""

    answer: "asyncio.Future[Called]"
    late: asyncio.TimerHandle
    slot: Optional[int]


class CallProcess:
    """The process and what it is asked for; lives on one event loop."""

    def __init__(self, compute: Compute) -> None:
        """Fork it; it does `compute`."""
        context = multiprocessing.get_context("fork")
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
        self._connection, other = context.Pipe()
        self._process = context.Process(target=self._run, args=(compute, other))
        self._process.start()
        other.close()
        self._free = list(range(_SLOTS))
        self._asked: Dict[int, _Asked] = {}
        self._numbers = itertools.count(1)
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._ended = False

    def _run(self, compute: Compute, connection: Connection) -> None:
        # else its own copy keeps the connection open when the replica has ended
        self._connection.close()
        compute(connection, self._memory)

    async def load(self, path: str) -> "Optional[VersionBeside]":
        """Return the version of a folder as the process has it, None where it cannot load it."""
        if self._ended:
            return None
        number = next(self._numbers)
        try:
            await self._ask(Load(number, path), None, _LOAD_SECONDS)
        except CallError:
            return None
        return VersionBeside(self, number)

    def begin(
        self, version: int, signature: str, outputs: Tuple[str, ...], parts: Sequence[Sequence[np.ndarray]], size: int
    ) -> "Optional[asyncio.Future[Called]]":
        """Begin a call; return what will have its outputs, or CallError. None where the process takes no call now.

        `parts`: for each input the arrays whose rows are its first rows; its first row again makes up its `size`.
        """
        # a call that waits until a version is loaded is quicker here
        if not self._free or self._ended or any(each.slot is None for each in self._asked.values()):
            return None
        slot = self._free[-1]
        end = (slot + 1) * _SLOT_BYTES
        kinds = [(arrays[0].dtype, (size, *arrays[0].shape[1:])) for arrays in parts]
        inputs = call_messages.place(kinds, slot * _SLOT_BYTES, end)
        if inputs is None:
            return None
        for each, arrays in zip(inputs, parts):
            view, rows = each.view(self._memory), sum(map(len, arrays))
            np.concatenate(arrays, out=view[:rows])
            view[rows:] = view[:1]
        self._free.pop()
        call = Call(next(self._numbers), version, signature, outputs, inputs, end)
        return self._ask(call, slot, _CALL_SECONDS)

    async def unload(self, version: int) -> None:
        """Free the memory of a version."""
        if self._ended:
            return
        with contextlib.suppress(CallError):
            await self._ask(Unload(next(self._numbers), version), None, _LOAD_SECONDS)

    def _ask(self, message: Union[Load, Unload, Call], slot: Optional[int], seconds: float) -> "asyncio.Future[Called]":
        """Send a message; return what will have what it led to, or CallError."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            loop.add_reader(self._connection.fileno(), self._read)
        answer: asyncio.Future[Called] = loop.create_future()
        late = loop.call_later(seconds, self._lose, f"no answer in {seconds:.0f} s")
        self._asked[message.number] = _Asked(answer, late, slot)
        try:
            self._connection.send(message)
        except OSError as error:
            self._lose(str(error))
        return answer

    def _read(self) -> None:
        """Read one answer."""
        try:
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            self._lose("it has ended")
            return
        asked = self._asked.pop(answer.number)
        asked.late.cancel()
        outputs = [each.view(self._memory).copy() for each in answer.outputs]
        if asked.slot is not None:
            self._free.append(asked.slot)
        if asked.answer.done():
            return
        if answer.error:
            asked.answer.set_exception(CallError(answer.error))
        else:
            asked.answer.set_result(Called(outputs, answer.seconds))

    def _lose(self, why: str) -> None:
        """Do without the process from now on."""
        if not self._ended:
            say(f"the process for calls of many rows, {self._process.pid}, is lost: {why}; goes on without it")
        self.end()

    def end(self) -> None:
        """End the process; what it was asked for fails."""
        if self._ended:
            return
        self._ended = True
        if self._loop is not None:
            self._loop.remove_reader(self._connection.fileno())
        self._connection.close()
        self._process.kill()
        self._process.join()
        asked, self._asked = self._asked, {}
        for each in asked.values():
            each.late.cancel()
            # nobody waits on a loop that is closed
            if self._loop and not self._loop.is_closed() and not each.answer.done():
                each.answer.set_exception(CallError("the process has ended"))


@dataclass(frozen=True)
class VersionBeside:
    """A version that the process has loaded, by its number there."""

    process: CallProcess
    number: int

    def begin(
        self, signature: ServedSignature, outputs: Tuple[str, ...], parts: Sequence[Sequence[np.ndarray]], size: int
    ) -> "Optional[asyncio.Future[Called]]":
        """Begin a call as CallProcess.begin does; None for a signature with strings, too: those cannot be shared."""
        infos = [*signature.inputs.values(), *[signature.outputs[name] for name in outputs]]
        if any(each.dtype == tensors.STRING for each in infos):
            return None
        return self.process.begin(self.number, signature.name, outputs, parts, size)

    async def unload(self) -> None:
        """Free its memory."""
        await self.process.unload(self.number)


def fork(compute: Compute) -> Optional[CallProcess]:
    """Return the process, None where calls may use one core alone: there is none for it.

    Replica processes of a task have its cores together, and TF_NUM_INTRAOP_THREADS each (replica_task).
    """
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    if threads.isdecimal() and int(threads):
        cores = min(cores, int(threads))
    return CallProcess(compute) if cores > 1 else None
