"""Reports of what jobs used and lost, from Slurm's accounting. Nothing here changes anything in Slurm."""

# the modules that other rooms may import
__all__ = [
    "amounts",
    "connection",
    "database",
    "efficiency",
    "efficiency_nodes",
    "efficiency_table",
    "exports",
    "group",
    "group_page",
    "html_report",
    "job_use",
    "ledger",
    "literals",
    "person",
    "report",
    "row_order",
    "run_records",
    "saved",
    "source",
    "usage",
    "waste",
    "when",
    "window",
]
