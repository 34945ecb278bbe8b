"""A SavedModel by BentoML."""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from peer_model import MAX_ROWS, Model


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 512}, logging={"access": {"enabled": False}})
class Service:
    def __init__(self):
        self.model = Model(os.environ["PEER_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=MAX_ROWS, max_latency_ms=10_000)
    def predict(self, instances: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        return self.model(instances)


if __name__ == "__main__":
    path, port, *pair = sys.argv[1:]
    folder = str(Path(__file__).resolve().parent)
    os.environ |= {"BENTOML_DO_NOT_TRACK": "True", "PEER_MODEL": path, "PYTHONPATH": folder}
    ssl = [word for option in zip(("--ssl-certfile", "--ssl-keyfile"), pair, strict=False) for word in option]
    words = ["serve", "bentoml_server:Service", "--host", "127.0.0.1", "--port", port, "--working-dir", folder, *ssl]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *words])  # noqa: S606 - our own words
