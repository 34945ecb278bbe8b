"""The only door to Slurm: what it prints, and what to call."""

# what other rooms may import
__all__ = [
    "array_indexes",
    "billing",
    "client",
    "hostlist",
    "in_job",
    "job_states",
    "pending_reasons",
    "records",
    "sacct",
    "sacct_amounts",
    "sacct_fields",
]
