"""Records as sacct prints them: written for the tests, by no code of slurm-tf's. And records of any kind, to print."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from hypothesis import strategies as some

from slurm_tf.account.usage_record import UsageRecord

SPAN = (1_000_000_000, 1_700_000_000)
COLUMNS = (
    "JobID", "JobIDRaw", "Cluster", "SLUID", "User", "Account", "Partition", "QOS", "WCKey", "State", "ExitCode",
    "Submit", "Eligible", "Start", "End", "ElapsedRaw", "Suspended", "TimelimitRaw", "Restarts", "AllocTRES",
    "TotalCPU", "MaxRSS", "NTasks", "TRESUsageInTot", "ConsumedEnergyRaw", "NodeList", "Reason", "Comment",
    "AdminComment", "Extra", "SubmitLine", "WorkDir", "JobName",
)  # fmt: skip
LATER = 2_000_000_000  # until when what runs has run, in what is printed


def moment(seconds: int | None, local: bool) -> str:
    """Return a time; None as Slurm says it."""
    if seconds is None:
        return "Unknown"
    return datetime.fromtimestamp(seconds).isoformat() if local else str(seconds)


def clock(seconds: float) -> str:
    """Return a time of use, to the thousandth."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    if thousandths and whole < 3600:
        return f"{whole // 60:02}:{whole % 60:02}.{thousandths:03}"
    text = f"{whole // 3600 % 24:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400}-{text}" if whole >= 86400 else text


def tres(record: UsageRecord) -> str:
    """Return AllocTRES."""
    if record.started is None:
        return ""
    types = record.gpu_type.split("+") if record.gpu_type else []
    counts = [record.gpus - len(types) + 1] + [1] * (len(types) - 1)
    parts = [f"billing={record.billing}", f"cpu={record.cpus}"]
    parts += [f"gres/gpu:{kind}={count}" for kind, count in zip(types, counts, strict=False)]
    parts += [f"gres/gpu={record.gpus}"] if record.gpus else []
    return ",".join([*parts, f"mem={record.memory}M", f"node={record.node_count}"])


def rows(record: UsageRecord, local: bool = False) -> list[dict[str, str]]:
    """Return the rows of a job, of its batch step, and of .extern, which is to be ignored."""
    stop = record.ended if record.ended is not None else record.counted_until
    elapsed = 0 if record.started is None or stop is None else stop - record.started - record.suspended
    job = {
        "JobID": record.id, "JobIDRaw": record.raw_id, "Cluster": record.cluster, "SLUID": record.sluid,
        "User": record.user, "Account": record.account, "Partition": record.partition, "QOS": record.qos,
        "WCKey": record.wckey, "State": record.state_text,
        "ExitCode": "" if record.status is None else f"{record.status}:{record.signal}",
        "Submit": moment(record.submitted, local), "Eligible": moment(record.eligible, local),
        "Start": moment(record.started, local), "End": moment(record.ended, local), "ElapsedRaw": str(elapsed),
        "Suspended": clock(record.suspended),
        "TimelimitRaw": "UNLIMITED" if record.limit is None else str(record.limit),
        "Restarts": "" if record.restarts is None else str(record.restarts), "AllocTRES": tres(record),
        "TotalCPU": clock(record.used_cpu or 0), "MaxRSS": "", "NTasks": "", "TRESUsageInTot": "",
        "ConsumedEnergyRaw": str(record.energy or 0), "NodeList": record.nodes or "None assigned",
        "Reason": record.reason or "None", "Comment": record.comment, "AdminComment": record.admin_comment,
        "Extra": record.extra, "SubmitLine": record.submit_line, "WorkDir": record.work_dir, "JobName": record.name,
    }  # fmt: skip
    used = {"mem": record.used_memory, "gres/gpuutil": gpu_percents(record)}
    step = {
        **job, "User": "", "JobName": "batch", "NTasks": "1", "State": "COMPLETED", "SLUID": "",
        "TRESUsageInTot": ",".join(f"{name}={amount}" for name, amount in used.items() if amount is not None),
    }  # fmt: skip
    extern = {**step, "TotalCPU": "10:00:00", "TRESUsageInTot": "mem=999G,gres/gpuutil=99"}
    return [
        job,
        *({**each, "JobID": f"{record.id}.{name}", "JobIDRaw": f"{record.raw_id}.{name}"}
          for name, each in (("batch", step), ("extern", extern)) if record.started is not None),
    ]  # fmt: skip


