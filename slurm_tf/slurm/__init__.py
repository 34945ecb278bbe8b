"""Everything that calls Slurm or reads what it prints; no other room does."""

# what other rooms may import
__all__ = [
    "array_indexes",
    "attached_step",
    "billing",
    "client",
    "container_refusal",
    "hostlist",
    "in_job",
    "job_states",
    "known_bugs",
    "live_cluster",
    "node_sizes",
    "out_of_memory",
    "pending_reasons",
    "records",
    "reservations",
    "sacct",
    "sacct_fields",
    "sbatch_choices",
    "sbatch_variables",
    "start_estimate",
    "step_refusal",
    "usage_limits",
    "work_folders",
]
