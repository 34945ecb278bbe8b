"""The columns of the tables `jobs` and `steps`, which readers of accounting fill and reports query.

What is unknown is NULL, in every column: 0 is a known 0. Times are whole seconds since the epoch.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """One column: its type in DuckDB, what it means, and the fields of sacct that it is read from.

    Of several fields the first that has a value is taken; "A + B" is a sum, "A x B" a product.
    """

    name: str
    type: str
    meaning: str
    fields: tuple[str, ...]


_TEXT, _COUNT, _SECONDS, _REAL, _TRUTH = "VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "BOOLEAN"

# One row for each incarnation of a job, of an array task or of a component of a heterogeneous job.
JOBS = (
    Column("incarnation", _TEXT, "names this row: no other row has it; a requeued job keeps its id", ()),
    Column("id", _TEXT, "as sacct prints it: 12, 12_3, 12_[4-9] (pending tasks), 12+1", ("JobID", "JobIDRaw")),
    Column("raw_id", _TEXT, "the number that Slurm gave this array task or component", ("JobIDRaw", "JobID")),
    Column("job", _TEXT, "the id that sbatch printed: without array task or component", ("JobID", "JobIDRaw")),
    Column("cluster", _TEXT, "the cluster", ("Cluster",)),
    Column("sluid", _TEXT, "Slurm's own name of the incarnation, since 24.11", ("SLUID",)),
    Column("name", _TEXT, "the job's name", ("JobName",)),
    Column("user", _TEXT, "who submitted it", ("User",)),
    Column("account", _TEXT, "the account that it is charged to", ("Account",)),
    Column("partition", _TEXT, "the partition", ("Partition",)),
    Column("qos", _TEXT, "the quality of service", ("QOS",)),
    Column("wckey", _TEXT, "the workload characterization key", ("WCKey",)),
    Column("state_text", _TEXT, "the state as sacct prints it: CANCELLED by 1000", ("State",)),
    Column("state", _TEXT, "the state's word: CANCELLED", ("State",)),
    Column("exit_class", _TEXT, "how it ended, in a report's words: out of memory", ("State",)),
    Column("status", _COUNT, "the exit code of the script", ("ExitCode",)),
    Column("signal", _COUNT, "the signal that ended the script, 0 for none", ("ExitCode",)),
    Column("out_of_memory", _TRUTH, "whether it or one of its steps ran out of memory", ("State",)),
    Column("reason", _TEXT, "why it was pending last", ("Reason",)),
    Column("submitted", _SECONDS, "when it was submitted, or requeued", ("Submit",)),
    Column("eligible", _SECONDS, "since when it may start", ("Eligible", "Submit")),
    Column("started", _SECONDS, "when it started; NULL if it never did", ("Start",)),
    Column("ended", _SECONDS, "when it ended; NULL while it waits or runs", ("End", "Start + ElapsedRaw")),
    Column("counted_until", _SECONDS, "until when what runs is known to have run", ("ElapsedRaw", "Elapsed")),
    Column("elapsed", _SECONDS, "seconds that it ran, without suspensions", ("ElapsedRaw", "Elapsed", "End - Start")),
    Column("suspended", _SECONDS, "seconds without CPUs, but with all else", ("Suspended", "End - Start - ElapsedRaw")),
    Column("time_limit", _COUNT, "minutes; NULL: none, or unknown", ("TimelimitRaw", "Timelimit")),
    Column("is_runaway", _TRUTH, "it runs a day beyond its limit: Slurm lost it, reports cut it", ("TimelimitRaw",)),
    Column("restarts", _COUNT, "how often it was requeued before", ("Restarts",)),
    Column("cpus", _COUNT, "CPUs allocated; 0 (as the next) if it never started", ("AllocTRES", "AllocCPUS", "NCPUS")),
    Column("node_count", _COUNT, "nodes allocated", ("AllocTRES", "AllocNodes", "NNodes")),
    Column("gpus", _COUNT, "GPUs allocated", ("AllocTRES",)),
    Column("gpu_type", _TEXT, "the type of the GPUs; several as a100+v100", ("AllocTRES",)),
    Column("memory", _COUNT, "MiB allocated", ("AllocTRES", "ReqMem")),
    Column("billing", _COUNT, "what Slurm bills for each hour", ("AllocTRES",)),
    Column("nodes", _TEXT, "the node list: n[1-4]", ("NodeList",)),
    Column("used_cpu", _REAL, "CPU seconds used", ("TotalCPU", "UserCPU + SystemCPU", "AveCPU x NTasks")),
    Column("used_memory", _COUNT, "bytes: the most its steps held at a time", ("TRESUsageInTot", "MaxRSS x NTasks")),
    Column("gpu_use", _REAL, "percent: the mean over its GPUs and its time", ("TRESUsageInTot", "AdminComment")),
    Column("energy", _COUNT, "joules", ("ConsumedEnergyRaw",)),
    Column("comment", _TEXT, "the job's comment", ("Comment",)),
    Column("admin_comment", _TEXT, "the site's comment", ("AdminComment",)),
    Column("extra", _TEXT, "other data of the job's", ("Extra",)),
    Column("submit_line", _TEXT, "the command that submitted it", ("SubmitLine",)),
    Column("work_dir", _TEXT, "its working directory", ("WorkDir",)),
    Column("unreadable", _TEXT, "what sacct printed and could not be read: MaxRSS '16?'", ()),
)  # fmt: skip

# One row for each step of a job, which has the same `incarnation`.
STEPS = (
    Column("incarnation", _TEXT, "that of its job", ()),
    Column("raw_id", _TEXT, "that of its job", ("JobIDRaw", "JobID")),
    Column("step", _TEXT, "batch, extern, interactive, or the number of the step", ("JobID",)),
    Column("name", _TEXT, "the step's name, mostly its program", ("JobName",)),
    Column("state", _TEXT, "the state's word", ("State",)),
    Column("started", _SECONDS, "when it started", ("Start",)),
    Column("ended", _SECONDS, "when it ended; NULL while it runs", ("End",)),
    Column("elapsed", _SECONDS, "seconds that it ran", ("ElapsedRaw", "Elapsed", "End - Start")),
    Column("nodes", _TEXT, "its own nodes", ("NodeList",)),
    Column("node_count", _COUNT, "how many they are", ("AllocTRES", "AllocNodes", "NNodes")),
    Column("tasks", _COUNT, "how many tasks it has", ("NTasks",)),
    Column("cpus", _COUNT, "its CPUs", ("AllocTRES", "AllocCPUS", "NCPUS")),
    Column("gpus", _COUNT, "its GPUs", ("AllocTRES",)),
    Column("max_rss", _COUNT, "bytes: the most that one of its tasks held", ("MaxRSS",)),
    Column("max_rss_node", _TEXT, "the node of that task", ("MaxRSSNode",)),
    Column("ave_rss", _COUNT, "bytes: the mean of its tasks", ("AveRSS",)),
    Column("total_memory", _COUNT, "bytes that its tasks held together", ("TRESUsageInTot",)),
    Column("used_cpu", _REAL, "CPU seconds used", ("TotalCPU", "UserCPU + SystemCPU", "AveCPU x NTasks")),
    Column("gpu_percent", _REAL, "percent, summed over its GPUs: 150 is one and a half busy GPUs", ("TRESUsageInTot",)),
    Column("gpu_memory", _COUNT, "bytes that its tasks held of the GPUs' memory", ("TRESUsageInTot",)),
    Column("unreadable", _TEXT, "what sacct printed and could not be read", ()),
)  # fmt: skip

# What a report adds to each row of `jobs`, from the records of runs; the ledger has none of it.
OF_RUNS = (
    Column("template", _TEXT, "the job template, else the name in the job file", ("Comment", "JobName")),
    Column("run", _TEXT, "the run of slurm-tf", ("Comment",)),
)

TABLES = {"jobs": JOBS, "steps": STEPS}


def create(table: str, columns: tuple[Column, ...]) -> str:
    """Return the statement that creates a table with these columns."""
    names = ", ".join(f'"{column.name}" {column.type}' for column in columns)
    return f'create table "{table}" ({names})'
