"""Inside the job: from what Slurm allocated to a running TensorFlow cluster. Standard library only, Python 3.9."""

# what other rooms may import
__all__ = ["agent", "direct", "examination", "requeue"]
