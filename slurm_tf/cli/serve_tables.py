"""What is known of a service, as text for the terminal."""

from datetime import datetime

from slurm_tf.cli import text_table
from slurm_tf.serve.endpoint import Endpoint, VersionState
from slurm_tf.watch import status_rows
from slurm_tf.watch.run_overview import RunOverview
from slurm_tf.watch.services import Gap, ServiceOverview

_NAME_WIDTH = 9
_JOBS = ("NUMBER", "JOB", "STATE", "NODES", "UNTIL", "STARTS", "REASON")
_REPLICAS = ("REPLICA", "JOB", "HOST", "GRPC", "REST", "MODELS")
_MORE = "--json has all"


def status(found: ServiceOverview) -> str:
    """Return what is known of a service: in a line whether it answers, then its jobs and its replicas."""
    count = "unknown how many" if found.replicas is None else str(len(found.replicas))
    rows = [("Service", found.service.run.name), ("Replicas", f"{count} answering")]
    rows += [("Model", f"{name} in {base}") for name, base in found.service.settings.models.items()]
    rows += [("Gap", gap_words(found.gap))] if found.gap else []
    parts = [text_table.summary(rows, _NAME_WIDTH)]
    if found.jobs:
        cells = [_job_cells(each) for each in found.jobs]
        parts.append(text_table.table(_JOBS, cells, ("REASON", "NODES"), _MORE))
    if found.replicas:
        cells = [_replica_cells(each) for each in found.replicas]
        parts.append(text_table.table(_REPLICAS, cells, ("GRPC", "REST"), _MORE))
    return "\n".join(parts)


def gap_words(gap: Gap) -> str:
    """Return when nobody will answer, in words."""
    until = f"until {_when(gap.until)}" if gap.until else "and Slurm does not say until when"
    return f"nobody will answer from {_when(gap.begin)} on, {until}: no job takes over in time"


def _job_cells(each: RunOverview) -> list[str]:
    record = each.records[0] if each.records else None
    ends = _when(record.ended) if record and record.started else ""
    starts = _when(record.expected_start) if record and record.expected_start else ""
    reason = record.reason if record else ""
    nodes = record.nodes if record else ""
    return [str(each.selected.point or "-"), each.job, status_rows.state_text(each), nodes, ends, starts, reason]


def _replica_cells(each: Endpoint) -> list[str]:
    models = []
    for model in each.models:
        ready = [str(version.version) for version in model.versions if version.state is VersionState.AVAILABLE]
        default = f", {model.default} by default" if model.default is not None and len(ready) > 1 else ""
        models.append(f"{model.name} {'+'.join(ready) or 'none'}{default}")
    return [each.replica, each.job or "-", each.host, str(each.grpc_port), str(each.rest_port), "; ".join(models)]


def _when(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""
