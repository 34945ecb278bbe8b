"""A version of a model that answers requests: the loaded SavedModel, its batches, and how many requests it has."""

import asyncio
import functools
import time
from concurrent.futures import Executor
from typing import Any, Awaitable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from slurm_tf.serve.replica import signatures, tensors
from slurm_tf.serve.replica.batcher import Arrays, Batcher
from slurm_tf.serve.replica.call_process import Called, VersionBeside
from slurm_tf.serve.replica.loaded_version import LoadedVersion
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.signatures import ServedSignature
from slurm_tf.serve.replica_settings import Batching

# How long a version that nobody asks any more is kept for the requests that it has.
_DRAIN_SECONDS, _DRAIN_POLL_SECONDS = 60.0, 0.05


class ServedVersion:
    """A version of the model `model`; lives on one event loop. It stays in memory during a `with` block of it.

    `beside`: the same version in the process that computes calls of many rows; set before the first request.
    """

    def __init__(self, model: str, loaded: LoadedVersion, batching: Batching, threads: Executor) -> None:
        self.model, self.loaded, self.number = model, loaded, loaded.number
        self._batching, self._threads = batching, threads
        self._batchers: Dict[Tuple[str, Tuple[str, ...]], Batcher] = {}
        self._requests = 0
        self.beside: Optional[VersionBeside] = None

    def signature(self, name: str) -> ServedSignature:
        """Return a signature, "" for the default one. Raises RequestError."""
        return signatures.find(self.loaded.signatures, name)

    def predict_call(self, request: Any, max_bytes: int) -> Tuple[ServedSignature, Tuple[str, ...], List[np.ndarray]]:
        """Return signature, outputs and inputs of the call that a PredictRequest asks for. Raises RequestError.

        `max_bytes`: of a tensor.
        """
        signature = self.signature(request.model_spec.signature_name)
        sent = request.inputs
        given = {name: tensors.array_of(sent[name], max_bytes) for name in sent}
        return signature, signature.chosen(request.output_filter), signature.arrays(given)

    def __enter__(self) -> "ServedVersion":
        # a context manager of contextlib would take five times as long, in each request
        self._requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._requests -= 1

    def batcher(self, signature: ServedSignature, outputs: Tuple[str, ...]) -> Batcher:
        """Return the batches of a signature and its outputs."""
        key = (signature.name, outputs)
        found = self._batchers.get(key)
        if found is None:
            call = functools.partial(self._call, signature, outputs)
            begin = functools.partial(self._begin, signature, outputs)
            found = self._batchers[key] = Batcher(call, signature.batched, self._batching, self._threads, begin)
        return found

    def _call(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: Sequence[np.ndarray]) -> Arrays:
        return self.loaded.call(signature, outputs, inputs)

    def _begin(
        self, signature: ServedSignature, outputs: Tuple[str, ...], parts: Sequence[Arrays], size: int
    ) -> "Optional[asyncio.Future[Called]]":
        return self.beside.begin(signature, outputs, parts, size) if self.beside else None

    def run(
        self,
        signature: ServedSignature,
        outputs: Tuple[str, ...],
        inputs: List[np.ndarray],
        deadline: float,
        alone: bool,
    ) -> Awaitable[Arrays]:
        """Return what will be the named outputs of a signature: see Batcher.run."""
        return self.batcher(signature, outputs).run(inputs, deadline, alone)

    async def drain(self) -> None:
        """Wait until nobody holds the version, at most _DRAIN_SECONDS; then free its memory."""
        end = time.monotonic() + _DRAIN_SECONDS
        while self._requests and time.monotonic() < end:
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        beside, self.beside = self.beside, None  # a request that still waits is computed here
        if beside:
            await beside.unload()
        await asyncio.get_running_loop().run_in_executor(self._threads, self.loaded.close)


def loaded(number: int, path: str, metrics: Metrics, one_thread: bool) -> LoadedVersion:
    """Load a version and count it. Raises what LoadedVersion raises."""
    begin = time.perf_counter()
    try:
        found = LoadedVersion(number, path, one_thread)
    except BaseException:
        metrics.loads.add(path, "fail")
        raise
    metrics.loads.add(path, "success")
    metrics.load_latency.add(path, by=(time.perf_counter() - begin) * 1e6)
    return found
