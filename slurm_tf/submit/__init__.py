"""Before the job: a plan becomes a script and a run's folder."""

# what other rooms may import
__all__ = ["estimate", "horovod_wheel", "new_run", "render", "sbatch", "task_prolog"]
