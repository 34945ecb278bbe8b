"""What is known of a service in words: its jobs, its replicas, and when nobody will answer."""

from datetime import datetime

from slurm_tf.run.replica_ends import ReplicaEnd
from slurm_tf.serve.endpoint import Endpoint, VersionState
from slurm_tf.watch import reasons, status_rows
from slurm_tf.watch.run_overview import RunOverview
from slurm_tf.watch.services import Gap

JOBS = ("Number", "Job", "State", "Nodes", "Until", "Starts", "Reason")
REPLICAS = ("Replica", "Job", "Host", "gRPC", "REST", "Models")


def gap_words(gap: Gap) -> str:
    """Return when nobody will answer, in words."""
    until = f"until {when_text(gap.until)}" if gap.until else "and Slurm does not say until when"
    return f"nobody will answer from {when_text(gap.begin)} on, {until}: no job takes over in time"


def last_job_words(each: RunOverview) -> str:
    """Return how the last job of a service ended that has none any more, in words."""
    return ": ".join(filter(None, [f"{each.job} {status_rows.state_text(each)}", reasons.reason_words(each)]))


def replica_end_words(each: ReplicaEnd) -> str:
    """Return that a replica has died, and why, in words."""
    times = f"{each.times} times, the last time" if each.times > 1 else "once,"
    return f"{each.replica} has ended {times} {status_rows.age_text(each.at)}: {each.why}"


def job_cells(each: RunOverview) -> list[str]:
    """Return the cells of a job, under JOBS."""
    record = each.records[0] if each.records else None
    ends = when_text(record.ended) if record and record.started else ""
    starts = when_text(record.expected_start) if record and record.expected_start else ""
    reason = record.reason if record else ""
    nodes = record.nodes if record else ""
    return [str(each.selected.point or "-"), each.job, status_rows.state_text(each), nodes, ends, starts, reason]


def replica_cells(each: Endpoint) -> list[str]:
    """Return the cells of a replica, under REPLICAS."""
    models = []
    for model in each.models:
        ready = [str(version.version) for version in model.versions if version.state is VersionState.AVAILABLE]
        default = f", {model.default} by default" if model.default is not None and len(ready) > 1 else ""
        models.append(f"{model.name} {'+'.join(ready) or 'none'}{default}")
    return [each.replica, each.job or "-", each.host, str(each.grpc_port), str(each.rest_port), "; ".join(models)]


def when_text(moment: datetime | None) -> str:
    """Return a moment in the time of this machine, "" for none."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""
