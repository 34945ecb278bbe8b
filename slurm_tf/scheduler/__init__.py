"""The only door to Slurm: what it prints, and what to call."""
