"""A SavedModel by Ray Serve."""

import signal
import sys

import numpy as np
import ray
from peer_model import MAX_ROWS, WAIT_SECONDS, Model
from ray import serve


@serve.deployment(max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
class Service:
    def __init__(self, path):
        self.model = Model(path)

    @serve.batch(max_batch_size=MAX_ROWS, batch_wait_timeout_s=WAIT_SECONDS)
    async def predict(self, requests):
        return self.model.of_each(requests)

    async def __call__(self, request):
        body = await request.json()
        return {"predictions": (await self.predict(np.array(body["instances"], np.float32))).tolist()}


if __name__ == "__main__":
    path, port, *pair = sys.argv[1:]
    ssl = dict(zip(("ssl_certfile", "ssl_keyfile"), pair, strict=False))
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port), **ssl})
    serve.run(Service.bind(path), route_prefix="/predict")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        signal.pause()
