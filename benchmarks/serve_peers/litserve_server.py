"""A SavedModel by LitServe."""

import sys

import litserve
import numpy as np
from peer_model import MAX_ROWS, WAIT_SECONDS, Model


class Api(litserve.LitAPI):
    def __init__(self, path):
        super().__init__(max_batch_size=MAX_ROWS, batch_timeout=WAIT_SECONDS)
        self.path = path

    def setup(self, device):  # noqa: ARG002 - a CPU
        self.model = Model(self.path)

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


if __name__ == "__main__":
    path, port, *pair = sys.argv[1:]
    ssl = dict(zip(("ssl_certfile", "ssl_keyfile"), pair, strict=False))
    server = litserve.LitServer(Api(path), accelerator="cpu", timeout=60)
    server.run("127.0.0.1", int(port), generate_client_file=False, log_level="warning", access_log=False, **ssl)
