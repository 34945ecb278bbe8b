"""Containers that cannot start on a real Slurm with Charliecloud: one clear error before training, on which nodes.

What no machine of the tests can be in is in tests/launch/agent/test_program_container.py, by what runtimes printed.
"""

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import container_image
from tests.cluster.group import Member
from tests.conftest import ROOT
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

SITE = """\
inherit = "generic"
node-python = "/usr/bin/python3"
[container]
runtime = "charliecloud"
"""
JOB = """\
name = "{name}"
strategy = "multi_worker"
join = "optional"
command = ["python3", "train.py"]
time = "5"
snapshot = false
retry.unknown = 2
[sbatch]
nodelist = "node1,node2"
requeue = true
[roles.worker]
count = 2
ntasks-per-node = 1
[container]
image = "{image}"
mounts = {mounts}
"""
# an import that the image need not have
TRAIN = "import slurm_tf.train, sys\nprint('trains with', sys.version_info[:2], slurm_tf.train.__file__)\n"
# in a user namespace of its own, in which none can be made
NO_NAMESPACES = """\
#!/bin/sh
exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec ch-run "$@"' sh "$@"
"""
OLD_PYTHON = """#!/bin/sh\necho 'slurm-tf: ["3.8.10", ""]'\n"""
# the head of a program for another processor, and all zeros
AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01\x00\x00\x00" + bytes(40)


@dataclass(frozen=True)
class Broken:
    """A container with one thing that is wrong. `breaks`: does it to a copy of the image, if that is needed.

    `image`: another one than this copy or the image of all tests; `mounts`: of the job; `command`: of the site;
    `on_node2`: is done there, and undone.
    """

    breaks: Callable[[Path], object] | None = None
    image: str = ""
    mounts: Sequence[str] = ()
    command: str = ""
    on_node2: tuple[str, str] = ("", "")


def write(path: Path, content: bytes) -> None:
    path.unlink()  # the copy has links to the files of the image itself
    path.write_bytes(content)
    path.chmod(0o755)


def for_another_processor(root: Path) -> None:
    for path in (*(root / "usr/bin").iterdir(), *(root / "bin").iterdir()):
        if not path.is_symlink():
            write(path, AARCH64)


BROKEN = {
    "no-image": Broken(image="/srv/nowhere"),  # not where submit looks
    "no-python": Broken(lambda root: (root / "usr/bin/python3").unlink()),
    "wrong-python": Broken(lambda root: write(root / "usr/bin/python3", OLD_PYTHON.encode())),
    "no-mount-point": Broken(lambda _: None, mounts=("{folder}:/opt/data/flowers",)),
    "no-passwd": Broken(lambda root: (root / "etc/passwd").unlink()),
    "no-user-namespaces": Broken(command="{folder}/no-namespaces"),
    "no-runtime-on-a-node": Broken(
        command="{folder}/bin/ch-run", on_node2=("mount -t tmpfs tmpfs {folder}/bin", "umount {folder}/bin")
    ),
    "unreadable": Broken(lambda root: root.chmod(0o700)),
    "no-fuse": Broken(image="{squashfs}", on_node2=("rm -f /dev/fuse", "mknod -m 666 /dev/fuse c 10 229")),
    "another-processor": Broken(for_another_processor),
}
# these are tried in any case; all of them take a minute
FEW = ("no-runtime-on-a-node", "no-passwd", "no-fuse")


