"""While the job lives, from the login side: through files and Slurm, never a socket."""

# what other rooms may import
__all__ = ["cancel", "checkpoint_copies", "find_run", "logs", "resubmit", "run_state", "status_rows", "tensorboard"]
