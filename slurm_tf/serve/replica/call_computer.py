"""The process beside a replica: it loads versions and computes calls until the replica closes its connection."""

import mmap
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Dict, Union

import tensorflow as tf

from slurm_tf.errors import ModelError
from slurm_tf.serve.replica import call_messages, warmup
from slurm_tf.serve.replica.call_messages import Answer, Call, Load, Unload
from slurm_tf.serve.replica.loaded_version import LoadedVersion
from slurm_tf.serve.replica.request_error import RequestError
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.replica_settings import Batching


def compute(connection: Connection, memory: mmap.mmap) -> None:
    """Do what the messages of a connection say, until it is closed."""
    # Slurm signals every process of a step: the replica decides when this one ends
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    tf.get_logger().setLevel("ERROR")  # the replica warns of the same versions
    versions: Dict[int, LoadedVersion] = {}
    while True:
        try:
            connection.send(_answer(connection.recv(), versions, memory))
        except (EOFError, ConnectionError):
            return


def _answer(message: Union[Load, Unload, Call], versions: Dict[int, LoadedVersion], memory: mmap.mmap) -> Answer:
    if isinstance(message, Load):
        return _load(message, versions)
    if isinstance(message, Unload):
        versions.pop(message.version).close()
        return Answer(message.number)
    return _call(message, versions[message.version], memory)


def _load(message: Load, versions: Dict[int, LoadedVersion]) -> Answer:
    try:
        loaded = LoadedVersion(message.number, message.path, one_thread=True)
    except ModelError as error:
        return Answer(message.number, str(error))
    try:
        # nothing waits for others here: batches take no thread
        warmup.warm_up(ServedVersion("", loaded, Batching(), ThreadPoolExecutor(1)), message.path)
    except (RequestError, OSError) as error:
        loaded.close()
        return Answer(message.number, str(error))
    versions[message.number] = loaded
    return Answer(message.number)


def _call(message: Call, version: LoadedVersion, memory: mmap.mmap) -> Answer:
    inputs = [each.view(memory) for each in message.inputs]
    begin = time.perf_counter()
    try:
        found = version.call(version.signatures[message.signature], message.outputs, inputs)
    except RequestError as error:
        return Answer(message.number, error.message)
    seconds = time.perf_counter() - begin
    placed = call_messages.place([(each.dtype, each.shape) for each in found], message.inputs[-1].end, message.end)
    if placed is None:
        return Answer(message.number, "its outputs take more memory than a call has")
    for each, array in zip(placed, found):
        each.view(memory)[...] = array
    return Answer(message.number, "", placed, seconds)
