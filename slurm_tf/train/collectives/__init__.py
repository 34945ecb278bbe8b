"""What the tasks of one training do together: strategies, allreduce, the check that they train one model."""
