"""What a machine says of itself."""

import os
from pathlib import Path

import pytest

from slurm_tf.launch.examination import machine
from slurm_tf.run import json_file
from slurm_tf.run.machine_facts import MachineFacts

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/sdb /with\\040blank xfs rw 0 0
overlay /home overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/alice", "overlay"),  # mounted over the other one
        ("/homes", "ext4"),
        ("/", "ext4"),
        ("/dev/shm", "tmpfs"),
        ("/with blank/x", "xfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert machine.kind(path, MOUNTS) == kind


def test_proxies_are_told_without_passwords() -> None:
    environ = {
        "http_proxy": "http://alice:secret@proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128/",
        "no_proxy": "localhost",
        "all_proxy": "",
    }
    assert machine.proxies(environ) == {
        "http_proxy": "http://proxy:3128",
        "https_proxy": "http://proxy:3128/",
        "no_proxy": "localhost",
    }


def test_this_machine(tmp_path: Path) -> None:
    folders = {"home": str(tmp_path), "gone": str(tmp_path / "gone"), "file": __file__}
    facts = machine.describe(folders, {"PATH": str(tmp_path), "http_proxy": "p:1"})
    assert facts.host == os.uname().nodename
    assert facts.folders["home"].writable
    assert facts.folders["home"].size >= facts.folders["home"].free > 0
    assert facts.folders["gone"].error == "No such file or directory"
    assert facts.folders["file"].error == "it is no folder"
    assert facts.quota_problem == "there is no program quota or lfs to ask"
    assert json_file.parse(json_file.dumps(facts), MachineFacts, "facts") == facts


def test_what_the_kernel_says(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "net" / "ipv4"
    folder.mkdir(parents=True)
    (folder / "ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu sse4_2 avx2\n")
    facts = machine.describe({}, {}, str(tmp_path))
    assert (facts.local_ports, facts.has_avx, facts.memory_limit) == ((32768, 60999), False, None)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert machine.describe({}, {}, str(tmp_path)).has_avx is None
    # without /proc nothing is known, and nothing fails
    nothing = machine.describe({}, {}, str(tmp_path / "gone"))
    assert (nothing.local_ports, nothing.has_avx) == (None, None)


@pytest.mark.parametrize(("text", "version"), [("3.8.10", (3, 8, 10)), ("hello", None), ("", None)])
def test_the_version_of_a_python(text: str, version: tuple[int, int, int] | None, tmp_path: Path) -> None:
    path = tmp_path / "python3"
    path.write_text(f"#!/bin/sh\necho {text}\n")
    path.chmod(0o755)
    assert machine.python_version(str(path), {}) == version
    assert machine.python_version(str(tmp_path / "python3.9"), {}) is None
