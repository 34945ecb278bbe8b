"""Programs of benchmarks/serve.py, each a process: it exports the models, serves a bare gRPC method, times calls.

python benchmarks/serve_programs.py export FOLDER
python benchmarks/serve_programs.py echo FOLDER [CERTIFICATE KEY]
python benchmarks/serve_programs.py own-work FOLDER
"""

import asyncio
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

from slurm_tf.models import serving_file
from slurm_tf.models.serving_file import Serving
from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, ServedModel

TOKEN = "benchmark-benchmark-benchmark"  # noqa: S105 - of a server that lives for a minute
PREDICT = "/tensorflow.serving.PredictionService/Predict"


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


def message(model, rows):
    """Return the body of a gRPC request: random pixels for a model."""
    import numpy as np

    shape = (rows, 28, 28, 1) if model == "digits" else (rows, 784)
    request = protocol.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = model, "stable"
    tensor = request.inputs["image"]
    tensor.dtype = 1
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = np.random.default_rng(0).random(shape, np.float32).tobytes()
    data: bytes = request.SerializeToString()
    return data


def echo(folder, *pair):
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
        if pair:
            certificate, key = [Path(each).read_bytes() for each in pair]
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        (folder / "echo.port").write_text(str(port))
        await server.wait_for_termination()

    asyncio.run(main())


def own_work(folder):
    """Print what a call of the model costs, how many rows a second it computes alone, and a replica's own work.

    Both times in us; the rows in calls of as many as a replica's are at most; the work beside the call and gRPC.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from slurm_tf.serve.replica.access import Access
    from slurm_tf.serve.replica.grpc_service import GrpcService
    from slurm_tf.serve.replica.inference import Inference
    from slurm_tf.serve.replica.metrics import Metrics
    from slurm_tf.serve.replica.model_table import ModelTable
    from slurm_tf.serve.replica.recorder import Recorder

    class Context:
        def time_remaining(self):
            return 10.0

    class Details:
        method = PREDICT
        invocation_metadata = (("user-agent", "measured"), ("authorization", f"Bearer {TOKEN}"))

    async def main():
        settings = ReplicaSettings("own", (ServedModel("digits", str(folder / "digits")),), str(folder), open=True)
        metrics = Metrics()
        with ThreadPoolExecutor(2) as threads:
            models = ModelTable(settings, threads, metrics)
            await models.look()
            recorder = Recorder(metrics, None, 100)
            service = GrpcService(Inference(models, metrics, 1 << 26, False), recorder, Access(TOKEN.encode()))
            loaded = models.models["digits"].available[1].loaded
            signature = loaded.signatures["serving_default"]
            image = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
            data, call, output = message("digits", 1), loaded.call, [np.zeros((1, 10), np.float32)]
            most = Batching().max_batch_size
            images = np.random.default_rng(0).random((most, 28, 28, 1), np.float32)
            calls = await timed(lambda: call(signature, ("output_0",), [image]))
            rows = most / await timed(lambda: call(signature, ("output_0",), [images]), 200) * 1e6
            loaded.call = lambda *_: output
            own = await timed(lambda: service.service(Details()).unary_unary(data, Context()))
            await models.close()
        print(f"{calls:.1f} {rows:.0f} {own:.1f}")

    async def timed(what, number=5000):
        """Return what a call takes, in us; between two the event loop goes on, as it does while a client reads."""
        times = []
        for _ in range(5):
            took = 0.0
            for _ in range(number):
                begin = time.perf_counter()
                found = what()
                if asyncio.iscoroutine(found):
                    await found
                took += time.perf_counter() - begin
                for _ in range(5):
                    await asyncio.sleep(0)
            times.append(took / number * 1e6)
        return min(times)

    asyncio.run(main())


if __name__ == "__main__":
    program, where, *more = sys.argv[1:]
    {"export": export, "echo": echo, "own-work": own_work}[program](Path(where), *more)
