"""Starts a compute node: `python -m tests.sandbox.node NAME` runs on the login node, and returns once slurmd runs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.sandbox import cgroups, linux, mounts
from tests.sandbox.login import HOST_MOUNTS, folder, mount_shared, start, visible_host_paths
from tests.sandbox.shape import Shape, address

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
NVIDIA = 195  # major device number of NVIDIA's GPUs; no driver is behind the fake ones
NVIDIA_CONTROL = 255


def connect_network(name: str) -> None:
    """Connect this network namespace to the login node's bridge."""
    peer, number = f"v-{name}", int(name.removeprefix("node"))
    # after a node is killed, the kernel removes its interface with a delay
    subprocess.run(["ip", "-n", "ctl", "link", "del", peer], stderr=subprocess.DEVNULL, timeout=20, check=False)
    lines = (
        # of a node that comes back, other hosts know the hardware address for a while
        f"link add eth0 address 02:00:00:00:{number >> 8:02x}:{number & 255:02x} type veth peer name {peer} netns ctl",
        "link set lo up",
        f"address add {address(name)}/16 dev eth0",
        "link set eth0 up",
    )
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, timeout=20, check=True)
    subprocess.run(["ip", "-n", "ctl", "link", "set", peer, "master", "br0", "up"], timeout=20, check=True)


def make_dev(gpus: int) -> None:
    """Mount the node's own /dev, with device files of fake GPUs."""
    new = Path("/run/node/dev")
    new.mkdir()
    linux.tmpfs(new)
    for name in DEVICES:
        if Path("/dev", name).exists():
            (new / name).touch()
            linux.bind(f"/dev/{name}", new / name)
    fuse = Path("/dev/fuse")
    if fuse.exists():  # a file of its own, which users may open, as on machines with udev; here it may be root's alone
        os.mknod(new / "fuse", 0o20666, fuse.stat().st_rdev)
        (new / "fuse").chmod(0o666)
    for name in ("pts", "shm"):
        (new / name).mkdir()
    # its own terminals, which users may open: those of a container may be root's alone
    linux.mount("devpts", new / "pts", "devpts", data="newinstance,ptmxmode=0666,mode=0620")
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
    """Set the node up, as its pid 1, and start slurmd."""
    place = folder()
    shape = Shape.read(place)
    os.umask(0o022)
    pid_on_host = int(Path(HOST_MOUNTS, "proc/self").readlink().name)
    linux.Process.of(pid_on_host, f"{HOST_MOUNTS}/proc").write(place / "pids" / name)
    mounts.hide_host_folders(visible_host_paths(place), {Path("/tmp"): 0o1777, Path("/var/tmp"): 0o1777})
    linux.tmpfs("/run/node", 0o1777)
    linux.mount("proc", "/proc", "proc")
    mounts.mount_sys(Path(HOST_MOUNTS, "cgroup"))
    socket.sethostname(name)
    connect_network(name)
    make_dev(sum(count for _, count in shape.gpu_types))
    if shape.fuse:
        mount_shared(place)
    if shape.proctrack == "cgroup":
        cgroups.enter(cgroups.tree_name(place), name)
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
