"""The life of a replica: it loads its models, answers, renews its endpoint file, and ends without a failed request."""

import asyncio
import contextlib
import gc
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Callable, Optional

import tensorflow as tf

from slurm_tf.errors import ModelError, RunError
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import RENEW_SECONDS, Endpoint
from slurm_tf.serve.replica import call_computer, call_process, certificate, grpc_service, rest_service
from slurm_tf.serve.replica.access import Access
from slurm_tf.serve.replica.call_process import CallProcess
from slurm_tf.serve.replica.certificate import Certificate
from slurm_tf.serve.replica.grpc_service import GrpcService
from slurm_tf.serve.replica.inference import Inference
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.model_table import ModelTable
from slurm_tf.serve.replica.recorder import Recorder
from slurm_tf.serve.replica.replica_log import say
from slurm_tf.serve.replica_settings import ReplicaSettings
from slurm_tf.serve.request_log import RequestLog

# How long the requests that a replica still has may take when it ends.
_GRACE_SECONDS = 10.0
_LOOK_SECONDS = 0.5
# How many objects are made before the garbage collector looks through them: JSON of many rows has tens of thousands.
_GC_OBJECTS = 50_000
_ALLOW_GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"


def share_gpus() -> None:
    """Have TensorFlow take memory of each GPU as it needs it: else the first process that starts takes all of it.

    TF_FORCE_GPU_ALLOW_GROWTH in the environment says otherwise.
    """
    if _ALLOW_GROWTH not in os.environ:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def run(settings: ReplicaSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ModelError, OSError for what cannot be served."""
    # what TensorFlow's import made stays: to look through it takes the garbage collector half a second each time
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS, *gc.get_threshold()[1:])
    calls = call_process.fork(call_computer.compute)
    try:
        # after the fork: a process that has begun to use a GPU cannot be forked
        share_gpus()
        if calls and tf.config.list_physical_devices("GPU"):
            calls.end()
            calls = None
        asyncio.run(_serve(settings, calls))
    finally:
        if calls:
            calls.end()


async def _serve(settings: ReplicaSettings, calls: Optional[CallProcess]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(_threads(settings), "replica") as threads, ThreadPoolExecutor(1, "endpoint") as writer:
        await _Replica(settings, threads, writer, calls).run(stop)


def _threads(settings: ReplicaSettings) -> int:
    """Return how many threads a replica needs: for calls of its models, and for loading versions beside them."""
    return sum(each.batching.num_batch_threads for each in settings.models) + 2


class _Replica:
    """The parts of a replica. `writer`: one thread that writes and removes the endpoint file, in this order."""

    def __init__(
        self,
        settings: ReplicaSettings,
        threads: ThreadPoolExecutor,
        writer: ThreadPoolExecutor,
        calls: Optional[CallProcess],
    ) -> None:
        self._settings, self._threads, self._writer = settings, threads, writer
        self._metrics = Metrics()
        self._log = RequestLog(settings.request_log, settings.replica) if settings.request_log else None
        self._models = ModelTable(settings, threads, self._metrics, calls)
        self._recorder = Recorder(self._metrics, self._log, settings.max_in_flight)
        self._inference = Inference(self._models, self._metrics, settings.max_request_bytes, not settings.open)
        self._started = time.time()

    async def run(self, stop: asyncio.Event) -> None:
        settings = self._settings
        token, pair = settings.token(), None if settings.plaintext else certificate.of(settings)
        if settings.open:
            say("WARNING: open: whoever reaches this replica can ask its models")
        looking = asyncio.ensure_future(self._models.look())
        await _first(stop, looking, ending=True)
        if stop.is_set():
            return
        access = Access(token)
        grpc_server, grpc_port = grpc_service.server(
            settings, GrpcService(self._inference, self._recorder, access), pair
        )
        rest = rest_service.server(settings, self._inference, self._recorder, access, pair)
        await grpc_server.start()
        serving = asyncio.ensure_future(rest.run())
        watching = asyncio.ensure_future(self._models.watch())
        renewing = asyncio.ensure_future(self._renew(self._endpoint(pair, grpc_port, rest.port)))
        tasks = (serving, watching, renewing)
        try:
            await _first(stop, *tasks)
            await self._await_successor(stop, *tasks)
        finally:
            renewing.cancel()
            await self._in_writer(endpoint.remove, settings.endpoint_folder, settings.replica)
        say("SIGTERM: no new clients")
        rest.close_connections()
        await asyncio.sleep(settings.connection_seconds)
        watching.cancel()
        await asyncio.gather(grpc_server.stop(_GRACE_SECONDS), rest.stop(_GRACE_SECONDS))
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._models.close()
        self._flush()

    def _endpoint(self, pair: Optional[Certificate], grpc_port: int, rest_port: int) -> Endpoint:
        settings = self._settings
        chain = pair.chain.decode() if pair else ""
        digest = endpoint.fingerprint(chain) if pair else ""
        return Endpoint(
            settings.replica, settings.job, settings.host, grpc_port, rest_port, chain, digest, settings.open, (),
            self._started, 0.0, settings.ends,
        )  # fmt: skip

    async def _renew(self, unwritten: Endpoint) -> None:
        """Write the endpoint file again and again, from when a model answers; flush the log of requests."""
        announced = False
        while True:
            models = self._models.statuses()
            if any(each.default is not None for each in models):
                written = replace(unwritten, models=models, written=time.time())
                try:
                    await self._in_writer(endpoint.write, self._settings.endpoint_folder, written)
                except OSError as error:
                    say(f"the endpoint file cannot be written: {error}")
                if not announced:
                    announced = True
                    say(f"answers: gRPC {written.host}:{written.grpc_port}, REST {written.host}:{written.rest_port}")
            await asyncio.get_running_loop().run_in_executor(self._threads, self._flush)
            await asyncio.sleep(RENEW_SECONDS if announced else _LOOK_SECONDS)

    async def _in_writer(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call it in the thread that writes: shared storage may take a second, and requests are to be answered."""
        await asyncio.get_running_loop().run_in_executor(self._writer, call, *arguments)

    def _flush(self) -> None:
        if self._log is None:
            return
        try:
            self._log.flush()
        except (OSError, RunError) as error:
            say(f"the log of requests cannot be written: {error}")

    async def _await_successor(self, stop: asyncio.Event, *tasks: "asyncio.Future[Any]") -> None:
        """Go on until another replica answers for these models, or a second signal, or the settings' limit."""
        limit = time.monotonic() + self._settings.successor_seconds
        if not self._settings.successor_seconds:
            return
        stop.clear()
        say(f"SIGTERM: goes on until a successor answers, at most {self._settings.successor_seconds:.0f} s")
        while time.monotonic() < limit and not stop.is_set() and not self._successor():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_first(stop, *tasks), _LOOK_SECONDS)

    def _successor(self) -> bool:
        """Return whether a replica that started after this one answers for each model."""
        try:
            others = endpoint.living(self._settings.endpoint_folder)
        except (ModelError, OSError):
            return False
        names = tuple(self._models.models)
        return any(
            each.replica != self._settings.replica
            and each.started > self._started
            and all(each.answers(name) for name in names)
            for each in others
        )


async def _first(stop: asyncio.Event, *tasks: "asyncio.Future[Any]", ending: bool = False) -> None:
    """Wait for the signal to stop. Raises what one of the tasks raises.

    `ending`: a task may end; else that is an error.
    """
    stopping = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for each in done - {stopping}:
        each.result()
        if not ending:
            raise ModelError("a part of the replica has ended", "it to go on")
