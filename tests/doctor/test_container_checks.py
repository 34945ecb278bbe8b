"""What is said of nodes that are to run containers: of a good one for each runtime, and with one thing wrong each."""

from collections.abc import Callable
from dataclasses import replace

from slurm_tf.doctor import container_checks, node_checks
from slurm_tf.doctor.findings import State
from slurm_tf.run import message_codec
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.run.examination import (
    FROM_NODES,
    TO_NODES,
    Begin,
    ContainerFacts,
    ImageFacts,
    RoleContainer,
    RuntimeSettings,
)
from tests.doctor.shown import shown
from tests.doctor.test_node_checks import EXAMINED, NODES, SETTINGS, changed

FOLDER = ImageFacts("/images/tf-2.18", "folder")
SIF = ImageFacts("/images/tf.sif", "SIF")
SQUASHFS = ImageFacts("/images/tf.sqfs", "squashfs")
BUNDLE = ImageFacts("/images/bundle", "OCI bundle")
CHARLIECLOUD = ContainerFacts("/usr/bin/ch-run", "0.31", "", 15000, {}, 0o600, False, (FOLDER,))
APPTAINER = replace(CHARLIECLOUD, program="/usr/bin/apptainer", version="1.4.5", images=(SIF,), opens_fuse=True)
PYXIS = replace(CHARLIECLOUD, program="/usr/bin/enroot", version="3.4.1", images=(SQUASHFS,))
OCI = replace(CHARLIECLOUD, program="", version="", images=(BUNDLE,))
DEBIAN = {"kernel.unprivileged_userns_clone": "0"}
UBUNTU = {"kernel.apparmor_restrict_unprivileged_userns": "1"}
CASES = {
    "charliecloud": (Runtime.CHARLIECLOUD, CHARLIECLOUD),
    "apptainer": (Runtime.APPTAINER, APPTAINER),
    "pyxis": (Runtime.PYXIS, PYXIS),
    "oci": (Runtime.OCI, OCI),
    "no job file": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, images=())),
    "no runtime": (Runtime.APPTAINER, replace(
        APPTAINER, program="", version="", problem="there is no program apptainer in PATH=/usr/bin:/bin")),
    "the kernel allows none": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, namespaces=0)),
    "the kernel has none": (Runtime.PYXIS, replace(PYXIS, namespaces=None)),
    "Debian's setting": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, restrictions=DEBIAN)),
    "Ubuntu's setting": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, restrictions=UBUNTU)),
    "apptainer may have the setuid bit": (Runtime.APPTAINER, replace(
        APPTAINER, namespaces=0, opens_fuse=False, restrictions={**DEBIAN, **UBUNTU})),
    "a file without fuse": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, images=(FOLDER, SQUASHFS))),
    "there is no fuse": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, fuse=None, images=(SQUASHFS,))),
    "another runtime's image": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, images=(SIF, BUNDLE), opens_fuse=True)),
    "an image is not seen": (Runtime.CHARLIECLOUD, replace(
        CHARLIECLOUD, images=(ImageFacts("/images/x", problem="No such file or directory"),))),
    "a mount is not seen": (Runtime.CHARLIECLOUD, replace(CHARLIECLOUD, images=(
        replace(FOLDER, unseen={"/data": "No such file or directory", "/home/bob": "it cannot be read"}),))),
}  # fmt: skip


def test_each_thing_that_is_wrong_is_named(golden: Callable[[str, str], None]) -> None:
    text = ""
    for title, (runtime, facts) in CASES.items():
        found = list(container_checks.check(facts, RuntimeSettings(runtime, ())))
        good = title in ("charliecloud", "apptainer", "pyxis", "oci", "no job file")
        assert good == all(each.state is State.OK for each in found), title
        text += f"# {title}\n{shown(found if good else [each for each in found if each.state is not State.OK])}"
    golden("doctor/containers.txt", text)


def test_nodes_that_differ_are_told_apart() -> None:
    settings = replace(SETTINGS, runtime=RuntimeSettings(Runtime.CHARLIECLOUD, ("ch-run",)))
    bad = replace(CHARLIECLOUD, program="", problem="there is no program ch-run in PATH=/bin")
    nodes = tuple(replace(each, containers=bad if each.node == "node2" else CHARLIECLOUD) for each in NODES)
    examined = replace(changed(nodes=nodes), settings=settings)
    found = {(each.state.value, each.where) for each in node_checks.check(examined) if "container" in each.check}
    assert found == {("error", "node2"), ("ok", "node[1,3]")}
    # a site without a runtime
    assert not any("container" in each.check for each in node_checks.check(EXAMINED))


def test_the_python_of_the_launcher_is_not_asked_for_tensorflow_where_programs_run_in_images() -> None:
    container = RoleContainer(ContainerSettings(Runtime.CHARLIECLOUD, ("ch-run",), "/images/x"), ("python3",))
    settings = replace(SETTINGS, is_launcher_python=True, containers=(container,))
    checks = {each.check for each in node_checks.check(replace(EXAMINED, settings=settings))}
    assert "tensorflow" not in checks
    assert "tensorflow" in {each.check for each in node_checks.check(EXAMINED)}


def test_facts_and_settings_pass_through_lines_of_text() -> None:
    container = ContainerSettings(Runtime.CHARLIECLOUD, ("ch-run",), "/images/x", (Mount("/data", "/data", True),))
    runtime = RuntimeSettings(Runtime.CHARLIECLOUD, ("ch-run",))
    settings = replace(SETTINGS, runtime=runtime, containers=(RoleContainer(container, ("python3", "a b\n")),))
    begin = Begin(settings, "/runs/x", "secret")
    assert message_codec.decode(message_codec.encode(begin), TO_NODES) == begin
    facts = replace(NODES[0], containers=CHARLIECLOUD)
    assert message_codec.decode(message_codec.encode(facts), FROM_NODES) == facts
