"""Submits jobs: makes the run's folder and the batch script of a plan, and calls sbatch."""

# what other rooms may import
__all__ = [
    "bash_syntax",
    "highest_cost",
    "horovod_wheel",
    "new_run",
    "nodes_needed",
    "packed_modules",
    "plan_submission",
    "program_files",
    "render",
    "run_index",
    "said_once",
    "sbatch",
    "setup_checks",
    "sooner",
    "task_prolog",
    "template_copy",
]
