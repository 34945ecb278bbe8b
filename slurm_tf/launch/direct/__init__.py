"""Starts tasks without a coordinator or without Slurm: `slurm-tf launch`, a TaskProlog, tasks on this machine."""

# what other rooms may import
__all__ = ["direct_launch", "local_tasks"]
