"""The state and the output of runs, read on the login node: from files and from Slurm, never over a socket."""

# what other rooms may import
__all__ = [
    "attach",
    "cancel",
    "disk_usage",
    "find_run",
    "gpu_use",
    "live_progress",
    "logs",
    "reasons",
    "removal",
    "resubmit",
    "results",
    "results_page",
    "results_rows",
    "run_discovery",
    "run_exports",
    "run_overview",
    "run_params",
    "run_summary",
    "status_rows",
    "stored_checkpoints",
    "sweeps",
    "tensorboard",
    "waiting",
]
