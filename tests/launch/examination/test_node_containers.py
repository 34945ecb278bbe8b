"""What a node has for containers, from programs, settings of the kernel, images and mounts that the tests make."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.launch.examination import node_containers
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.run.examination import ContainerFacts, ImageFacts, RoleContainer, RuntimeSettings
from tests.doctor.test_node_checks import SETTINGS

# what each printed, and where, and how it ended
SAYS = {
    ("apptainer", "printf 'apptainer version 1.4.5-2~bpo12'"): ("1.4.5-2~bpo12", ""),
    ("singularity", "echo singularity-ce version 4.1.0-1"): ("4.1.0-1", ""),
    ("ch-run", "echo 0.31 >&2"): ("0.31", ""),
    ("enroot", "[ $1 = version ] && echo 3.4.1"): ("3.4.1", ""),
    ("ch-run", "echo Bus error; exit 7"): ("", "{} --version says Bus error (exit code 7)"),
    ("ch-run", "true"): ("", "{} --version says nothing (exit code 0)"),
}
RUNTIMES = {
    "apptainer": Runtime.APPTAINER, "singularity": Runtime.SINGULARITY, "ch-run": Runtime.CHARLIECLOUD,
    "enroot": Runtime.PYXIS,
}  # fmt: skip


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Return a folder of the kernel's settings, which allow everything."""
    for name, value in {
        "user/max_user_namespaces": "15000", "kernel/unprivileged_userns_clone": "1",
        "kernel/apparmor_restrict_unprivileged_userns": "0",
    }.items():  # fmt: skip
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(f"{value}\n")
    return tmp_path / "sys"


def describe(
    tmp_path: Path, runtime: RuntimeSettings, images: tuple[RoleContainer, ...] = (), environ: Mapping[str, str] = {}
) -> ContainerFacts:
    settings = replace(SETTINGS, runtime=runtime, containers=images)
    found = node_containers.describe(
        settings, {"PATH": f"{tmp_path}/bin", **environ}, str(tmp_path / "sys"), str(tmp_path / "fuse")
    )
    assert found is not None
    return found


@pytest.mark.parametrize(("program", "said"), SAYS)
def test_the_runtime_says_its_version(program: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / program
    path.write_text(f"#!/bin/sh\n{said}\n")
    path.chmod(0o755)
    facts = describe(tmp_path, RuntimeSettings(RUNTIMES[program], (program, "--verbose")))
    version, problem = SAYS[program, said]
    assert (facts.program, facts.version, facts.problem) == (str(path), version, problem.format(path))


def test_what_is_not_there(tmp_path: Path) -> None:
    facts = describe(tmp_path, RuntimeSettings(Runtime.APPTAINER, ("apptainer",)))
    problem = f"there is no program apptainer in PATH={tmp_path}/bin"
    assert facts == ContainerFacts("", "", problem, None, {}, None, False, ())
    named = describe(tmp_path, RuntimeSettings(Runtime.CHARLIECLOUD, ("/opt/ch-run",)))
    assert named.problem == "there is no program /opt/ch-run"
    # Slurm's own is not looked for, and a site may have none
    assert describe(tmp_path, RuntimeSettings(Runtime.OCI, ())).problem == ""
    assert node_containers.describe(SETTINGS, {}) is None


def test_what_the_kernel_allows(kernel: Path, tmp_path: Path) -> None:
    runtime = RuntimeSettings(Runtime.OCI, ())
    (tmp_path / "fuse").write_text("")
    (tmp_path / "fuse").chmod(0o666)
    facts = describe(tmp_path, runtime)
    assert (facts.namespaces, facts.restrictions, facts.fuse, facts.opens_fuse) == (15000, {}, 0o666, True)
    (kernel / "kernel/unprivileged_userns_clone").write_text("0\n")
    (kernel / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    assert describe(tmp_path, runtime).restrictions == {
        "kernel.unprivileged_userns_clone": "0", "kernel.apparmor_restrict_unprivileged_userns": "1",
    }  # fmt: skip


def test_images_and_mounts(tmp_path: Path) -> None:
    (tmp_path / "a.sqfs").write_bytes(b"hsqs")
    (tmp_path / "plain").write_text("")
    mounts = (Mount(str(tmp_path), "/data"), Mount("/no/such", "/mnt"))
    given = tuple(
        RoleContainer(ContainerSettings(Runtime.CHARLIECLOUD, ("ch-run",), str(tmp_path / name), each), ("python3",))
        for name, each in {"a.sqfs": (), "plain": mounts, "absent": ()}.items()
    )
    facts = describe(tmp_path, RuntimeSettings(Runtime.OCI, ()), given)
    problem = "it is no image: neither a squashfs or SIF, nor a folder with the files of a system"
    assert facts.images == (
        ImageFacts(str(tmp_path / "a.sqfs"), "squashfs"),
        ImageFacts(str(tmp_path / "plain"), "", problem, unseen={"/no/such": "No such file or directory"}),
        ImageFacts(str(tmp_path / "absent"), "", os.strerror(2)),
    )
