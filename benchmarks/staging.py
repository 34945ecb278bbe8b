"""Measures ways to bring files to the scratch of two nodes: [stage], `srun cp`, and sbcast.

    python benchmarks/staging.py [--rounds 5] [--mib 128]

Starts a Slurm cluster on this machine (docs/sandbox.md), which needs root and Debian's Slurm; prints what is
missing otherwise. Scratch is memory, and shared storage this machine's disk: what is measured is the work of each way,
not a network. Prints a Markdown table: seconds are medians of alternating rounds with the smallest and largest.
"""

import argparse
import os
import platform
import re
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.sandbox.cluster import Sandbox
from tests.sandbox.needs import MissingError
from tests.sandbox.shape import Shape

MIB = 1 << 20
STAGE = """\
import sys
from slurm_tf.launch.staging import node_copy, sources
from slurm_tf.launch.staging.stage_folder import StageFolder
from slurm_tf.run.stage_settings import StageSettings
node_copy.STREAMS = int(sys.argv[2])
copy = node_copy.NodeCopy(sources.find(StageSettings((sys.argv[1],), "/")), StageFolder(sys.argv[3], "/runs/a-1"))
copy.start()
copy.wait(600)
assert copy.failure is None, copy.failure
"""
SCRIPT = """\
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --exclusive --output={folder}/out-%j
all="srun --nodes=2 --ntasks-per-node=1"
$all mkdir -m 0700 {target}
began=$(date +%s.%N)
{command}
echo "took $began $(date +%s.%N)"
$all rm -r {target}
"""
ON_EACH = "srun --nodes=2 --ntasks-per-node=1"
WAYS = {
    "[stage]": f"{ON_EACH} {{python}} {{folder}}/stage.py {{source}} 4 {{target}}",
    "[stage], one stream": f"{ON_EACH} {{python}} {{folder}}/stage.py {{source}} 1 {{target}}",
    "srun cp -r, nothing checked": f"{ON_EACH} cp -r {{source}} {{target}}",
    "sbcast, nothing checked": "for each in {source}/*; do sbcast $each {target}/${{each##*/}}; done",
}


def measured(sandbox, folder, source, command):
    """Run one way in a job; return its seconds."""
    names = {"folder": folder, "source": source, "target": "/tmp/staged", "python": sys.executable}  # noqa: S108 - of a node of the sandbox
    script = folder / "job.sh"
    script.write_text(SCRIPT.format(command=command.format(**names), **names))
    script.chmod(0o755)
    environ = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    words = ("sbatch", "--parsable", "--wait", str(script))
    done = sandbox.run(*words, cwd=folder, env=environ, timeout=600, check=False)
    assert done.returncode == 0, done
    text = (folder / f"out-{done.stdout.strip()}").read_text()
    began, ended = map(float, re.findall(r"^took (\S+) (\S+)$", text, re.MULTILINE)[0])
    return ended - began


def cell(seconds):
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def compare(sandbox, rounds, mib):
    folder = sandbox.shared / "alice"
    sandbox.run("mkdir", "-m", "0755", str(folder))
    folder.chmod(0o777)
    (folder / "stage.py").write_text(STAGE)
    shapes = {f"1 file of {mib} MiB": (1, mib * MIB), "200 files of 100 KiB": (200, 100 * 1024)}
    print("| files | way | seconds |\n|---|---|---|")
    for shape, (files, size) in shapes.items():
        source = folder / f"files-{files}"
        source.mkdir(mode=0o755)
        for each in range(files):
            (source / f"{each:05}").write_bytes(os.urandom(size))
        found = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, command in WAYS.items():
                found[way].append(measured(sandbox, folder, source, command))
        for way, seconds in found.items():
            print(f"| {shape} | {way} | {cell(seconds)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=128)
    options = parser.parse_args()
    try:
        sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), Shape(nodes=2), bound=True)
    except MissingError as error:
        sys.exit(str(error))
    cores = len(os.sched_getaffinity(0))
    print(f"Python {platform.python_version()}, {cores} cores, load {os.getloadavg()[0]:.1f} at the start.\n")
    try:
        compare(sandbox, options.rounds, options.mib)
    finally:
        sandbox.down()


if __name__ == "__main__":
    main()
