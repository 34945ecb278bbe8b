"""`python -m slurm_tf` is slurm-tf."""

from slurm_tf.cli import main

main()