@pytest.fixture
def golden_part(request: pytest.FixtureRequest) -> Callable[[dict[str, str]], None]:
    """Compare some sections of tests/golden/broken_containers.txt."""

    def compare(said: dict[str, str]) -> None:
        path = ROOT / "tests/golden/broken_containers.txt"
        known = dict(re.findall(r"^# (.*)\n((?:[^#].*\n)*)", path.read_text() if path.exists() else "", re.MULTILINE))
        if request.config.getoption("--update-golden"):
            known |= said
            path.write_text("".join(f"# {name}\n{known[name]}" for name in sorted(known)))
        assert said == {name: known.get(name) for name in said}

    return compare


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(FEW, id="few"),
        pytest.param(tuple(set(BROKEN) - set(FEW)), id="others", marks=pytest.mark.long),
    ],
)
def test_each_is_named_with_its_nodes_before_training(
    names: Sequence[str], alice: Member, sandbox: Sandbox, golden_part: Callable[[dict[str, str]], None]
) -> None:
    container_image.require()
    alice.write("train.py", TRAIN)
    alice.run("mkdir", "bin")
    for name, text in (("bin/ch-run", '#!/bin/sh\nexec /usr/bin/ch-run "$@"\n'), ("no-namespaces", NO_NAMESPACES)):
        (alice.folder / alice.write(name, text)).chmod(0o755)
    with contextlib.ExitStack() as broken:
        for name in names:
            prepare(name, alice)
            for do, undo in [BROKEN[name].on_node2] if BROKEN[name].on_node2[0] else []:
                sandbox.run(*shlex.split(do.format(folder=alice.folder)), user="root", node="node2")
                words = shlex.split(undo.format(folder=alice.folder))
                broken.callback(sandbox.run, *words, user="root", node="node2")
        jobs = {name: alice.submit(f"{name}.toml", "--site", f"./{name}-site.toml") for name in sorted(names)}
        codes = {name: alice.type("wait", f"{name}-1", timeout=120).returncode for name in jobs}
    assert codes == dict.fromkeys(jobs, 126)
    said = {name: failure(alice.folder / f"runs/{name}-1/logs/slurm-{job}.out") for name, job in jobs.items()}
    golden_part({name: named(text, alice) for name, text in said.items()})


def prepare(name: str, alice: Member) -> None:
    """Write the job file and the site of a broken container, and break its image."""
    broken, folder = BROKEN[name], str(alice.folder)
    image = str(container_image.folder())
    if broken.breaks:
        image = f"{folder}/{name}"
        subprocess.run(["cp", "-al", str(container_image.folder()), image], timeout=60, check=True)
        broken.breaks(Path(image))
    image = broken.image.format(folder=folder, squashfs=container_image.squashfs()) or image
    mounts = [each.format(folder=folder) for each in broken.mounts]
    alice.write(f"{name}.toml", JOB.format(name=name, image=image, mounts=mounts))
    command = f"command = ['{broken.command.format(folder=folder)}']\n" if broken.command else ""
    alice.write(f"{name}-site.toml", SITE + command)


def failure(log: Path) -> str:
    """Return why a job ended, from its output, in which no program has started."""
    text = log.read_text()
    assert "trains with" not in text
    found = re.search(r"^slurm-tf: the job failed: (.*\n(?:HINT.*\n)?)", text, re.MULTILINE)
    assert found, text
    return found[1]


def named(text: str, alice: Member) -> str:
    """Return a message in which paths are the same everywhere."""
    images = {str(container_image.folder()): "/images/debian", str(container_image.squashfs()): "/images/debian.sqfs"}
    for path, name in {str(alice.folder): "/home/alice", **images, os.uname().machine: "MACHINE"}.items():
        text = text.replace(path, name)
    return text


@pytest.mark.long
def test_slurm_tf_need_not_be_in_an_image(alice: Member) -> None:
    container_image.require()
    alice.write("train.py", TRAIN)
    alice.write("site.toml", SITE)
    alice.write("a.toml", JOB.format(name="a", image=container_image.folder(), mounts=[]))
    job = alice.submit("a.toml", "--site=./site.toml")
    assert alice.type("wait", "a-1", timeout=120).returncode == 0
    text = (alice.folder / f"runs/a-1/logs/slurm-{job}.out").read_text()
    assert len(re.findall(rf"trains with .* {re.escape(str(alice.folder))}/runs/a-1/submission-1/", text)) == 2
