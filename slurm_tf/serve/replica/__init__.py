"""The replica: a server of TensorFlow Serving's protocols over gRPC and REST, `python -m slurm_tf.serve.replica`."""
