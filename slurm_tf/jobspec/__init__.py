"""What is asked for: a job file and a site profile, fitted into a plan."""

# what other rooms may import
__all__ = ["configuration", "directives", "job_file", "plan", "sbatch_options", "sites"]
