"""Reports of what jobs used and lost, from Slurm's accounting. Nothing here changes anything in Slurm."""

# the modules that other rooms may import
__all__ = [
    "amounts",
    "database",
    "efficiency",
    "html_report",
    "ledger",
    "report",
    "run_records",
    "saved",
    "source",
    "usage",
    "usage_record",
    "when",
]
