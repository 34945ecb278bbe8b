"""Judges what a cluster says of itself: its release, its accounting, and settings of slurm.conf."""

import re
from collections.abc import Iterator, Mapping

from slurm_tf import units
from slurm_tf.doctor import findings
from slurm_tf.doctor.findings import Finding
from slurm_tf.jobspec import site_comparison, site_detection
from slurm_tf.jobspec.sites import Profile, Site
from slurm_tf.slurm import known_bugs
from slurm_tf.slurm.live_cluster import LiveCluster

_ADMINS = "ask your administrators"
# A task has this long to end after SIGTERM, in which slurm-tf ends its program and says why (KillWait, 30 by default).
_KILL_WAIT = 5
_PORTS = ("SlurmctldPort", "SlurmdPort", "SrunPortRange")
Ports = tuple[int, int]


def check_release(cluster: LiveCluster) -> Iterator[Finding]:
    """Yield the release, and each bug that it is known to have."""
    bugs = known_bugs.of_release(cluster.version)
    if bugs is None:
        yield findings.unknown("slurm", f"slurmctld says that it is release {cluster.version or '(nothing)'}")
        return
    yield findings.ok("slurm", f"{cluster.version}, cluster {cluster.name}")
    for bug in bugs:
        mended = "{}.{:02d}.{}".format(*bug.mended)
        needed = f"Slurm {mended} or later ({bug.source})"
        yield findings.warning("known-bug", f"Slurm {cluster.version}: {bug.effect}", needed, bug.avoid)


def check_profile(profile: Profile, cluster: LiveCluster) -> Finding:
    """Return whether the site's profile fits the cluster; what MPI there is, is a finding of its own."""
    different = [each for each in site_comparison.compare(profile, cluster) if each.key != "mpi"]
    name = profile.path.stem
    if not different:
        return findings.ok("profile", f"{name} ({profile.path}) does not differ from the cluster")
    said = "; ".join(f"{each.key}: {each.profile}, cluster: {each.cluster}" for each in different[:3])
    more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
    needed = "the cluster's values: submit refuses or lets through jobs by those of the profile"
    return findings.warning("profile", f"{profile.path}: {said}{more}", needed, f"slurm-tf sites check {name}")


def check_partition(cluster: LiveCluster, site: Site, wanted: str) -> Finding:
    """Return whether the partition of jobs takes some: `wanted`, else the profile's, else the cluster's default."""
    default = next((each.name for each in cluster.partitions if each.is_default), "")
    names = (wanted or site.default_partition or default).split(",")
    there = {each.name: each for each in cluster.partitions}
    if names == [""]:
        known = ", ".join(there) or "none"
        found = f"no partition is the default; there are {known}"
        return findings.warning("partition", found, "a partition in each job", 'partition = "NAME" in job files')
    missing = [name for name in names if name not in there]
    if missing:
        needed = f"one of {', '.join(there)}"
        return findings.error("partition", f"there is no partition {', '.join(missing)}", needed, "correct its name")
    closed = [f"{name} is {there[name].state}" for name in names if there[name].state not in ("UP", "")]
    if closed:
        other = ", ".join(each.name for each in cluster.partitions if each.state == "UP")
        return findings.error("partition", ", ".join(closed), "a partition that is UP", f"use another one: {other}")
    empty = [name for name in names if not there[name].kinds]
    if empty:
        found = f"{', '.join(empty)} has no node"
        return findings.error("partition", found, "a partition with nodes", _ADMINS)
    return findings.ok("partition", ", ".join(names))


def check_account(cluster: LiveCluster) -> Finding:
    """Return whether the user may submit jobs."""
    if why := cluster.unknown.get("accounts"):
        return findings.unknown("account", why)
    if cluster.accounts:
        return findings.ok("account", f"{cluster.user} has {', '.join(cluster.accounts)}")
    enforced = "associations" in cluster.settings.get("AccountingStorageEnforce", "").split(",")
    found = f"{cluster.user} has no account on cluster {cluster.name}"
    if enforced:
        needed = "one: sbatch refuses jobs without (AccountingStorageEnforce)"
        return findings.error("account", found, needed, f"{_ADMINS} for an account")
    return findings.ok("account", f"{found}, and needs none")


def check_accounting(cluster: LiveCluster, problem: str) -> Iterator[Finding]:
    """Yield whether accounting answers, and what it records. `problem`: of sacct, "" if it answers."""
    kept = cluster.settings.get("AccountingStorageType", "")
    if not kept.endswith("slurmdbd"):
        found = f"AccountingStorageType is {kept or 'not set'}"
        do = f"{_ADMINS} for slurmdbd; what jobs print, and status while Slurm knows them, need none"
        yield findings.warning("accounting", found, "slurmdbd for usage and efficiency, and status of old jobs", do)
        return
    if problem:
        needed = "an answer: usage, efficiency and status of jobs that slurmctld has forgotten need slurmdbd"
        yield findings.error("accounting", f"sacct: {problem}", needed, f"{_ADMINS}: slurmdbd or its database is down")
    else:
        yield findings.ok("accounting", "sacct answers")
    yield _gpu_accounting(cluster)
    gather = cluster.settings.get("JobAcctGatherType", "")
    if gather.endswith("/none") or not gather:
        needed = "jobacct_gather/linux or cgroup: efficiency knows no memory and no CPU time"
        yield findings.warning("measuring", f"JobAcctGatherType is {gather or 'not set'}", needed, _ADMINS)
    else:
        yield findings.ok("measuring", f"JobAcctGatherType is {gather}")


