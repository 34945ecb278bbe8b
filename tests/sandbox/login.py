"""The login node, which also runs slurmctld, slurmdbd with its database, and munge."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.sandbox import linux, mounts
from tests.sandbox.shape import ACCOUNTS, USERS, Shape, address

# bind mounts that only root can read: the host's /proc, the shared folder without FUSE, the control groups; and a link
# to the sandbox's folder
HOST_MOUNTS = "/run/sandbox"
MYSQL = ["-S", "/run/mysqld/mysqld.sock", "-u", "root"]


def folder() -> Path:
    """Return the sandbox's folder; for code that runs inside the sandbox."""
    return Path(HOST_MOUNTS, "folder").readlink()


def visible_host_paths(place: Path) -> dict[Path, bool]:
    """Return the paths of this machine that all hosts of the sandbox see; the value is True if they may write there."""
    writable = {place / name: True for name in ("shared", "home", "log", "pids")}
    return dict.fromkeys(mounts.python_paths(), False) | {place / "etc": False} | writable


def start(name: str, *command: str, user: str | None = None) -> "subprocess.Popen[bytes]":
    """Start a daemon; its output goes to log/NAME.out."""
    with (folder() / "log" / f"{name}.out").open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", user=user, group=user,
            extra_groups=None if user is None else [],
        )  # fmt: skip


def run(*command: str, text: str | None = None) -> str:
    """Return what a command prints. If it fails, print its output and raise CalledProcessError."""
    done = subprocess.run(
        command, input=text, stdin=None if text else subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    if done.returncode:
        print(*command, done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    return done.stdout


def succeeds(*command: str) -> bool:
    return not subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    ).returncode


def wait_for(daemon: "subprocess.Popen[bytes]", *command: str) -> None:
    """Wait until the command succeeds. Raises ChildProcessError if the daemon ends first."""

    def ready() -> bool:
        if daemon.poll() is not None:
            raise ChildProcessError(f"{daemon.args!r} ended with {daemon.returncode}: see {folder()}/log")
        return succeeds(*command)

    linux.wait_until(" ".join(command), ready)


def mount_shared(place: Path) -> None:
    """Mount the shared folder through FUSE with the caches of an NFS client: changes by other hosts show 30 s late."""
    shared = place / "shared"
    linux.tmpfs(shared)  # FUSE needs an empty mount point
    empty = shared.stat().st_dev
    caches = "attr_timeout=30,entry_timeout=30,negative_timeout=30"
    daemon = start("bindfs", "bindfs", "-f", "-o", caches, f"{HOST_MOUNTS}/shared", str(shared))

    def mounted() -> bool:
        if daemon.poll() is not None:
            raise ChildProcessError(f"bindfs ended with {daemon.returncode}: see {folder()}/log")
        return shared.stat().st_dev != empty

    linux.wait_until("bindfs", mounted)


def enter_namespaces(place: Path, shape: Shape) -> None:
    """Enter new namespaces, and mount the login node's own /run, /tmp, /etc, /proc and /sys."""
    os.umask(0o022)
    linux.unshare(linux.NEWNS | linux.NEWNET | linux.NEWUTS | linux.NEWIPC)
    socket.sethostname("ctl")
    shared = os.open(place / "shared", os.O_PATH)
    mounts.hide_host_folders(visible_host_paths(place))
    host_mounts = Path(HOST_MOUNTS)
    for name in ("proc", "shared", "cgroup"):
        (host_mounts / name).mkdir(parents=True)
    host_mounts.chmod(0o700)
    (host_mounts / "folder").symlink_to(place)
    linux.bind("/proc", host_mounts / "proc")
    linux.bind(f"/proc/self/fd/{shared}", host_mounts / "shared")
    os.close(shared)
    mounts.own_etc(Path("/run/etc"))
    for name in ("passwd", "group", "hosts", "slurm"):
        linux.bind(place / "etc" / name, f"/etc/{name}")
    for name in ("node", "slurmd", "netns", "lock", "slurmctld"):
        Path("/run", name).mkdir()
    Path("/run/node").chmod(0o1777)
    shutil.chown("/run/slurmctld", "slurm", "slurm")
    Path("/run/netns/ctl").touch()
    linux.bind("/proc/self/ns/net", "/run/netns/ctl")
    linux.mount("proc", "/proc", "proc")
    mounts.mount_sys(host_mounts / "cgroup")
    make_bridge()
    if shape.fuse:
        mount_shared(place)


def make_bridge() -> None:
    """Make the network bridge that the nodes connect to."""
    here = address("ctl")
    lines = (
        "link set lo up",
        "link add br0 type bridge",
        f"address add {here}/16 dev br0",
        "link set br0 up",
        # slurmdbd and its clients send each message in two parts: a delayed TCP acknowledgement would cost 40 ms each
        f"route change local {here} dev br0 table local proto kernel scope host src {here} quickack 1",
    )
    run("ip", "-batch", "-", text="\n".join(lines))


def start_munge() -> None:
    for path in (Path("/run/munge"), Path("/run/munge-key")):
        path.mkdir()
        shutil.chown(path, "munge", "munge")
    key = Path("/run/munge-key/munge.key")
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(1024))
    shutil.chown(key, "munge", "munge")
    Path("/run/munge-key").chmod(0o700)
    start(
        "munged", "munged", "--foreground", "--key-file=/run/munge-key/munge.key", "--log-file=/run/munge-key/log",
        "--pid-file=/run/munge/munged.pid", "--seed-file=/run/munge-key/seed", user="munge",
    )  # fmt: skip


