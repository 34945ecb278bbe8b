"""What is said of nodes that were examined: of good ones, and with one thing wrong each."""

import re
from collections.abc import Callable
from dataclasses import replace

from slurm_tf.doctor import node_checks
from slurm_tf.doctor.findings import State
from slurm_tf.doctor.node_job import Examined
from slurm_tf.run.examination import (
    Clock,
    ExaminationReport,
    ExaminationSettings,
    Finished,
    GpuFacts,
    Met,
    NodeFacts,
    SharedFolderFacts,
    TensorFlowFacts,
)
from slurm_tf.run.machine_facts import FolderFacts
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from tests.doctor.shown import shown
from tests.doctor.test_machine_checks import GIB, GOOD

ROOM = FolderFacts("/x", writable=True, size=100 * GIB, free=50 * GIB, kind="tmpfs")
SETTINGS = ExaminationSettings(
    token="t", identity=7, ports=(20000, 20999), coordinator_ports=None, interface="", host_suffix="",
    python="python", is_launcher_python=False, gpus=2, gpus_are_gres=True, scratch="",
)  # fmt: skip
GPUS = GpuFacts(given=2, devices=2, driver="535.54.03", cuda="12.2")
TENSORFLOW = TensorFlowFacts("2.21.0", 4.5, 2, "12.5.1")
SHARED = SharedFolderFacts("", True, GOOD.user, 7, 2e8, 900.0)
JOB = JobRecord("7", JobState.COMPLETED, nodes="node[1-3]", exit_code=0)


def node(number: int) -> NodeFacts:
    name, address = f"node{number}", f"10.0.0.{number}"
    machine = replace(
        GOOD, host=name, folders={"home": GOOD.folders["home"], "tmp": ROOM, "shm": ROOM, "scratch": ROOM}
    )
    return NodeFacts(name, machine, SHARED, GPUS, address, 20000, "", (address,), f"{name}.cluster")


NODES = tuple(node(number) for number in (1, 2, 3))
NAMES = tuple(each.node for each in NODES)
MET = tuple(
    Met(name, {}, (), 0.1, {each.node: each.named for each in NODES if each.node != name}) for name in NAMES
)  # fmt: skip
REPORT = ExaminationReport(
    batch_host="node1", nodes=NODES, met=MET, finished=tuple(Finished(name, TENSORFLOW) for name in NAMES),
    missing={}, clocks={name: Clock(0.01, 0.002) for name in NAMES}, scontrol="", batch_problem="",
)  # fmt: skip
EXAMINED = Examined("7", SETTINGS, REPORT, JOB, (), 0.2, Clock(-0.02, 0.05), ())


def changed(**fields: object) -> Examined:
    """Return an examination whose report is another one."""
    return replace(EXAMINED, report=replace(REPORT, **fields))  # type: ignore[arg-type]


def node3(**fields: object) -> Examined:
    """Return one in which node3 says something else of itself."""
    return changed(nodes=(*NODES[:2], replace(NODES[2], **fields)))  # type: ignore[arg-type]


def met3(**fields: object) -> Examined:
    return changed(met=(*MET[:2], replace(MET[2], **fields)))  # type: ignore[arg-type]


def tensorflow3(**fields: object) -> Examined:
    facts = replace(TENSORFLOW, **fields)  # type: ignore[arg-type]
    return changed(finished=(*REPORT.finished[:2], Finished("node3", facts)))


def no_report(**fields: object) -> Examined:
    return replace(EXAMINED, report=None, **fields)  # type: ignore[arg-type]


def named(address: str) -> tuple[Met, ...]:
    """Return what nodes find if node3 has another address on the others."""
    return tuple(replace(met, names={**met.names, "node3": (address,)}) for met in MET[:2]) + MET[2:]