def check_settings(cluster: LiveCluster, site: Site, local_ports: Ports | None) -> Iterator[Finding]:
    """Yield what settings of slurm.conf mean for jobs."""
    yield _mpi(cluster, site)
    requeue = cluster.settings.get("JobRequeue", "")
    said = "jobs say --requeue or --no-requeue themselves"
    yield findings.ok("requeue", f"JobRequeue is {requeue or 'not known'}; {said}")
    yield _kill_wait(cluster.settings)
    yield _preemption(cluster)
    yield _ports(cluster.settings, site, local_ports)


def _gpu_accounting(cluster: LiveCluster) -> Finding:
    tracked = cluster.settings.get("AccountingStorageTRES", "").split(",")
    if not cluster.has_gpus:
        return findings.ok("gpu-accounting", "Slurm knows of no GPUs")
    if any(name == "gres/gpu" for name in tracked):
        return findings.ok("gpu-accounting", "AccountingStorageTRES has gres/gpu")
    needed = "gres/gpu: without it GPUs that jobs used are not recorded"
    return findings.warning("gpu-accounting", f"AccountingStorageTRES is {','.join(tracked)}", needed, _ADMINS)


def _mpi(cluster: LiveCluster, site: Site) -> Finding:
    if why := cluster.unknown.get("mpi"):
        return findings.unknown("mpi", why)
    said = f"srun has {', '.join(cluster.mpi) or 'none'}"
    if site.mpi in cluster.mpi:
        return findings.ok("mpi", said)
    needed = f"{site.mpi}, as mpi of the profile says, for Horovod over MPI"
    return findings.warning("mpi", said, needed, "Horovod over Gloo needs none; or set mpi in the profile")


def _kill_wait(settings: Mapping[str, str]) -> Finding:
    text = settings.get("KillWait", "")
    seconds = re.match(r"\d+", text)
    if seconds is None:
        return findings.unknown("kill-wait", "slurmctld does not say KillWait")
    if int(seconds[0]) >= _KILL_WAIT:
        return findings.ok("kill-wait", f"KillWait is {text}")
    needed = f"{_KILL_WAIT} sec or more: a program is killed while it writes a checkpoint"
    return findings.warning("kill-wait", f"KillWait is {text}", needed, f"{_ADMINS}; checkpoint.warning saves earlier")


def _preemption(cluster: LiveCluster) -> Finding:
    """Return whether jobs that are preempted are given time to save a checkpoint."""
    kind = cluster.settings.get("PreemptType", "preempt/none")
    if kind == "preempt/qos" and "all_qos" in cluster.unknown:
        return findings.unknown("preemption", cluster.unknown["all_qos"])
    found = site_detection.preemption_of(cluster)
    if found.mode == "OFF":
        return findings.ok("preemption", f"jobs are not preempted ({kind})")
    if found.grace_time is not None:
        return findings.ok("preemption", f"{found.note}; GraceTime is {units.format_time(found.grace_time)} or more")
    if kind == "preempt/qos" and not any(qos.preempts for qos in cluster.all_qos):
        return findings.ok("preemption", f"no QOS preempts another ({kind})")
    needed = "a GraceTime in which a checkpoint can be saved"
    do = "checkpoint.every says how much is lost at most; where preemption is rare, ask for GraceTime"
    return findings.warning("preemption", f"{found.note}, without GraceTime", needed, do)


def _ports(settings: Mapping[str, str], site: Site, local: Ports | None) -> Finding:
    """Return whether ranges of ports in the profile are free for jobs."""
    own = [(key, text) for key, text in (("ports", site.ports), ("coordinator-ports", site.coordinator_ports)) if text]
    if not own:
        return findings.ok("ports", "the kernel chooses them: the profile names no range")
    others = [(f"{name} of slurm.conf", found) for name in _PORTS if (found := _range(settings.get(name, "")))]
    others += [("ip_local_port_range, from which the kernel takes ports for connections", local)] if local else []
    clashes = [
        f"{key} = {text!r} overlaps {what}, {low}-{high}"
        for key, text in own
        for what, (low, high) in others
        if _overlap(units.parse_ports(text), (low, high))
    ]
    if clashes:
        needed = "ports that nothing else takes"
        return findings.warning("ports", "; ".join(clashes), needed, "choose other ranges in the profile")
    return findings.ok("ports", ", ".join(f"{key} {text}" for key, text in own))


def _range(text: str) -> Ports | None:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    return (int(match[1]), int(match[2] or match[1])) if match else None


def _overlap(one: Ports, other: Ports) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
