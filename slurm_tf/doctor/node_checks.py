"""Judges what an examination of nodes found: each node by itself, the nodes between each other, and the job."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import replace

from slurm_tf.doctor import container_checks, findings, machine_checks
from slurm_tf.doctor.findings import Finding
from slurm_tf.doctor.node_job import Examined
from slurm_tf.run.examination import (
    Clock,
    ExaminationReport,
    ExaminationSettings,
    GpuFacts,
    Met,
    NodeFacts,
    TensorFlowFacts,
)
from slurm_tf.slurm import hostlist, pending_reasons
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord

# Seconds: clocks that differ by less do no harm; what others wrote is usually seen in less.
_CLOCK, _SEEN = 2.0, 10.0
# A shared folder that is slower than this holds up each checkpoint, and each start of a program.
_WRITE, _FILES = 1 << 20, 10.0
_IMPORT = 30.0
_ADMINS = "ask your administrators"
_TOO_OLD = "found Python "
# Of a job whose output file could not be made: Slurm (22.05.8) says signal 53.
_NO_OUTPUT = 128 + 53


def check(examined: Examined) -> list[Finding]:
    """Return all that is to say of an examination."""
    report = examined.report
    if report is None:
        return [_no_report(examined)]
    nodes = [each.node for each in report.nodes]
    by_node = [*_missing(report), *((facts.node, each) for facts in report.nodes for each in _of_node(facts, examined))]
    between = [*_links(report), *_shared(examined, report), *_host_names(report), *_tensorflow(report, examined)]
    return [_ok_job(examined, nodes), *findings.of_nodes([*by_node, *between]), _scontrol(report), *_clocks(examined)]


def _ok_job(examined: Examined, nodes: list[str]) -> Finding:
    return replace(findings.ok("job", f"job {examined.job} ran on {len(nodes)} nodes"), where=hostlist.compress(nodes))


def _no_report(examined: Examined) -> Finding:
    """Return why there is no report: the job did not start, failed, or cannot be seen from here."""
    record = examined.record
    if record is None:
        return findings.unknown("job", f"Slurm has no record of job {examined.job}", "look for it with sacct")
    if examined.waited:
        why = pending_reasons.explain(record.reason)
        when = f"; Slurm expects to start it at {record.expected_start}" if record.expected_start else ""
        do = "--timeout waits longer; --partition, --account and --qos choose others"
        return findings.unknown("job", f"job {examined.job} did not start, and was cancelled: {why}{when}", do)
    said = " | ".join(examined.output)
    where = record.nodes
    if record.exit_code == _NO_OUTPUT or (record.state.succeeded and not said):
        found = f"job {examined.job} ended, and nothing that it wrote is seen here: {_end(record)}"
        needed = "one folder of runs for this machine and all nodes"
        return replace(findings.error("shared-folder", found, needed, _SHARE), where=where)
    if _TOO_OLD in said:
        do = "set node-python in the site's profile"
        return replace(findings.error("node-python", said, "3.9 or later for the launcher", do), where=where)
    printed = f", and printed: {said}" if said else ""
    found = f"job {examined.job} {_end(record)}{printed}"
    if record.state is not JobState.FAILED:
        needed = "a job that ends by itself, within its time limit"
        return replace(findings.error("job", found, needed, "--time=5 gives it more time"), where=where)
    do = "correct what it says: it is what the site's prologue, modules, node-python and the job's setup do"
    return replace(findings.error("job", found, "a job that starts the launcher", do), where=where)


_SHARE = "set shared in the profile, runs in the user file, or SLURM_TF_RUNS to a folder that the nodes share"


def _end(record: JobRecord) -> str:
    code = "" if record.exit_code is None else f", exit code {record.exit_code}"
    return f"{record.state.name}{code}"


def _missing(report: ExaminationReport) -> Iterator[tuple[str, Finding]]:
    """Yield why nothing came of a node."""
    for node, words in report.missing.items():
        if _TOO_OLD in words:
            do = "set node-python in the site's profile to a Python that all nodes have"
            yield node, findings.error("node-python", words, "3.9 or later for the launcher", do)
        else:
            do = "the line is of srun, or of node-python on this node; slurm-tf doctor --nodes --exclude leaves it out"
            yield node, findings.error("launcher", f"nothing came of it: {words}", "a task that runs there", do)


def _of_node(facts: NodeFacts, examined: Examined) -> Iterator[Finding]:
    machine = facts.machine
    yield findings.ok("node-python", f"Python {'.'.join(map(str, machine.python))}")
    yield machine_checks.check_processor(machine)
    yield from machine_checks.check_limits(machine)
    yield machine_checks.check_proxies(machine)
    do = f"{_ADMINS}: a home folder on each node"
    yield machine_checks.check_folder("home", machine.folders.get("home"), do)
    yield machine_checks.check_quota(machine)
    yield machine_checks.check_folder("tmp", machine.folders.get("tmp"), f"{_ADMINS}, or set TMPDIR")
    yield machine_checks.check_folder("shm", machine.folders.get("shm"), _ADMINS)
    if "scratch" in machine.folders:
        yield machine_checks.check_folder("scratch", machine.folders["scratch"], "correct scratch in the profile")
    yield _memory(machine.memory_limit)
    yield from _gpus(facts.gpus, examined.settings)
    if facts.containers and examined.settings.runtime:
        yield from container_checks.check(facts.containers, examined.settings.runtime)


def _memory(limit: int | None) -> Finding:
    if limit is None:
        return findings.ok("memory-limit", "no control group limits the memory of a job")
    return findings.ok("memory-limit", f"a control group limits the job to {machine_checks.size(limit)}")


def _gpus(gpus: GpuFacts, settings: ExaminationSettings) -> Iterator[Finding]:
    if not settings.gpus:
        yield findings.ok("gpus", "the job asked for none")
        return
    said = f"Slurm gave {gpus.given} of {settings.gpus} in CUDA_VISIBLE_DEVICES"
    if not settings.gpus_are_gres:
        said = f"a node has {settings.gpus}, as the profile says"
    devices = gpus.devices
    if settings.gpus_are_gres and gpus.given < settings.gpus:
        do = f"{_ADMINS}: gres.conf, or a TaskProlog that changes CUDA_VISIBLE_DEVICES"
        yield findings.error("gpus", said, f"{settings.gpus} GPUs in each task", do)
    elif devices is not None and devices < settings.gpus:
        found = f"{said}, and there are {devices} device files of NVIDIA"
        yield findings.error("gpus", found, f"{settings.gpus} GPUs that can be opened", f"{_ADMINS}: a GPU is lost")
    else:
        yield findings.ok("gpus", said)
    if gpus.problem:
        yield findings.unknown("driver", gpus.problem)
    else:
        yield findings.ok("driver", f"driver {gpus.driver}, for CUDA up to {gpus.cuda or 'unknown'}")


def _tensorflow(report: ExaminationReport, examined: Examined) -> Iterator[tuple[str, Finding]]:
    if examined.settings.containers and examined.settings.is_launcher_python:
        return  # programs do not run with that Python
    gpus = {each.node: each.gpus for each in report.nodes}
    for finished in report.finished:
        for each in check_tensorflow(finished.tensorflow, gpus[finished.node], examined.settings):
            yield finished.node, each
    for node in set(gpus) - {each.node for each in report.finished}:
        yield node, findings.unknown("tensorflow", "the node did not say, as the job's time was over")


def check_tensorflow(facts: TensorFlowFacts, gpus: GpuFacts, settings: ExaminationSettings) -> Iterator[Finding]:
    """Yield whether TensorFlow can be imported in time, sees the GPUs, and was built for their driver."""
    if facts.problem and settings.is_launcher_python:
        do = "name a job file, whose setup and command say which Python its programs have: slurm-tf doctor --nodes JOB"
        yield findings.unknown("tensorflow", f"{settings.python}: {facts.problem}", do)
        return
    if facts.problem:
        do = "install it there, or correct setup and command of the job file"
        yield findings.error("tensorflow", f"{settings.python}: {facts.problem}", "TensorFlow", do)
        return
    said = f"TensorFlow {facts.version}, imported in {facts.seconds:.1f} s"
    if facts.seconds > _IMPORT:
        do = "put the environment on a faster file system, or into one file (a container, conda-pack)"
        yield findings.warning("tensorflow", said, f"{_IMPORT:.0f} s or less: each start waits for it", do)
    else:
        yield findings.ok("tensorflow", said)
    if not settings.gpus:
        return
    if facts.gpus < settings.gpus:
        found = f"TensorFlow sees {facts.gpus} of {settings.gpus} GPUs"
        built = f"it was built for CUDA {facts.cuda}" if facts.cuda else "it was built without CUDA"
        do = "pip install 'tensorflow[and-cuda]'; TF_CPP_MIN_LOG_LEVEL=0 says which library is missing"
        yield findings.error("tensorflow-gpus", f"{found}; {built}", f"{settings.gpus}", do)
    else:
        yield findings.ok("tensorflow-gpus", f"TensorFlow sees {facts.gpus} of {settings.gpus}")
    yield from _cuda(facts, gpus)


def _cuda(facts: TensorFlowFacts, gpus: GpuFacts) -> Iterator[Finding]:
    """Yield whether the driver runs the CUDA of TensorFlow's build: any later one, and those of the same major number.

    Source: NVIDIA, CUDA Compatibility: minor version compatibility, from CUDA 11 on.
    """
    if not facts.cuda or not gpus.cuda:
        return
    said = f"TensorFlow was built for CUDA {facts.cuda}, the driver {gpus.driver} runs CUDA up to {gpus.cuda}"
    if _major(gpus.cuda) >= _major(facts.cuda):
        yield findings.ok("cuda", said)
        return
    do = f"{_ADMINS} for a newer driver, or install a TensorFlow that was built for CUDA {_major(gpus.cuda)}"
    yield findings.error("cuda", said, f"a driver for CUDA {_major(facts.cuda)}", do)


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _links(report: ExaminationReport) -> Iterator[tuple[str, Finding]]:
    """Yield whether each node can be connected to, by what it says itself and by what others found."""
    needed = "TCP between all nodes on the ports of the profile, or on any that the kernel chooses"
    do = f"{_ADMINS} which ports are open between nodes, and set ports and coordinator-ports in the profile"
    broken = {met.node: met.broken for met in report.met}
    for facts in report.nodes:
        if facts.unreachable:
            change = "correct ports, interface or host-suffix in the profile"
            yield facts.node, findings.error("ports", facts.unreachable, "an address and a port of its own", change)
            continue
        if facts.node not in broken:
            yield facts.node, findings.unknown("ports", "the node did not say whom it reaches")
            continue
        problems = [f"{name or 'the coordinator'} at {why}" for name, why in broken[facts.node].items()]
        if problems:
            yield facts.node, findings.error("ports", f"it does not reach {'; '.join(problems)}", needed, do)
        else:
            yield facts.node, findings.ok("ports", "connections to the other nodes and to the coordinator")
    if report.batch_problem:
        change = "correct coordinator-ports in the profile"
        yield report.batch_host, findings.error("ports", report.batch_problem, "a port for the coordinator", change)


def _shared(examined: Examined, report: ExaminationReport) -> Iterator[tuple[str, Finding]]:
    """Yield whether each node has the shared folder, and how fast it is there."""
    met = {each.node: each for each in report.met}
    bad = {each.node for each in report.nodes if each.shared.error or not each.shared.sees_login} | set(examined.unseen)
    for facts in report.nodes:
        unseen = [node for node in met[facts.node].unseen if node not in bad] if facts.node in met else []
        problem = _shared_problem(facts, examined, unseen)
        if problem:
            needed = "one folder of runs for this machine and all nodes"
            yield facts.node, findings.error("shared-folder", problem, needed, _SHARE)
        else:
            yield from ((facts.node, each) for each in _speed(facts, met.get(facts.node)))


def _shared_problem(facts: NodeFacts, examined: Examined, unseen: list[str]) -> str:
    if facts.shared.error:
        return facts.shared.error
    if not facts.shared.sees_login:
        is_other = facts.shared.identity != examined.settings.identity
        why = "it is another folder there" if is_other else "it is the same folder, whose contents come late"
        return f"it does not see what this machine wrote: {why}"
    if facts.node in examined.unseen:
        return f"this machine does not see what it wrote, in {examined.seconds:.0f} s"
    return f"it does not see what {hostlist.compress(unseen)} wrote" if unseen else ""


def _speed(facts: NodeFacts, met: Met | None) -> Iterator[Finding]:
    shared = facts.shared
    seen = f", sees what others wrote in {met.seconds:.1f} s" if met and not met.unseen else ""
    said = f"writes {machine_checks.size(int(shared.write))}/s, {shared.files:.0f} files/s{seen}"
    if shared.owner != facts.machine.user:
        found = f"files of user id {facts.machine.user} belong to {shared.owner} there"
        do = f"{_ADMINS}: root_squash, or the mapping of user ids (idmapd)"
        yield findings.warning("shared-folder", found, "files of one's own", do)
    elif shared.write < _WRITE or shared.files < _FILES or (seen and met and met.seconds > _SEEN):
        needed = f"{machine_checks.size(_WRITE)}/s and {_FILES:.0f} files/s or more, and {_SEEN:.0f} s or less"
        do = "use another file system for runs: SLURM_TF_RUNS, or shared in the profile"
        yield findings.warning("shared-folder", said, needed, do)
    else:
        yield findings.ok("shared-folder", said)


def _host_names(report: ExaminationReport) -> Iterator[tuple[str, Finding]]:
    """Yield whether the name of each node means the same on itself and on others, and its address leads back to it."""
    named: dict[str, dict[str, tuple[str, ...]]] = {each.node: {} for each in report.nodes}
    for met in report.met:
        for node, addresses in met.names.items():
            named.setdefault(node, {})[met.node] = addresses
    for facts in report.nodes:
        problems = _name_problems(facts, named[facts.node])
        if problems:
            needed = "a host name that leads to the node on all machines: Horovod over Gloo, and MPI, use it"
            do = f"{_ADMINS}: /etc/hosts of the node, or DNS"
            yield facts.node, findings.warning("host-names", "; ".join(problems), needed, do)
        else:
            yield facts.node, findings.ok("host-names", "each name leads to its node")


def _name_problems(facts: NodeFacts, elsewhere: Mapping[str, tuple[str, ...]]) -> list[str]:
    host, problems = facts.machine.host, []
    loopback = [each for each in facts.named if _is_loopback(each)]
    if not facts.named:
        problems.append(f"{host} has no address on itself")
    elif loopback:
        problems.append(f"{host} is {', '.join(loopback)} on itself")
    known = {*facts.named, facts.address}
    unknown = [node for node, found in elsewhere.items() if not found]
    others = [node for node, found in elsewhere.items() if found and not known & set(found)]
    if unknown:
        problems.append(f"{facts.node} is not known on {hostlist.compress(unknown)}")
    if others:
        problems.append(f"{facts.node} is another address on {hostlist.compress(others)}")
    name = facts.reverse.partition(".")[0]
    if name and not name.startswith(facts.node.partition(".")[0]):
        problems.append(f"{facts.address} is {facts.reverse} on itself")
    return problems


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _scontrol(report: ExaminationReport) -> Finding:
    if not report.scontrol:
        return replace(findings.ok("scontrol", "it answers in the job"), where=report.batch_host)
    needed = "an answer: a preempted or failed job is requeued from the batch host"
    found = findings.error("scontrol", report.scontrol, needed, f"{_ADMINS}: nodes need scontrol and squeue")
    return replace(found, where=report.batch_host)


def _clocks(examined: Examined) -> list[Finding]:
    """Return whether the clocks of the nodes and of this machine agree, as far as that can be known."""
    report, own = examined.report, examined.clock
    if report is None:
        return []
    if own is None:
        why = "the batch host did not answer through the shared folder while the job ran"
        unknown = [replace(findings.unknown("clock", why), where=report.batch_host)]
        of_batch = [(node, _clock(each, f"{report.batch_host}'s")) for node, each in report.clocks.items()]
        return [*unknown, *findings.of_nodes(of_batch)]
    sums = {
        node: Clock(each.ahead + own.ahead, each.uncertainty + own.uncertainty) for node, each in report.clocks.items()
    }
    return findings.of_nodes([(node, _clock(each, "this machine's")) for node, each in sums.items()])


def _clock(clock: Clock, whose: str) -> Finding:
    way = "ahead of" if clock.ahead >= 0 else "behind"
    said = f"{abs(clock.ahead):.2f} s {way} {whose} clock, +- {clock.uncertainty:.2f} s"
    if abs(clock.ahead) + clock.uncertainty <= _CLOCK:
        return findings.ok("clock", said)
    if abs(clock.ahead) - clock.uncertainty <= _CLOCK:
        return findings.unknown("clock", f"{said}: the shared folder tells the time no better")
    needed = f"{_CLOCK:.0f} s or less: times in logs and files mislead, and munge refuses more than five minutes"
    return findings.warning("clock", said, needed, f"{_ADMINS}: the node's clock (chrony, ntp)")
