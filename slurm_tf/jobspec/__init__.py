"""Reads job files and site profiles, and fits a job to its site as a plan."""

# what other rooms may import
__all__ = [
    "components",
    "configuration",
    "directives",
    "job_file",
    "params",
    "plan",
    "sbatch_options",
    "sites",
    "sweep",
]
