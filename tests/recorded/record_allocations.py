"""Record what a live Slurm puts into the environment of a batch script and of each srun task.

Run as an ordinary user on a login node of a cluster with GPUs, with a folder that every node shares:

    python3 record_allocations.py SHARED_FOLDER OUTPUT_FOLDER

One JSON file a case: the sbatch and srun options, the Slurm version, the batch step's variables and each task's, in
rank order.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = re.compile(r"^(SLURM|SLURMD|CUDA_VISIBLE|GPU_DEVICE|ROCR_VISIBLE|ZE_AFFINITY)")

# name: (sbatch options a component, srun options, host file lines)
CASES: dict[str, tuple[list[list[str]], list[str], list[int]]] = {
    "cpu-one-node": ([["-N1", "-n2"]], [], []),
    "uneven-packed": ([["-N3", "-n8"]], [], []),
    "cyclic": ([["-N2", "-n5"]], ["--distribution=cyclic"], []),
    "plane-2": ([["-N2", "-n5"]], ["--distribution=plane=2"], []),
    "arbitrary": ([["-N3", "-n5"]], ["--distribution=arbitrary"], [2, 0, 2, 1, 0]),
    "digit-boundary": ([["-N4", "-n4", "-w", "node[8-11]"]], [], []),
    "twelve-nodes": ([["-N12", "-n12"]], [], []),
    "gres-2": ([["-N2", "-n4", "--ntasks-per-node=2", "--gres=gpu:2"]], [], []),
    "gres-typed": ([["-N2", "-n2", "--gres=gpu:a100:2"]], [], []),
    "gres-1-shared": ([["-N1", "-n2", "--gres=gpu:1"]], [], []),
    "gres-3-two-tasks": ([["-N1", "-n2", "--gres=gpu:3"]], [], []),
    "gpus-per-node-2": ([["-N2", "-n4", "--ntasks-per-node=2", "--gpus-per-node=2"]], [], []),
    "gpus-per-task-1": ([["-N2", "-n4", "--ntasks-per-node=2", "--gpus-per-task=1"]], [], []),
    "gpus-4-uneven": ([["-N2", "-n4", "--gpus=4"]], [], []),
    "het-ps-cpu-worker-gpu": (
        [["-N1", "-n1"], ["-N2", "-n4", "--ntasks-per-node=2", "--gpus-per-node=2"], ["-N1", "-n2"]],
        [],
        [],
    ),
}


def script(components: list[list[str]], srun: list[str], hosts: list[int], folder: Path) -> str:
    lines = ["#!/bin/bash"]
    for number, options in enumerate(components):
        lines += ["#SBATCH hetjob"] * bool(number) + [f"#SBATCH {option}" for option in joined(options)]
    dump = f"sh -c 'env -0 > {folder}/task-$SLURM_PROCID'"
    lines += [f"env -0 > {folder}/batch"]
    if hosts:
        lines += ['nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))', f"export SLURM_HOSTFILE={folder}/hosts"]
        lines += [f'printf "%s\\n" "${{nodes[{host}]}}" >> {folder}/hosts' for host in hosts]
    groups = [f"--het-group={','.join(map(str, range(len(components))))}"] * (len(components) > 1)
    return "\n".join([*lines, " ".join(["srun", *srun, *groups, dump]), ""])


def joined(options: list[str]) -> list[str]:
    return re.split(r" (?=-)", " ".join(options))


def variables(file: Path) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in file.read_text().split("\0") if entry)
    return {name: value for name, _, value in sorted(pairs) if KEPT.match(name)}


def record(name: str, shared: Path, version: str) -> dict[str, object]:
    components, srun, hosts = CASES[name]
    folder = Path(tempfile.mkdtemp(dir=shared))
    (folder / "job").write_text(script(components, srun, hosts, folder))
    command = ["sbatch", "--wait", "--output", f"{folder}/log", f"{folder}/job"]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    tasks = sorted(folder.glob("task-*"), key=lambda file: int(file.name[5:]))
    if not tasks:
        sys.exit(f"{name}: no task ran\n{(folder / 'log').read_text()}")
    return {
        "slurm": version,
        "sbatch": [" ".join(options) for options in components],
        "srun": " ".join(srun),
        "batch": variables(folder / "batch"),
        "tasks": [variables(file) for file in tasks],
    }


def main() -> None:
    shared, output = Path(sys.argv[1]), Path(sys.argv[2])
    version = subprocess.run(["sbatch", "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    os.makedirs(output, exist_ok=True)
    for name in CASES:
        text = json.dumps(record(name, shared, version), indent=1, sort_keys=True)
        (output / f"{name}.json").write_text(text + "\n")
        print(name)


if __name__ == "__main__":
    main()