def gpu_percents(record: UsageRecord) -> int | None:
    """Return how busy its GPUs were, added up."""
    return None if record.gpu_use is None else round(record.gpu_use * record.gpus)


def table(
    records: Iterable[UsageRecord], delimiter: str = "|", columns: Sequence[str] = COLUMNS, closed: bool = False
) -> str:
    """Return what sacct -P (closed: -p) prints, with local times."""
    lines: list[Mapping[str, str]] = [{name: name for name in columns}]
    lines += [row for record in records for row in rows(record, local=True)]
    end = delimiter if closed else ""
    return "".join(delimiter.join(line[name] for name in columns) + f"{end}\n" for line in lines)


def cpu_used(thousandths: int) -> float:
    """Return the seconds that are left when sacct has printed them: it leaves out fractions from an hour on."""
    return thousandths / 1000 if thousandths < 3_600_000 else float(thousandths // 1000)


@some.composite
def any_record(draw: some.DrawFn, text: some.SearchStrategy[str], name: some.SearchStrategy[str]) -> UsageRecord:
    """Return any incarnation; `text`: free text of all kinds, but for the name."""
    word = some.text("abcxyz0189-_", max_size=8)
    number = draw(some.integers(1, 10**7))
    kind = draw(some.sampled_from(["{}", "{}_3", "{}_[1-5%2]", "{}+1"]))
    submitted = draw(some.integers(*SPAN))
    started = draw(some.none() | some.integers(submitted, SPAN[1]))
    ended = draw(some.none() | some.integers(started or submitted, SPAN[1]))
    ran = started is not None
    until = LATER if ran and ended is None else None
    length = 0 if started is None or ended is None else ended - started
    gpus = draw(some.integers(0, 64)) if ran else 0
    kinds = draw(some.lists(some.sampled_from(["a100", "v100", "1g.10gb"]), max_size=min(gpus, 3), unique=True))
    memory = draw(some.none() | some.integers(1, 2**50)) if ran else None
    cpu = draw(some.none() | some.integers(1, 10**12)) if ran else None
    has_exit = draw(some.booleans())
    busy = draw(some.none() | some.integers(0, 100 * gpus)) if gpus and length else None
    held = length if started is None or ended is not None else LATER - started
    suspended = draw(some.integers(0, held)) if busy is None else 0
    state = draw(some.sampled_from(["COMPLETED", "CANCELLED by 1000", "OUT_OF_MEMORY", "PREEMPTED", "EXPEDITING"]))
    return UsageRecord(
        id=kind.format(number), raw_id=str(number), state_text=state, cluster=draw(word), sluid=draw(word),
        submitted=submitted, eligible=draw(some.none() | some.just(submitted)), started=started, ended=ended,
        counted_until=until, suspended=suspended, user=draw(word), account=draw(word), partition=draw(word),
        qos=draw(word), wckey=draw(word), name=draw(name), comment=draw(text), admin_comment=draw(text),
        extra=draw(text), submit_line=draw(text), work_dir=draw(text),
        nodes=draw(word) or "n1" * ran, reason=draw(word),
        status=draw(some.integers(0, 255)) if has_exit else None,
        signal=draw(some.integers(0, 64)) if has_exit else None,
        cpus=draw(some.integers(0, 10**5)) if ran else 0, node_count=draw(some.integers(0, 10**4)) if ran else 0,
        gpus=gpus, gpu_type="+".join(sorted(kinds)), memory=draw(some.integers(0, 10**9)) if ran else 0,
        billing=draw(some.integers(0, 10**6)) if ran else 0, limit=draw(some.none() | some.integers(0, 10**6)),
        restarts=draw(some.none() | some.integers(0, 2000)),
        used_cpu=cpu_used(cpu or 0) if cpu or memory else None,
        used_memory=memory, gpu_use=None if busy is None else busy / gpus,
        energy=draw(some.none() | some.integers(1, 2**62)), out_of_memory=state == "OUT_OF_MEMORY",
    )  # fmt: skip
