"""Before the job: a plan becomes a script and a run's folder."""
