"""The fields of sacct that the tables of accounting are read from."""

from collections.abc import Sequence

# The fields that sacct is asked for; those in NEEDED are required. Some releases lack others: tests/vectors.
ASKED = (
    "JobID", "JobIDRaw", "State", "Cluster", "SLUID", "Submit", "Eligible", "Start", "End", "ElapsedRaw", "Suspended",
    "User", "Account", "Partition", "QOS", "WCKey", "ExitCode", "TimelimitRaw", "Restarts", "AllocTRES", "TotalCPU",
    "MaxRSS", "MaxRSSNode", "AveRSS", "NTasks", "TRESUsageInTot", "ConsumedEnergyRaw", "NodeList", "Reason", "JobName",
    "Comment", "AdminComment", "Extra", "SubmitLine", "WorkDir",
)  # fmt: skip
# Fields that stand in where a saved table lacks those in ASKED.
STAND_INS = (
    "Elapsed", "Timelimit", "AllocCPUS", "NCPUS", "AllocNodes", "NNodes", "ReqMem", "UserCPU", "SystemCPU", "AveCPU",
)  # fmt: skip
FIELDS = ASKED + STAND_INS
NEEDED = ("State", "Start", "End")
_IDS = ("JobID", "JobIDRaw")
_SAME = {"ElapsedRaw": "Elapsed", "TimelimitRaw": "Timelimit"}


def missing(names: Sequence[str], lengths_suffice: bool = False) -> list[str]:
    """Return the required columns that `names` lacks. `lengths_suffice`: Elapsed will do instead of Start and End."""
    needed = NEEDED
    if lengths_suffice and not {"Start", "End"} <= set(names):
        needed = ("State", *(() if "ElapsedRaw" in names else ("Elapsed",)))
    lacking = [name for name in needed if name not in names]
    return lacking if any(name in names for name in _IDS) else ["JobID", *lacking]


def lacked(names: Sequence[str]) -> list[str]:
    """Return the columns that `names` lacks, without those that another column replaces."""
    given = {*names, *(raw for raw, other in _SAME.items() if other in names)}
    return [name for name in ASKED if name not in given]
