"""While the job lives, from the login side: through files and Slurm, never a socket."""
