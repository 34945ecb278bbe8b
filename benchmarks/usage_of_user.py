"""Measures what `slurm-tf usage` takes more than sacct itself: 30 days of one user, on a real Slurm.

    python benchmarks/usage_of_user.py [--rounds 9] [--jobs 200]

Starts a Slurm cluster on this machine (docs/sandbox.md), which needs root and Debian's Slurm; prints what is missing
otherwise. The user runs that many short jobs first. A round is sacct with the fields that slurm-tf requests, then the
person's report with an empty ledger, then with the days that are closed in it; the next round runs them in reverse
order. Prints a Markdown table of seconds: medians with the smallest and largest, and the difference in each round.
"""

import argparse
import compileall
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slurm_tf.account.fields import ASKED
from tests.sandbox.cluster import Sandbox
from tests.sandbox.needs import MissingError
from tests.sandbox.shape import Shape

DAYS = 30
USAGE = [sys.executable, "-m", "slurm_tf", "usage", "--since", f"-{DAYS}d"]
SACCT, FIRST, AGAIN = "sacct", "slurm-tf usage, empty ledger", "slurm-tf usage, closed days in the ledger"


def run(sandbox, words, environ):
    """Run a command as the user; return its wall time. The time to enter the sandbox is a part of it."""
    began = time.perf_counter()
    done = sandbox.run(*words, cwd=sandbox.home("alice"), env=environ, timeout=120, check=False)
    assert done.returncode == 0, done
    return time.perf_counter() - began


def fill(sandbox, jobs, environ):
    script = ("sbatch", "--wait", f"--array=1-{jobs}", "--output=/dev/null", "--wrap=sleep 1")
    run(sandbox, script, environ)


def rounds(sandbox, count, jobs):
    state = sandbox.home("alice") / "state"
    environ = {
        "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"],
        "XDG_STATE_HOME": str(state), "SLURM_TIME_FORMAT": "%s",
    }  # fmt: skip
    fill(sandbox, jobs, environ)
    sacct = ["sacct", "-P", "-D", f"--starttime=now-{DAYS}days", "--user=alice", f"--format={','.join(ASKED)}"]
    known = set(sandbox.run("sacct", "--helpformat", cwd=Path("/")).stdout.split())
    sacct[-1] = f"--format={','.join(name for name in ASKED if name in known)}"
    found = {SACCT: [], FIRST: [], AGAIN: []}
    for number in range(count):
        order = [(SACCT, sacct), (FIRST, USAGE), (AGAIN, USAGE)]
        for name, words in order[:: -1 if number % 2 else 1]:
            if name == FIRST:
                shutil.rmtree(state, ignore_errors=True)
            found[name].append(run(sandbox, words, environ))
    return found


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    try:
        sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), Shape(nodes=2))
    except MissingError as error:
        sys.exit(str(error))
    compileall.compile_dir(ROOT / "slurm_tf", quiet=1)  # as pip does: the user may not write there
    cores = len(os.sched_getaffinity(0))
    print(f"Python {platform.python_version()}, {cores} cores, load {os.getloadavg()[0]:.1f} at the start.")
    try:
        found = rounds(sandbox, options.rounds, options.jobs)
    finally:
        sandbox.down()
    print(f"{options.jobs} jobs, {options.rounds} alternating rounds.\n")
    print("| command | s | more than sacct, s |\n|---|---|---|")
    for name, seconds in found.items():
        more = [each - of_sacct for each, of_sacct in zip(seconds, found[SACCT], strict=True)]
        print(f"| {name} | {spread(seconds)} | {spread(more)} |")


if __name__ == "__main__":
    main()
