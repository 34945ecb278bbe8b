"""From an allocation to a TensorFlow cluster: roles, addresses, GPUs, each task's environment."""