def start_database() -> None:
    """Start MariaDB, with its data in a tmpfs and no network, and slurmdbd with it."""
    for path in (Path("/run/mysqld"), Path("/run/mysql")):
        path.mkdir()
        shutil.chown(path, "mysql", "mysql")
    small = ["--no-defaults", "--datadir=/run/mysql", "--user=mysql", "--innodb-log-file-size=8M", "--skip-log-bin"]
    run(
        "mariadb-install-db", *small, "--auth-root-authentication-method=socket", "--auth-root-socket-user=root",
        "--skip-test-db", "--skip-name-resolve",
    )  # fmt: skip
    server = start(
        "mariadb", "mariadbd", *small, "--socket=/run/mysqld/mysqld.sock", "--pid-file=/run/mysqld/mysqld.pid",
        "--skip-networking", "--skip-name-resolve", "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900", "--performance-schema=OFF",
    )  # fmt: skip
    # newer client libraries of Debian look for the socket here
    Path("/run/mariadbd").mkdir()
    Path("/run/mariadbd/mysqld.sock").symlink_to("/run/mysqld/mysqld.sock")
    wait_for(server, "mariadb-admin", "--no-defaults", *MYSQL, "ping")
    sql = (
        "create database slurm_acct_db; create user slurm@localhost identified by 'private-network'; "
        "grant all on slurm_acct_db.* to slurm@localhost;"
    )
    run("mariadb", "--no-defaults", *MYSQL, "-e", sql)
    wait_for(start("slurmdbd", "slurmdbd", "-D"), "sacctmgr", "-n", "list", "cluster")


def add_accounts(shape: Shape) -> None:
    """Add accounts, QOS and users. Called before slurmctld starts, as slurmdbd would notify it of each change."""
    names = [line.split()[0] for line in shape.qos]
    run("sacctmgr", "-i", "add", "cluster", "sandbox")
    run("sacctmgr", "-i", "add", "account", ",".join(ACCOUNTS))
    if names:
        run("sacctmgr", "-i", "add", "qos", ",".join(names))
    for user, accounts in USERS.items():
        run(
            "sacctmgr", "-i", "add", "user", user, f"account={','.join(accounts)}", f"defaultaccount={accounts[0]}",
            f"qos={','.join(['normal', *names])}", "defaultqos=normal",
        )  # fmt: skip


def set_limits(shape: Shape) -> None:
    """Set limits. Called after slurmctld has started, as it registers the TRES that they name."""
    for line in shape.qos:
        name, *words = line.split()
        if words:
            run("sacctmgr", "-i", "modify", "qos", name, "set", *words)
    for line in shape.limits:
        run("sacctmgr", "-i", *line.split())


def start_nodes(shape: Shape) -> None:
    """Start all nodes. Raises ChildProcessError if one does not start, TimeoutError if they do not become idle."""
    command = (sys.executable, "-ES", "-m", "tests.sandbox.node")
    starting = {name: subprocess.Popen([*command, name], cwd=mounts.ROOT) for name in shape.names}
    for name, process in starting.items():
        if process.wait(timeout=60):
            raise ChildProcessError(f"{name} did not start: see {folder()}/log")
    # sinfo shows only nodes that belong to a partition
    command = ("scontrol", "-o", "show", "nodes")
    linux.wait_until("all nodes idle", lambda: run(*command).count(" State=IDLE ") == shape.nodes)


def boot(place: Path) -> None:
    """Run as pid 1 of the sandbox: start all hosts and daemons, create pids/ready, then reap child processes."""
    shape = Shape.read(place)
    enter_namespaces(place, shape)
    start_munge()
    start_database()
    add_accounts(shape)
    wait_for(start("slurmctld", "slurmctld", "-i", "-D"), "scontrol", "ping")
    start_nodes(shape)
    set_limits(shape)
    (place / "pids" / "ready").touch()
    linux.reap()
