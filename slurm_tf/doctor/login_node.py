"""Examines a cluster from its login node: Slurm, the site's profile, the folder of runs, this machine. Runs no job."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from slurm_tf import files
from slurm_tf.doctor import cluster_checks, examination_job, findings, machine_checks
from slurm_tf.doctor.findings import Finding
from slurm_tf.errors import RunError, SlurmError, SlurmTfError, UnreachableError
from slurm_tf.jobspec import sites
from slurm_tf.jobspec.configuration import Job
from slurm_tf.launch.examination import machine
from slurm_tf.run.machine_facts import FolderFacts
from slurm_tf.slurm import client, live_cluster, sbatch_choices
from slurm_tf.slurm.live_cluster import LiveCluster
from slurm_tf.submit import render, sooner

_CLUSTER_CHECKS = ("profile", "partition", "account", "accounting", "sbatch", "mpi", "kill-wait", "preemption", "ports")
_SECONDS = 20.0


def examine(job: Job, environ: Mapping[str, str]) -> list[Finding]:
    """Return what is found of the cluster and of this machine, for jobs like `job`."""
    return [*_of_cluster(job, environ), *_of_machine(job, environ)]


def _of_cluster(job: Job, environ: Mapping[str, str]) -> Iterator[Finding]:
    if job.site.scheduler == "local":
        yield findings.ok("profile", f"{job.site_name}: jobs run on this machine, without Slurm")
        return
    try:
        cluster = live_cluster.ask()
    except SlurmError as problem:
        yield findings.failed("slurm", problem, "ask your administrators whether slurmctld runs")
        yield from (findings.unknown(check, "Slurm does not answer") for check in _CLUSTER_CHECKS)
        return
    yield from cluster_checks.check_release(cluster)
    yield _profile(job, cluster)
    yield cluster_checks.check_partition(cluster, job.site, job.spec.partition or "")
    yield cluster_checks.check_account(cluster)
    yield _sbatch(job)
    yield from cluster_checks.check_accounting(cluster, _sacct_problem())
    local_ports = machine.describe({}, environ).local_ports
    yield from cluster_checks.check_settings(cluster, job.site, local_ports)


def _profile(job: Job, cluster: LiveCluster) -> Finding:
    try:
        return cluster_checks.check_profile(sites.read(job.site_name, job.trusted), cluster)
    except SlurmTfError as problem:
        return findings.failed("profile", problem)


def _sbatch(job: Job) -> Finding:
    """Return whether sbatch would take a short job."""
    try:
        expected = sooner.estimate(render.script(examination_job.plan_of(job)), _SECONDS)
    except UnreachableError as problem:
        return findings.failed("sbatch", problem, "ask your administrators whether slurmctld runs")
    except SlurmError as problem:
        return findings.failed("sbatch", sbatch_choices.explained(problem), "--partition, --account and --qos choose")
    except SlurmTfError as problem:
        return findings.failed("sbatch", problem)
    when = f", and would start it at {expected.start:%Y-%m-%d %H:%M}" if expected.start else ""
    return findings.ok("sbatch", f"it takes a job of {examination_job.MINUTES} min{when}")


def _sacct_problem() -> str:
    """Return why sacct does not answer, "" if it does."""
    try:
        # no job has this id: what counts is that it can be asked
        client.run(["sacct", "--noheader", "--allocations", "--jobs=1", "--format=JobID"], seconds=_SECONDS)
    except SlurmError as problem:
        return problem.found.splitlines()[0]
    return ""


def _of_machine(job: Job, environ: Mapping[str, str]) -> Iterator[Finding]:
    home = os.path.expanduser("~")
    runs = _nearest(job.runs)
    facts = machine.describe({"home": home, "shared-folder": runs}, environ)
    found = [
        _shared_folder(job, facts.folders["shared-folder"]),
        machine_checks.check_folder("home", facts.folders["home"], "ask your administrators for a home folder"),
        machine_checks.check_quota(facts),
        machine_checks.check_proxies(facts),
        _node_python(job, environ),
        *machine_checks.check_limits(facts),
    ]
    yield from (replace(each, where=facts.host) for each in found)


def _nearest(path: str) -> str:
    """Return `path`, or the nearest folder around it that exists: submit makes the folder of runs."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _shared_folder(job: Job, facts: FolderFacts) -> Finding:
    found = machine_checks.check_folder(
        "shared-folder", facts, "name another one: shared in the profile, runs in the user file, or SLURM_TF_RUNS"
    )
    if found.state is not findings.State.OK:
        return found
    try:
        files.check_own(facts.path)
    except RunError as problem:
        do = problem.do or "choose a folder of yours with SLURM_TF_RUNS"
        return findings.warning("shared-folder", problem.found, problem.needed, do)
    return found if facts.path == job.runs else replace(found, found=f"{job.runs} is to be made; {found.found}")


def _node_python(job: Job, environ: Mapping[str, str]) -> Finding:
    """Return whether the Python that runs the launcher is new enough, as far as this machine can tell."""
    python = job.site.node_python
    version = machine.python_version(python, environ)
    if version is None:
        do = "slurm-tf doctor --nodes asks the nodes"
        return findings.unknown("node-python", f"this machine has no {python} that says its version", do)
    return machine_checks.check_python(python, version)
