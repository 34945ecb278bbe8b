"""The command line of the sandbox, `python -m tests.sandbox VERB`; the Makefile calls it."""

import argparse
import os
import sys
from pathlib import Path

from slurm_tf.errors import SlurmTfError
from tests.sandbox import needs
from tests.sandbox.cluster import DEFAULT_FOLDER, Sandbox, take_down
from tests.sandbox.mounts import ROOT
from tests.sandbox.shape import PARTITIONS, USERS, Shape


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m tests.sandbox", description="A real Slurm cluster on this machine.")
    verbs = top.add_subparsers(dest="verb", required=True)
    plain = Shape()
    up = verbs.add_parser("up", help="start it")
    up.add_argument("--nodes", type=int, default=plain.nodes)
    up.add_argument("--cpus", type=int, default=plain.cpus, help="CPUs of each node; may exceed those of this machine")
    up.add_argument("--memory", type=int, default=plain.memory, help="MiB of each node; may exceed this machine's")
    up.add_argument("--gpus", default=plain.gpus, help="fake GPUs of each node, such as a100:2,t4:2; empty for none")
    up.add_argument("--proctrack", choices=["cgroup", "linuxproc"], default=plain.proctrack)
    up.add_argument("--fuse", action="store_true", help="shared storage that caches for 30 s, as NFS does")
    up.add_argument("--no-oci", action="store_true", help="without oci.conf, as where Slurm runs no containers")
    up.add_argument(
        "--partition", action="append", default=[], help="another partition, as slurm.conf has it: 'big MaxNodes=2'"
    )
    up.add_argument(
        "--limit", action="append", default=[], help="arguments of sacctmgr: 'modify account nlp set MaxJobs=2'"
    )
    inside = verbs.add_parser("exec", help="run a command on the login node; without a command, a shell")
    inside.add_argument("--user", default="alice", choices=["root", *USERS])
    inside.add_argument("--node", help="run it on this compute node instead")
    inside.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("status", help="show the running sandbox")
    verbs.add_parser("missing", help="print the Debian packages that are not installed, with those for --fuse")
    down = verbs.add_parser("down", help="end it and remove all its files")
    down.add_argument("--keep", action="store_true", help="leave the folder: logs, homes, shared files")
    for verb in verbs.choices.values():
        verb.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    return top


def up(typed: argparse.Namespace) -> None:
    shape = Shape(
        nodes=typed.nodes, cpus=typed.cpus, memory=typed.memory, gpus=typed.gpus, proctrack=typed.proctrack,
        fuse=typed.fuse, oci=not typed.no_oci, partitions=(*PARTITIONS, *typed.partition), limits=tuple(typed.limit),
    )  # fmt: skip
    sandbox = Sandbox.up(typed.folder, shape)
    show(sandbox)
    where = "" if typed.folder == DEFAULT_FOLDER else f" --folder {typed.folder}"
    if where:
        print(f"next: python -m tests.sandbox exec{where}, ... down{where}")
    else:
        print("next: make sandbox-shell, and in it: srun -N2 hostname; at the end: make sandbox-down")


def show(sandbox: Sandbox) -> None:
    """Print the nodes, users and partitions of a running sandbox."""
    shape = sandbox.shape
    gpus = f", GPUs {shape.gpus} (fake)" if shape.gpus else ""
    print(f"{shape.nodes} nodes of {shape.cpus} CPUs{gpus}, proctrack/{shape.proctrack}, in {sandbox.folder}")
    print(f"users {', '.join(USERS)}; all nodes share {sandbox.shared}")
    print(sandbox.run("sinfo").stdout, end="")


def execute(typed: argparse.Namespace) -> None:
    sandbox = Sandbox.find(typed.folder)
    words = typed.command[1:] if typed.command[:1] == ["--"] else typed.command
    argv = sandbox.command(*(words or ["bash"]), user=typed.user, node=typed.node)
    environment = sandbox.environment(typed.user)
    environment["PATH"] = f"{sys.prefix}/bin:{environment['PATH']}"
    os.chdir(ROOT)
    os.execve(argv[0], argv, environment)  # noqa: S606


def main() -> None:
    typed = parser().parse_args()
    try:
        if typed.verb == "up":
            up(typed)
        elif typed.verb == "exec":
            execute(typed)
        elif typed.verb == "status":
            show(Sandbox.find(typed.folder))
        elif typed.verb == "missing":
            print(*dict.fromkeys(needs.missing(fuse=True).values()))
        else:
            print(f"{'gone from' if take_down(typed.folder, typed.keep) else 'nothing is up in'} {typed.folder}")
    except SlurmTfError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
