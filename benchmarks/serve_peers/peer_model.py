"""The model that the servers of this folder call: the signature of a SavedModel that tf.saved_model.load returns.

benchmarks/serve.py starts each as `PYTHON SERVER MODEL PORT [CERTIFICATE KEY]`. `POST /predict` takes JSON with the
key `instances` and answers with the outputs. Each is written as its documentation shows, with its own batching of up to
64 rows. PYTHON has their packages beside TensorFlow; slurm-tf does not need them.
"""

import numpy as np
import tensorflow as tf

MAX_ROWS = 64
# How long the first request of a batch waits for others.
WAIT_SECONDS = 0.001


class Model:
    """The signature serving_default of a SavedModel, called once with each of some sizes."""

    def __init__(self, path):
        self.loaded = tf.saved_model.load(path)  # its signatures live as long as it does
        self.signature = self.loaded.signatures["serving_default"]
        ((self.input, spec),) = self.signature.structured_input_signature[1].items()
        for rows in (1, 32, MAX_ROWS):
            self(np.zeros((rows, *spec.shape[1:]), np.float32))

    def __call__(self, rows):
        (output,) = self.signature(**{self.input: tf.constant(rows)}).values()
        return output.numpy()

    def of_each(self, requests):
        """Return the outputs of each of several requests, by one call."""
        outputs = self(np.concatenate(requests))
        return np.split(outputs, np.cumsum([len(each) for each in requests])[:-1])
