"""Serves models with the protocols of TensorFlow Serving: replicas in a job, and what leads clients to them."""

# what other rooms may import; a module is named here once another room uses it
__all__ = ["endpoint", "forwarder", "predict_call", "replica_watch", "request_log"]
