"""Measures submission on an idle Slurm: from the command to the program's first line, and a sweep of 200 points.

    python benchmarks/submit.py [--pairs 9] [--points 200]

Starts a Slurm cluster on this machine (docs/sandbox.md), which needs root and Debian's Slurm; prints what is missing
otherwise. Prints Markdown tables. What is compared runs alternately. Figures are medians, and ratios are medians of the
pairs' ratios with the smallest and largest.
"""

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.sandbox.cluster import Sandbox
from tests.sandbox.needs import MissingError
from tests.sandbox.shape import Shape

SLURM_TF = [sys.executable, "-m", "slurm_tf", "submit"]
# The program prints the time at its start; the batch script does so before it starts anything.
PROGRAM = ["date", "+program %s.%N"]
SCRIPT_BEGINS = "date '+script %s.%N'"
JOB = f"""\
name = "first-line"
strategy = "single"
command = {json.dumps(PROGRAM)}
setup = "{SCRIPT_BEGINS}"
time = "5"
[roles.worker]
"""
BY_HAND = f"""\
#!/bin/bash
#SBATCH --job-name=by-hand --time=5 --ntasks=1 --output=by-hand/%j.out
{SCRIPT_BEGINS}
srun date '+program %s.%N'
"""
SWEEP = """\
name = "sweep"
strategy = "single"
command = ["true", "{{point}}"]
time = "5"
[sweep]
point = {points}
[roles.worker]
"""
SUBMITIT = """
import sys, time
start = time.perf_counter()
import submitit
imported = time.perf_counter()
executor = submitit.AutoExecutor(folder="submitit")
executor.update_parameters(timeout_min=5, slurm_additional_parameters={"hold": True})
jobs = executor.map_array(abs, range(int(sys.argv[1])))
print(jobs[0].job_id.partition("_")[0], imported - start, time.perf_counter() - imported)
"""
COUNTING_SBATCH = """\
#!/bin/sh
echo "$@" >> "$BENCH_CALLS"
exec /usr/bin/sbatch "$@"
"""
TIMEOUT = 120.0  # seconds


# --- inside the sandbox ---