UNSHARED = replace(SHARED, sees_login=False, identity=8)
CASES = {
    "a node is silent": changed(nodes=NODES[:2], met=MET[:2], finished=REPORT.finished[:2],
                                missing={"node3": "srun: error: Unable to create step"}),
    "a Python is old": changed(nodes=NODES[:2], met=MET[:2], finished=REPORT.finished[:2],
                               missing={"node3": "slurm-tf: found Python 3.8.10; needed 3.9 or later"}),
    "a node was lost meanwhile": changed(met=MET[:2], finished=REPORT.finished[:2]),
    "a node does not share the folder": replace(
        changed(nodes=(*NODES[:2], replace(NODES[2], shared=UNSHARED)),
                met=tuple(replace(met, unseen=("node3",) if met.node != "node3" else ("node1", "node2"), seconds=10.2)
                          for met in MET)),
        unseen=("node3",)),
    "a node sees files late": node3(shared=replace(SHARED, sees_login=False)),
    "a node cannot write there": node3(shared=SharedFolderFacts("/runs/x: Permission denied")),
    "the login node does not see a file": replace(EXAMINED, unseen=("node2",), seconds=10.0),
    "two nodes do not see each other's files": changed(
        met=(replace(MET[0], unseen=("node2",)), replace(MET[1], unseen=("node1",)), MET[2])),
    "root is squashed": node3(shared=replace(SHARED, owner=65534)),
    "a folder is slow": node3(shared=replace(SHARED, write=1000.0)),
    "what others wrote is seen late": met3(seconds=12.0),
    "a firewall": changed(met=(replace(MET[0], broken={"node3": "10.0.0.3:20000: timed out"}), *MET[1:])),
    "the coordinator is not reached": met3(broken={"": "10.0.0.1:43210: timed out"}),
    "no port is free": node3(unreachable="every port from 20000 to 20999 is in use on node3", port=0),
    "the coordinator has no port": changed(batch_problem="every port from 1 to 2 is in use on node1"),
    "a name is loopback": node3(named=("127.0.1.1",)),
    "a name is unknown to itself": node3(named=()),
    "a name is another address elsewhere": changed(met=named("10.9.9.9")),
    "a name is unknown elsewhere": changed(met=tuple(
        replace(met, names={**met.names, "node3": ()}) if met.node != "node3" else met for met in MET)),
    "an address leads elsewhere": node3(reverse="gateway.cluster"),
    "Slurm gave one GPU": node3(gpus=replace(GPUS, given=1)),
    "GPUs that Slurm does not know of": replace(
        changed(nodes=tuple(replace(each, gpus=replace(GPUS, given=0)) for each in NODES)),
        settings=replace(SETTINGS, gpus_are_gres=False)),
    "a GPU is lost": node3(gpus=replace(GPUS, devices=1)),
    "nvidia-smi fails": node3(gpus=replace(GPUS, driver="", cuda="", problem="nvidia-smi says: it has failed")),
    "TensorFlow sees no GPU": tensorflow3(gpus=0),
    "TensorFlow without CUDA": tensorflow3(gpus=0, cuda=""),
    "the driver is old": node3(gpus=replace(GPUS, driver="450.57", cuda="11.0")),
    "TensorFlow is slow": tensorflow3(seconds=44.0),
    "TensorFlow is missing": tensorflow3(problem="this Python has no TensorFlow", is_missing=True),
    "TensorFlow is missing in the launcher's Python": replace(
        tensorflow3(problem="this Python has no TensorFlow", is_missing=True),
        settings=replace(SETTINGS, is_launcher_python=True, python="python3")),
    "scontrol does not answer": changed(scontrol="Unable to contact slurm controller (connect failure)"),
    "a clock is ahead": changed(clocks={**REPORT.clocks, "node3": Clock(90.0, 0.1)}),
    "all clocks are behind": replace(EXAMINED, clock=Clock(-30.0, 0.1)),
    "a clock is known badly": replace(EXAMINED, clock=Clock(-30.0, 29.0)),
    "the login node's clock is not known": replace(EXAMINED, clock=None),
    "a small scratch": node3(machine=replace(NODES[2].machine, folders={
        **NODES[2].machine.folders, "scratch": replace(ROOM, free=1000)})),
    "it did not start": no_report(record=replace(JOB, state=JobState.PENDING, reason="Priority"), waited=True),
    "it is not known": no_report(record=None),
    "its output could not be made": no_report(record=replace(JOB, state=JobState.FAILED, exit_code=181)),
    "its output is not seen": no_report(),
    "the batch host's Python is old": no_report(
        record=replace(JOB, state=JobState.FAILED, exit_code=1), output=("slurm-tf: found Python 3.8.10; needed 3.9",)),
    "setup fails": no_report(
        record=replace(JOB, state=JobState.FAILED, exit_code=127), output=("line 12: no-such-command", "exit 127")),
    "its time was over": no_report(record=replace(JOB, state=JobState.TIMEOUT)),
}  # fmt: skip


def test_good_nodes(golden: Callable[[str, str], None]) -> None:
    found = node_checks.check(EXAMINED)
    assert {each.state for each in found} == {State.OK}
    golden("doctor/good_nodes.txt", shown(found))
    without = replace(EXAMINED, settings=replace(SETTINGS, gpus=0))
    assert {each.check for each in found} - {each.check for each in node_checks.check(without)} == {
        "driver", "tensorflow-gpus", "cuda"
    }  # fmt: skip


def test_each_thing_that_is_wrong_is_named_and_nothing_else(golden: Callable[[str, str], None]) -> None:
    good, text = node_checks.check(EXAMINED), ""
    for title, examined in CASES.items():
        # a group of good nodes that has become smaller says nothing new
        found = [
            each for each in node_checks.check(examined)
            if each.state is not State.OK or each.found not in {one.found for one in good if one.check == each.check}
        ]  # fmt: skip
        text += f"# {title}\n{shown(found)}"
    golden("doctor/nodes.txt", text)
    assert not re.search(r"\bNone\b", text)
