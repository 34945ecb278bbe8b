"""Training data: the batches of each task."""
