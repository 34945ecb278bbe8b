"""Checks that this machine can run a sandbox: root, packages, namespaces, control groups, FUSE."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.sandbox import cgroups
from tests.sandbox.shape import SandboxError, Shape

APT = "apt-get install --no-install-recommends"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# program: the Debian package that contains it; slurm-wlm and slurmdbd install the plugins (basic, MySQL) as well
PACKAGES = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "srun": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "ip": "iproute2",
}
FUSE_PACKAGES = {"bindfs": "bindfs"}
ACCOUNTS = {"slurm": "slurm-wlm", "munge": "munge", "mysql": "mariadb-server"}


class MissingError(SandboxError):
    """The machine or the user cannot run a sandbox; tests skip then."""

    exit_code = 69


def check(shape: Shape) -> None:
    """Raise MissingError if this machine cannot run a sandbox of this shape."""
    if os.geteuid() != 0:
        raise MissingError(
            f"user id {os.geteuid()}", "root: slurmd changes users, nodes get namespaces", "sudo make sandbox"
        )
    lacking = missing(shape.fuse)
    if lacking:
        packages = " ".join(dict.fromkeys(lacking.values()))
        raise MissingError(f"no {', '.join(lacking)}", "Slurm's own programs", f"{APT} {packages}")
    if shape.proctrack == "cgroup" and cgroups.missing():
        raise MissingError(
            f"no {' '.join(cgroups.missing())} of cgroup version 1 below {cgroups.TOP}",
            "them for proctrack cgroup",
            "--proctrack linuxproc works without",
        )
    if shape.fuse and not Path("/dev/fuse").exists():
        raise MissingError("no /dev/fuse", "FUSE for the option fuse", "modprobe fuse")
    command = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise MissingError(done.stderr.strip(), "namespaces", "in a container: docker run --privileged")


def missing(fuse: bool = False) -> dict[str, str]:
    """Return the programs and user accounts that are missing, each with the Debian package that installs it."""
    wanted = PACKAGES | (FUSE_PACKAGES if fuse else {})
    lacking = {program: package for program, package in wanted.items() if not shutil.which(program, path=PATH)}
    known = {entry.pw_name for entry in pwd.getpwall()}
    return lacking | {f"user {user}": package for user, package in ACCOUNTS.items() if user not in known}