def timed(command, **more):
    """Run `command`; return when it started, printed its first line, and ended, and the words of that line."""
    start = time.time()
    process = subprocess.Popen(
        command, env={**os.environ, **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    printed = time.time()
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, (command, line, errors)
    return start, printed, time.time(), line.split()


def wait_until(what, condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"not within {TIMEOUT:.0f} s: {what}"
        time.sleep(0.01)


def idle():
    """Return whether there is no job, pending, running or completing."""
    return not subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=60, check=True).stdout


def first_line(command, output):
    """Submit a job; return the seconds until its id was printed, those of Slurm, and from the script to its program.

    `output`: the pattern of its output file, with the job's id.
    """
    wait_until("an idle cluster", idle)
    start, printed, ended_at, (job,) = timed(command)
    times = {}

    def ended():
        for path in Path().glob(output.format(job=job)):
            whole = [line.split() for line in path.read_text().split("\n")[:-1]]
            times.update(words[-2:] for words in whole if len(words) > 1)
        return "program" in times

    wait_until(f"the first line of job {job}", ended)
    script, program = float(times["script"]), float(times["program"])
    return {
        "submit": printed - start, "slurm": script - printed, "launch": program - script, "all": program - start,
        "command": ended_at - start,
    }  # fmt: skip


def sweep(command, **more):
    """Submit a held sweep, then cancel it; return the seconds until its id and its end, and those that it printed."""
    start, printed, ended, (job, *own) = timed(command, **more)
    subprocess.run(["scancel", job], timeout=60, check=True)
    wait_until("an idle cluster", idle)
    return [printed - start, ended - start, *map(float, own)]


def sbatch_calls(command):
    """Return how often `command` calls sbatch."""
    calls = Path("calls")
    calls.write_text("")
    sweep(command, PATH=f"{Path('bin').absolute()}:{os.environ['PATH']}", BENCH_CALLS=str(calls.absolute()))
    return len(calls.read_text().splitlines())


def inside(pairs, points):
    """Measure, as a user on the login node; print the figures as JSON."""
    # slurm-tf copies the code in a job file's folder: not what the others write
    for folder in ("bin", "slurm-tf", "by-hand"):
        Path(folder).mkdir()
    Path("slurm-tf/job.toml").write_text(JOB)
    Path("slurm-tf/sweep.toml").write_text(SWEEP.format(points=list(range(points))))
    Path("by-hand/job.sbatch").write_text(BY_HAND)
    Path("bin/sbatch").write_text(COUNTING_SBATCH)
    Path("bin/sbatch").chmod(0o755)
    ours = ([*SLURM_TF, "slurm-tf/job.toml", "--parsable"], "runs/*/logs/slurm-{job}.out")
    by_hand = (["sbatch", "--parsable", "by-hand/job.sbatch"], "by-hand/{job}.out")
    swept = [*SLURM_TF, "slurm-tf/sweep.toml", "--parsable", "--hold"]
    submitit = [sys.executable, "-c", SUBMITIT, str(points)]
    for job in (ours, by_hand):  # caches
        first_line(*job)
    single = [(first_line(*ours), first_line(*by_hand)) for _ in range(pairs)]
    counts = sbatch_calls(swept), sbatch_calls(submitit)
    many = [(sweep(swept), sweep(submitit)) for _ in range(pairs)]
    print(json.dumps({"single": single, "many": many, "counts": counts}))


# --- outside ---


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def tables(figures, points):
    single, many = figures["single"], figures["many"]
    print("| from the command to the program's first line, s | slurm-tf | sbatch, by hand | slurm-tf more, s |")
    print("|---|---|---|---|")
    rows = (
        ("all", "all"), ("submit", "until the job id is printed"), ("slurm", "Slurm, until the batch script begins"),
        ("launch", "from there to the program"), ("command", "the submit command, until it ends"),
    )  # fmt: skip
    for key, name in rows:
        ours, theirs = ([pair[side][key] for pair in single] for side in (0, 1))
        more = [a - b for a, b in zip(ours, theirs, strict=True)]
        print(f"| {name} | {statistics.median(ours):.3f} | {statistics.median(theirs):.3f} | {spread(more, 3)} |")
    own = [ours["all"] - ours["slurm"] - theirs["all"] + theirs["slurm"] for ours, theirs in single]
    ratios = [ours["all"] / theirs["all"] for ours, theirs in single]
    print(f"\nslurm-tf takes {spread(ratios)} times as long as sbatch by hand.")
    print(f"It takes {spread(own)} s more if Slurm's own part, which varies by itself, is left out of both.\n")
    print(f"| a sweep of {points} | until its id is printed, s | until the command ends, s | calls of sbatch |")
    print("|---|---|---|---|")
    for side, name in ((0, "slurm-tf submit"), (1, "submitit, map_array")):
        until = [f"{statistics.median(pair[side][column] for pair in many):.3f}" for column in (0, 1)]
        print(f"| {name} | {' | '.join(until)} | {figures['counts'][side]} |")
    for column, name in ((2, "importing submitit"), (3, "map_array")):
        print(f"| of that, {name} | {statistics.median(pair[1][column] for pair in many):.3f} | | |")
    print(f"\nslurm-tf takes {spread([a[0] / b[0] for a, b in many])} times submitit's time until the id.")


def outside(pairs, points):
    folder = Path(tempfile.mkdtemp(prefix="stf-bench-"))
    load = os.getloadavg()[0]
    try:
        sandbox = Sandbox.up(folder, Shape(), bound=True)
    except MissingError as error:
        folder.rmdir()
        print(f"benchmarks/submit.py did not run: {error}")
        return
    try:
        compileall.compile_dir(ROOT / "slurm_tf", quiet=1)  # as pip does for what it installs
        version = sandbox.run("sinfo", "--version").stdout.strip()
        command = [sys.executable, __file__, "--inside", "--pairs", str(pairs), "--points", str(points)]
        done = sandbox.run(*command, env={"PYTHONPATH": str(ROOT)}, timeout=3 * pairs * TIMEOUT)
    finally:
        sandbox.down()
    print(f"Python {platform.python_version()}, {version}, {os.cpu_count()} cores, load {load:.1f} at the start.\n")
    tables(json.loads(done.stdout.splitlines()[-1]), points)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    (inside if options.inside else outside)(options.pairs, options.points)


if __name__ == "__main__":
    main()
