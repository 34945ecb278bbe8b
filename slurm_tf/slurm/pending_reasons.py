"""Explains why a job is pending. Source: squeue(1) of Slurm 22.05.8 and 25.11, JOB REASON CODES."""

import re

EXPLANATIONS = {
    "AccountNotAllowed": "the partition or QOS does not allow this account",
    "BadConstraints": "no set of nodes can meet what the job asks for",
    "BeginTime": "it may not start before its begin time; a requeued job waits two minutes",
    "Cleaning": "its last incarnation is still being cleaned up",
    "Dependency": "it waits for the jobs that it depends on",
    "DependencyNeverSatisfied": "a job that it depends on did not end as the dependency asks",
    "InvalidAccount": "its account does not exist or is not yours",
    "InvalidQOS": "its QOS does not exist or is not yours",
    "JobArrayTaskLimit": "as many tasks of its array run as may run at once (%)",
    "JobHeldAdmin": "an administrator holds it",
    "JobHeldUser": "it is held: scontrol release lets it start",
    "JobHoldMaxRequeue": "it was requeued too often; an administrator can release it",
    "Licenses": "it waits for a license",
    "NodeDown": "a node that it needs is down",
    "PartitionConfig": "its partition cannot hold it as it is configured now",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition does not start jobs now",
    "PartitionNodeLimit": "it asks for more nodes than its partition has or allows",
    "PartitionTimeLimit": "its time limit is longer than its partition's",
    "Priority": "jobs of higher priority come first",
    "QOSNotAllowed": "its partition or account does not allow its QOS",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "Reservation": "it waits for its reservation to begin",
    "Resources": "it is next, and waits for nodes to become free",
}
# These never go away by themselves.
_PERMANENT = frozenset({
    "AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS",
    "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed",
})  # fmt: skip
_NOT_SETTLED = "PartitionConfig"
# What squeue (22.05.8) adds to the code where it knows more; it has "_" for the blank in some formats.
_NODES = re.compile(
    r"ReqNodeNotAvail,[ _]?(?:UnavailableNodes:(?P<nodes>\S+)|Reserved[ _]for[ _]maintenance)", re.IGNORECASE
)
_LIMIT = re.compile(
    r"(?P<who>Assoc|QOS)(?P<kind>Grp|Max|Min)(?P<what>[A-Za-z]*?)(?P<job>PerJob|PerNode)?"
    r"(?P<user>PerUser|PerAccount|PerAcct)?(?P<minutes>RunMinutes|Minutes)?(?:Limit)?"
)
_RESOURCES = {
    "Billing": "billing", "BB": "burst buffers", "Cpu": "CPUs", "CPU": "CPUs", "Energy": "energy", "GRES": "GPUs",
    "Job": "running jobs", "Jobs": "running jobs", "License": "licenses", "Mem": "memory", "Memory": "memory",
    "Node": "nodes", "Submit": "submitted jobs", "SubmitJobs": "submitted jobs", "Wall": "time", "WallDuration": "time",
}  # fmt: skip


def explain(reason: str) -> str:
    """Return the explanation of `reason`, the code itself where it is not known."""
    code = _code(reason)
    if detail := _NODES.fullmatch(reason.strip("()")):
        nodes = detail["nodes"]
        return (
            f"nodes that it needs are down or drained: {nodes}" if nodes else "its nodes are reserved for maintenance"
        )
    limit = _LIMIT.fullmatch(code)
    if code in EXPLANATIONS or limit is None or limit["what"] not in _RESOURCES:
        return EXPLANATIONS.get(code, code)
    who = "the QOS" if limit["who"] == "QOS" else "the account"
    what = _RESOURCES[limit["what"]]
    if limit["kind"] == "Min":
        return f"it asks for less than {who}'s least amount of {what}"
    if limit["job"]:
        return f"it asks for more than {who} allows one job ({what})"
    scope = "all jobs" if limit["kind"] == "Grp" else "an account"
    if limit["user"] == "PerUser":
        scope = "a user"
    budget = " over time" if limit["minutes"] else ""
    return (
        f"{who}'s limit for {scope} is reached ({what}{budget}): it waits until other jobs end, "
        "and for ever if this job alone asks for more"
    )


def is_permanent(reason: str) -> bool:
    """Whether a job that is pending for `reason` can never start unless it is changed."""
    limit = _LIMIT.fullmatch(_code(reason))
    return _code(reason) in _PERMANENT or bool(limit and (limit["kind"] == "Min" or limit["job"]))


def may_be_permanent(reason: str) -> bool:
    """Whether `reason` may never go away, such as a limit of a QOS or an account that the job alone exceeds."""
    return is_permanent(reason) or _code(reason) == _NOT_SETTLED or _LIMIT.fullmatch(_code(reason)) is not None


def is_limit(reason: str) -> bool:
    """Whether a job is pending for a limit of an association or a QOS."""
    return _LIMIT.fullmatch(_code(reason)) is not None


def is_settled(reason: str) -> bool:
    """Whether `reason` is final: at first a job has none, or one that the scheduler replaces later (22.05.8)."""
    return _code(reason) not in ("", "None", _NOT_SETTLED)


def _code(reason: str) -> str:
    return reason.strip("()").partition(",")[0]
