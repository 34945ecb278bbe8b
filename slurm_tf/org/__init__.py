"""Organizations, their users and quotas: words for Slurm's accounts, associations and QOS.

Nothing is kept beside slurmdbd: what is shown is read from it, from slurmctld and from the queue each time.
"""

# what other rooms may import
__all__ = [
    "job_check",
    "limit_words",
    "org_file",
    "org_updates",
    "organizations",
    "quota_words",
    "tree_changes",
    "user_quota",
]
