"""Starting without a coordinator: `slurm-tf launch`, a TaskProlog, the tasks of a job on this machine."""

# what other rooms may import
__all__ = ["direct_launch", "local_tasks"]
