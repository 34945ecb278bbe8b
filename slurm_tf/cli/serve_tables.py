"""What is known of a service, as text for the terminal."""

from slurm_tf.cli import text_table
from slurm_tf.watch import service_rows
from slurm_tf.watch.services import ServiceOverview

_NAME_WIDTH = 9
_JOBS = tuple(head.upper() for head in service_rows.JOBS)
_REPLICAS = tuple(head.upper() for head in service_rows.REPLICAS)
_MORE = "--json has all"


def status(found: ServiceOverview) -> str:
    """Return what is known of a service: in a line whether it answers, then its jobs and its replicas."""
    count = "unknown how many" if found.replicas is None else str(len(found.replicas))
    rows = [("Service", found.service.run.name), ("Replicas", f"{count} answering")]
    rows += [("Model", f"{name} in {base}") for name, base in found.service.settings.models.items()]
    rows += [("Last job", service_rows.last_job_words(found.last_job))] if found.last_job else []
    rows += [("Replica", service_rows.replica_end_words(each)) for each in found.replica_ends or ()]
    rows += [("Gap", service_rows.gap_words(found.gap))] if found.gap else []
    parts = [text_table.summary(rows, _NAME_WIDTH)]
    if found.jobs:
        cells = [service_rows.job_cells(each) for each in found.jobs]
        parts.append(text_table.table(_JOBS, cells, ("REASON", "NODES"), _MORE))
    if found.replicas:
        cells = [service_rows.replica_cells(each) for each in found.replicas]
        parts.append(text_table.table(_REPLICAS, cells, ("GRPC", "REST"), _MORE))
    return "\n".join(parts)
