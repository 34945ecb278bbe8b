"""Measures the share of its allocations that a training on preemptible nodes keeps: by a model, and ten preemptions.

    python benchmarks/goodput.py --costs FILE [--preemptions 10] [--start 15]

The model draws run times until a preemption from the quantiles of a real trace (median 253 s, p10 34 s, p90 2269 s,
217 s from one incarnation to the next) and subtracts start-up, saves, and steps that are lost. It takes its costs from
FILE, which benchmarks/checkpoint.py --costs has written; `--start` is how long a job takes until it restores. As root
it also starts a Slurm cluster (tests/sandbox), has a training preempted, and compares the model's result for those
incarnations with what the training kept. Prints Markdown tables.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slurm_tf.train.checkpoint import save_interval

# Run time until a preemption, in seconds, at each quantile.
RUN_TIMES = {0.1: 34.0, 0.5: 253.0, 0.9: 2269.0}
GAP = 217.0
SAMPLES = 20_000
# the quantile 0.9 of a standard normal distribution
Z90 = 1.2816
JOB = """\
name = "goodput"
strategy = "single"
command = ["{python}", "{program}", "--as-program", "{folder}"]
exclusive = true
[roles.worker]
"""


def run_times(rng, count):
    """Draw run times from two halves of lognormal distributions with the same median."""
    middle = math.log(RUN_TIMES[0.5])
    below, above = ((math.log(RUN_TIMES[q]) - middle) / (Z90 if q > 0.5 else -Z90) for q in (0.1, 0.9))
    drawn = (rng.gauss(0, 1) for _ in range(count))
    return [math.exp(middle + z * (above if z > 0 else below)) for z in drawn]


def kept(run_time, every, costs, warned):
    """Return the seconds of training in one incarnation that the next one continues from.

    `every`: seconds of training between two saves; `warned`: training is saved once more before the end.
    """
    training = run_time - costs.restart - (costs.last if warned else 0.0)
    if training <= 0:
        return 0.0
    cycle = every + costs.blocked
    if warned:
        return training * every / cycle
    # on storage at the end: whole intervals whose save was written in time
    return every * math.floor(max(training - costs.written, 0.0) / cycle)


def model(costs, seed=0):
    """Print the share that is kept under each policy."""
    drawn = run_times(random.Random(seed), SAMPLES)
    total = sum(drawn)
    best = save_interval.optimum(costs.blocked, statistics.fmean(drawn))
    rows = [(f"every {every:.0f} s", every, False) for every in (60.0, 600.0, 3600.0)]
    rows += [(f"every {best:.0f} s, chosen by slurm-tf, no warning", best, False)]
    rows += [(f"every {best:.0f} s, and a save at the warning: slurm-tf", best, True)]
    print("| a checkpoint | share of the allocated time kept | share of all time, waits included |\n|---|---|---|")
    for name, every, warned in rows:
        training = sum(kept(run_time, every, costs, warned) for run_time in drawn)
        print(f"| {name} | {training / total:.1%} | {training / (total + GAP * len(drawn)):.1%} |")


# --- real preemptions ---


def train(folder):
    """Run the program: small steps of TensorFlow, and a line with the time after every ten of them."""
    import tensorflow as tf  # the program alone needs it

    import slurm_tf.train

    run = slurm_tf.train.init()
    weights = tf.Variable(tf.random.stateless_normal([512, 512], [1, 2], stddev=0.04))
    run.checkpoint(weights=weights)
    log = Path(folder, "steps").open("a", buffering=1)  # noqa: SIM115 - open until this process ends

    @tf.function
    def update():
        for _ in tf.range(20):
            weights.assign(tf.tanh(weights @ weights) * 0.9)
        return tf.reduce_mean(weights)

    def step(_):
        return {"mean": update()}

    for done, _ in run.loop(step, tf.data.Dataset.range(1).repeat(), steps=10**9, every=10):
        log.write(f"{os.environ['SLURM_TF_ATTEMPT']} {done} {time.time()}\n")


def attempts(run):
    return json.loads((run / "attempts.json").read_text())["attempts"]


def steps(folder):
    """Return (attempt, step, time) of each line that the program wrote."""
    rows = [line.split() for line in Path(folder, "steps").read_text().splitlines()]
    return [(attempt, int(step), float(when)) for attempt, step, when in rows]


def wait_until(what, seconds=180.0):
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            raise SystemExit(f"goodput.py: what it waits for did not happen in {seconds:.0f} s")
        time.sleep(0.2)


def wait_for_steps(folder, attempt):
    wait_until(lambda: (folder / "steps").exists() and any(row[0] == attempt for row in steps(folder)))


def preempted(folder, count, rng):
    """Have a training preempted `count` times; return its attempts and its steps."""
    from tests.cluster.group import Member
    from tests.sandbox.cluster import Sandbox
    from tests.sandbox.shape import Shape

    sandbox = Sandbox.up(Path(folder, "sandbox"), Shape(nodes=1), bound=True)
    try:
        member = Member(sandbox, "alice", sandbox.home("alice") / "goodput")
        work = member.folder
        text = JOB.format(python=sys.executable, program=Path(__file__).resolve(), folder=work)
        job = member.submit(member.write("goodput.toml", text), "--qos=scavenge")
        run = work / "runs" / "goodput-1"
        for number in range(count + 1):
            wait_for_steps(work, f"{job}.{number}")
            time.sleep(rng.uniform(8, 40))
            if number < count:
                sandbox.run("srun", "--qos=urgent", "--exclusive", "true", user="bob", timeout=120)
                wait_until(lambda: member.run("squeue", "-h", "-j", job, "-o", "%T").strip() == "PENDING")
                # slurmctld (22.05.8) needs a moment until it has seen the end of the last incarnation
                time.sleep(3)
                member.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        member.type("cancel", "goodput-1")
        wait_until(lambda: attempts(run)[-1]["ended"])
        return attempts(run), steps(work)
    finally:
        sandbox.down()


def compare(rows, done):
    """Print the share that the training kept, and the model's for the same attempts and their costs."""
    of = {row["id"]: [line for line in done if line[0] == row["id"]] for row in rows}
    pace = statistics.median(
        (later[2] - earlier[2]) / (later[1] - earlier[1])
        for lines in of.values()
        for earlier, later in zip(lines, lines[1:], strict=False)
    )
    starts = [of[row["id"]][0][2] - row["started"] for row in rows]
    tails = [row["ended"] - of[row["id"]][-1][2] for row in rows]
    half = len(rows) // 2
    costs = Costs(0.0, 0.0, statistics.median(starts[:half]), statistics.median(tails[:half]))
    modelled = sum(kept(row["ended"] - row["started"], 1e9, costs, True) for row in rows)
    measured = (rows[-1]["last"] or done[-1][1]) * pace
    total = sum(row["ended"] - row["started"] for row in rows)
    redone = [
        before[-1][1] - after[0][1] + 10
        for before, after in zip(list(of.values()), list(of.values())[1:], strict=False)
    ]
    print(f"{len(rows)} incarnations of {min(r['ended'] - r['started'] for r in rows):.0f} to "
          f"{max(r['ended'] - r['started'] for r in rows):.0f} s; {pace * 1000:.1f} ms a step; start-up and restore "
          f"{statistics.median(starts):.1f} s; at most {max(0, *redone)} steps done twice.\n")  # fmt: skip
    print("| share of the allocated time kept | model | measured | model / measured |\n|---|---|---|---|")
    ratio = modelled / measured
    print(f"| {len(rows) - 1} preemptions | {modelled / total:.1%} | {measured / total:.1%} | {ratio:.3f} |")


class Costs:
    """Costs in seconds. `blocked`: training waits for a save; `written`: until the save is on storage.

    `restart`: from the start of an incarnation to its first new step; `last`: from the last step to the end, after a
    warning.
    """

    def __init__(self, blocked, written, restart, last):
        self.blocked, self.written, self.restart, self.last = blocked, written, restart, last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preemptions", type=int, default=10)
    parser.add_argument("--costs", type=Path, help="the file that benchmarks/checkpoint.py --costs wrote")
    parser.add_argument("--start", type=float, default=15.0, help="seconds from a job's start to its restore")
    parser.add_argument("--as-program", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_program:
        train(options.as_program)
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start.\n")
    measured = json.loads(options.costs.read_text())
    print(", ".join(f"{name} {seconds:.3f} s" for name, seconds in measured.items()), end=" a checkpoint.\n\n")
    written, restart = measured["written"], options.start + measured["recovery"]
    model(Costs(measured["blocked"], written, restart, written))
    if os.getuid():
        print("\nNo real preemptions: the Slurm cluster for them needs root.")
        return
    print()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        compare(*preempted(folder, options.preemptions, random.Random(1)))


if __name__ == "__main__":
    main()
