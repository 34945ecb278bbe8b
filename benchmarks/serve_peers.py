"""A server of a SavedModel by LitServe, BentoML or Ray Serve, for benchmarks/serve.py to compare with.

    PYTHON benchmarks/serve_peers.py NAME MODEL PORT [CERTIFICATE KEY]

NAME is litserve, bentoml or ray. `POST /predict` takes {"instances": [..]}, and its answer holds the outputs. Each
server is used as its documentation shows, with its own batching of up to 64 rows: the signature that
tf.saved_model.load returns is called with the rows of all requests of a batch. PYTHON has these packages beside
TensorFlow; slurm-tf does not need them.
"""

import os
import signal
import sys
import time

MAX_ROWS = 64
# How long the first request of a batch waits for others.
WAIT_SECONDS = 0.001


class Model:
    """The signature serving_default of a SavedModel."""

    def __init__(self, path):
        import numpy as np
        import tensorflow as tf

        self.loaded = tf.saved_model.load(path)  # its signatures live as long as it does
        self.signature, self.constant = self.loaded.signatures["serving_default"], tf.constant
        ((self.input, spec),) = self.signature.structured_input_signature[1].items()
        for rows in (1, 32, MAX_ROWS):
            self(np.zeros((rows, *spec.shape[1:]), np.float32))

    def __call__(self, rows):
        (output,) = self.signature(**{self.input: self.constant(rows)}).values()
        return output.numpy()

    def of_each(self, requests):
        """Return the outputs of each of several requests, by one call."""
        import numpy as np

        outputs = self(np.concatenate(requests))
        return np.split(outputs, np.cumsum([len(each) for each in requests])[:-1])


def serve_by_litserve(path, port, certificate):
    import litserve
    import numpy as np

    class Api(litserve.LitAPI):
        def setup(self, device):  # noqa: ARG002 - a CPU
            self.model = Model(path)

        def decode_request(self, request):
            return np.array(request["instances"], np.float32)

        def batch(self, inputs):
            return inputs

        def predict(self, inputs):
            return self.model.of_each(inputs)

        def unbatch(self, output):
            return output

        def encode_response(self, output):
            return {"predictions": output.tolist()}

    ssl = {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]} if certificate else {}
    api = Api(max_batch_size=MAX_ROWS, batch_timeout=WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning", access_log=False, **ssl)


def serve_by_bentoml(path, port, certificate):
    folder = os.path.dirname(os.path.abspath(__file__))
    os.environ |= {"BENTOML_DO_NOT_TRACK": "True", "PEER_MODEL": path, "PYTHONPATH": folder}
    ssl = ["--ssl-certfile", certificate[0], "--ssl-keyfile", certificate[1]] if certificate else []
    where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", folder]
    words = ["-m", "bentoml", "serve", "serve_peers:bento_service", *where, *ssl]
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - our own words


def _bento_service():
    """Return BentoML's service of the model $PEER_MODEL."""
    from typing import Annotated

    import bentoml
    import numpy as np
    from bentoml.validators import DType

    @bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 512}, logging={"access": {"enabled": False}})
    class Service:
        def __init__(self):
            self.model = Model(os.environ["PEER_MODEL"])

        @bentoml.api(batchable=True, max_batch_size=MAX_ROWS, max_latency_ms=10_000)
        def predict(self, instances: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
            return self.model(instances)

    return Service


def serve_by_ray(path, port, certificate):
    import numpy as np
    import ray
    from ray import serve

    class Service:
        def __init__(self):
            self.model = Model(path)

        @serve.batch(max_batch_size=MAX_ROWS, batch_wait_timeout_s=WAIT_SECONDS)
        async def predict(self, requests):
            return self.model.of_each(requests)

        async def __call__(self, request):
            body = await request.json()
            return {"predictions": (await self.predict(np.array(body["instances"], np.float32))).tolist()}

    ssl = {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]} if certificate else {}
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port, **ssl})
    deployment = serve.deployment(Service, max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
    serve.run(deployment.bind(), route_prefix="/predict")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        time.sleep(1)


def main():
    name, path, port, *certificate = sys.argv[1:]
    {"litserve": serve_by_litserve, "bentoml": serve_by_bentoml, "ray": serve_by_ray}[name](
        path, int(port), certificate
    )


if __name__ == "__main__":
    main()
elif "PEER_MODEL" in os.environ:
    bento_service = _bento_service()
