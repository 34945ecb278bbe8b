"""After the job: what it used, from Slurm's accounting. Nothing here changes anything in Slurm."""
