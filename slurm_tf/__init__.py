"""slurm-tf runs distributed TensorFlow under Slurm: job file, sbatch script, cluster, checkpoints, accounting."""

__version__ = "0.1.0"
