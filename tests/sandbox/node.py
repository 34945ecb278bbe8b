"""A compute node: `python -m tests.sandbox.node NAME`, run on the login node, returns once slurmd has started."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.sandbox import cgroups, linux, reach
from tests.sandbox.login import STASH, folder, mount_shared, needed, start
from tests.sandbox.shape import Shape, address

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
NVIDIA = 195  # major device number; no driver is behind ours
NVIDIA_CONTROL = 255


def network(name: str) -> None:
    """Connect this network namespace to the login node's bridge."""
    peer = f"v-{name}"
    # the old one of a killed node goes a moment after it
    subprocess.run(["ip", "-n", "ctl", "link", "del", peer], stderr=subprocess.DEVNULL, timeout=20, check=False)
    lines = (
        f"link add eth0 type veth peer name {peer} netns ctl",
        "link set lo up",
        f"address add {address(name)}/16 dev eth0",
        "link set eth0 up",
    )
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, timeout=20, check=True)
    subprocess.run(["ip", "-n", "ctl", "link", "set", peer, "master", "br0", "up"], timeout=20, check=True)


def devices(gpus: int) -> None:
    """Give the node a /dev of its own, with fake GPUs."""
    new = Path("/run/node/dev")
    new.mkdir()
    linux.tmpfs(new)
    for name in DEVICES:
        if Path("/dev", name).exists():
            (new / name).touch()
            linux.bind(f"/dev/{name}", new / name)
    for name in ("pts", "shm"):
        (new / name).mkdir()
    linux.bind("/dev/pts", new / "pts")
    linux.tmpfs(new / "shm", 0o1777)
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd"} | {
        name: f"/proc/self/fd/{number}" for number, name in enumerate(("stdin", "stdout", "stderr"))
    }
    for name, target in links.items():
        (new / name).symlink_to(target)
    for name, minor in [(f"nvidia{number}", number) for number in range(gpus)] + [("nvidiactl", NVIDIA_CONTROL)]:
        os.mknod(new / name, 0o20666, os.makedev(NVIDIA, minor))
        (new / name).chmod(0o666)
    linux.bind(new, "/dev")


def boot(name: str) -> None:
    """Be the node's pid 1, up to a started slurmd."""
    place = folder()
    shape = Shape.read(place)
    os.umask(0o022)
    linux.Process.of(int(Path(STASH, "proc/self").readlink().name), f"{STASH}/proc").write(place / "pids" / name)
    reach.cover(needed(place), {Path("/tmp"): 0o1777, Path("/var/tmp"): 0o1777})
    linux.tmpfs("/run/node", 0o1777)
    linux.mount("proc", "/proc", "proc")
    reach.own_sys(Path(STASH, "cgroup"))
    socket.sethostname(name)
    network(name)
    devices(sum(count for _, count in shape.gpu_types))
    if shape.fuse:
        mount_shared(place)
    if shape.proctrack == "cgroup":
        cgroups.enter(cgroups.tree(place), name)
    Path("/run/slurmd", name).mkdir(parents=True, exist_ok=True)
    start(f"slurmd-{name}", "slurmd", "-D", "-N", name)


def main() -> None:
    (name,) = sys.argv[1:]
    linux.unshare(linux.NEWPID | linux.NEWNS | linux.NEWNET | linux.NEWUTS | linux.NEWIPC)
    ready, done = os.pipe()
    if os.fork():
        os.close(done)
        sys.exit(0 if os.read(ready, 1) else f"{name} did not start: {folder()}/log/{name}.out")
    os.setsid()
    output = os.open(folder() / "log" / f"{name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    boot(name)
    os.write(done, b"1")
    os.close(done)
    linux.reap()


if __name__ == "__main__":
    main()
