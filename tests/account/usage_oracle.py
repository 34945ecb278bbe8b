"""What rows of sacct add up to, in plain Python without any code of slurm-tf: an oracle for its queries."""

import re
from collections import defaultdict
from datetime import datetime
from zoneinfo import ZoneInfo

Row = dict[str, str]
Sums = dict[str, float | None]
KEPT = ("COMPLETED", "RUNNING", "PENDING", "SUSPENDED", "ODD")


def moment(text: str, zone: str) -> int | None:
    if not text[:1].isdigit():
        return None
    return int(text) if text.isdigit() else int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def clock(text: str) -> float | None:
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def size(text: str) -> float:
    return float(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1)


def amount(row: Row, name: str) -> int:
    match = re.search(rf"(?:^|,){name}=(\d+)(G?)", row["AllocTRES"])
    return int(match[1]) * 1024 ** bool(match[2]) if match else 0


class Job:
    """One incarnation: its row, and the rows of steps after it."""

    def __init__(self, row: Row, steps: list[Row], zone: str, now: int) -> None:
        self.row, word = row, row["State"].split(" ")[0]
        began, over = moment(row["Start"], zone), moment(row["End"], zone)
        length, pause = int(row["ElapsedRaw"] or 0), int(clock(row["Suspended"]) or 0)
        self.started = None if row["NodeList"] == "None assigned" and began == over and not length else began
        self.ended, self.stop = None if word in ("RUNNING", "SUSPENDED") else over, over
        if self.stop is None and self.started is not None:
            self.stop = self.started + length + pause if row["ElapsedRaw"] else now
        limit = int(row["TimelimitRaw"]) * 60 if row["TimelimitRaw"].isdigit() else None
        if limit is not None and (self.stop or 0) - (self.started or 0) > limit + 86400:
            self.stop = (self.started or 0) + limit
        self.pause, self.waited_from = pause, moment(row["Eligible"] or row["Submit"], zone)
        steps = [step for step in steps if not step["JobID"].endswith(".extern")]
        known = [each for step in steps if (each := clock(step["TotalCPU"])) is not None]
        self.cpu = sum(known) if known else clock(row["TotalCPU"])
        tasks = ["1" if step["JobID"].endswith(".batch") else step["NTasks"] for step in steps if step["MaxRSS"]]
        held = [size(step["MaxRSS"]) for step in steps if step["MaxRSS"]]
        self.memory = max((rss * int(task) for rss, task in zip(held, tasks, strict=True) if all(tasks)), default=None)
        self.cpu = self.cpu if self.cpu or self.memory else None
        self.loses = word not in KEPT

    def meets(self, low: int, high: int) -> bool:
        begin = self.ended if self.started is None else self.started
        return begin is not None and begin < high and (self.ended is None or self.ended > low or begin >= low)


def groups_of(jobs: list[Job], by: tuple[str, ...], low: int, high: int) -> dict[tuple[str, ...], Sums]:
    groups = defaultdict[tuple[str, ...], list[Job]](list)
    for job in jobs:
        if job.started is not None and job.meets(low, high):
            groups[tuple(job.row[name] for name in by)].append(job)
    return {key: _added(group, low, high) for key, group in groups.items()}


def _added(jobs: list[Job], low: int, high: int) -> Sums:
    found, waits, ids = defaultdict[str, float](float), [], set()
    for job in jobs:
        start, stop = job.started or 0, job.stop or 0
        seconds = max(0, min(stop, high) - max(start, low))
        running = max(0, min(stop - job.pause, high) - max(start, low))
        cpus, gpus, memory = amount(job.row, "cpu"), amount(job.row, "gres/gpu"), amount(job.row, "mem")
        found["gpu_seconds"] += gpus * seconds
        found["cpu_seconds"] += cpus * running
        found["node_seconds"] += amount(job.row, "node") * seconds
        found["lost_gpu_seconds"] += gpus * seconds * job.loses
        found["lost_cpu_seconds"] += cpus * running * job.loses
        if job.ended is not None and job.cpu is not None:
            found["known_cpu"] += cpus * running
            whole = job.ended - start - job.pause
            found["used_cpu"] += job.cpu * running / whole if whole > 0 else 0
        if job.memory is not None and memory:
            found["known_memory"] += memory * seconds
            found["used_memory"] += job.memory / 2**20 * seconds
        if low <= start < high and job.waited_from is not None:
            waits.append(max(0, start - job.waited_from))
        ids.add((job.row["Cluster"], job.row["JobID"]))
    waits.sort()
    nearest = {f"wait_p{share}": waits[-(-len(waits) * share // 100) - 1] if waits else None for share in (50, 90)}
    use = {f"{name}_use": found[f"used_{name}"] / found[f"known_{name}"] if found[f"known_{name}"] else None
           for name in ("cpu", "memory")}  # fmt: skip
    sums = {name: value for name, value in found.items() if name.endswith("seconds")}
    return {**sums, "jobs": len(ids), "incarnations": len(jobs), **nearest, **use}
