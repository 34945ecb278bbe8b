"""Training data: the batches of each task, and the padding of the last one."""
