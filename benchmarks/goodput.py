"""How much of its allocations a training on preemptible nodes keeps: a model, and ten real preemptions to check it by.

    python benchmarks/goodput.py --costs FILE [--preemptions 10] [--start 15]

The model draws the lives of jobs from the quantiles of a real trace (median 253 s, p10 34 s, p90 2269 s, 217 s from one
life to the next) and counts what is left after start-up, saves, and work that is lost. Its costs are those that
benchmarks/checkpoint.py has measured and written to FILE; `--start` is what a job takes until it restores. As root it
also brings up a Slurm cluster (tests/sandbox), has a training preempted, and compares what the model says of those
lives with what the training kept. Prints Markdown tables.
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

# Seconds at each quantile.
LIVES = {0.1: 34.0, 0.5: 253.0, 0.9: 2269.0}
GAP = 217.0
SAMPLES = 20_000
# of a standard normal distribution: its quantile 0.9
Z90 = 1.2816
JOB = """\
name = "goodput"
strategy = "single"
command = ["{python}", "{program}", "--as-program", "{folder}"]
exclusive = true
[roles.worker]
"""


def lives(rng, count):
    """Draw lives: two halves of lognormal distributions that meet in the median."""
    middle = math.log(LIVES[0.5])
    below, above = ((math.log(LIVES[q]) - middle) / (Z90 if q > 0.5 else -Z90) for q in (0.1, 0.9))
    drawn = (rng.gauss(0, 1) for _ in range(count))
    return [math.exp(middle + z * (above if z > 0 else below)) for z in drawn]


def kept(life, every, costs, warned):
    """Return the seconds of training in a `life` that the next one goes on from.

    `every`: seconds of training between two saves; `warned`: one more save comes before the end.
    """
    training = life - costs.restart - (costs.last if warned else 0.0)
    if training <= 0:
        return 0.0
    cycle = every + costs.blocked
    if warned:
        return training * every / cycle
    # what is on storage at the end: whole intervals whose save had the time to be written
    return every * math.floor(max(training - costs.written, 0.0) / cycle)


def model(costs, seed=0):
    """Print what is kept under each policy."""
    drawn = lives(random.Random(seed), SAMPLES)
    total = sum(drawn)
    best = save_interval.optimum(costs.blocked, statistics.fmean(drawn))
    rows = [(f"every {every:.0f} s", every, False) for every in (60.0, 600.0, 3600.0)]
    rows += [(f"{best:.0f} s, which slurm-tf chooses, no warning", best, False)]
    rows += [(f"{best:.0f} s, and a save at the warning: slurm-tf", best, True)]
    print("| a checkpoint | kept of the allocated time | of all time, waits included |\n|---|---|---|")
    for name, every, warned in rows:
        own = sum(kept(life, every, costs, warned) for life in drawn)
        print(f"| {name} | {own / total:.1%} | {own / (total + GAP * len(drawn)):.1%} |")


# --- ten real ones ---


def train(folder):
    """Be the program: small steps of TensorFlow, a line each with the time when it was done."""
    import tensorflow as tf  # noqa: PLC0415 - the program alone needs it

    import slurm_tf.train  # noqa: PLC0415

    run = slurm_tf.train.init()
    weights = tf.Variable(tf.random.stateless_normal([512, 512], [1, 2], stddev=0.04))
    run.checkpoint(weights=weights)
    log = Path(folder, "steps").open("a", buffering=1)  # noqa: SIM115 - until this process ends

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
            raise SystemExit(f"goodput.py: waited {seconds:.0f} s in vain")
        time.sleep(0.2)


def wait_for_steps(folder, attempt):
    wait_until(lambda: (folder / "steps").exists() and any(row[0] == attempt for row in steps(folder)))


def preempted(folder, count, rng):
    """Have a training preempted `count` times; return its attempts and its steps."""
    from tests.cluster.group import Member  # noqa: PLC0415
    from tests.sandbox.cluster import Sandbox  # noqa: PLC0415
    from tests.sandbox.shape import Shape  # noqa: PLC0415

    sandbox = Sandbox.up(Path(folder, "sandbox"), Shape(nodes=1), bound=True)
    try:
        member = Member(sandbox, "alice", sandbox.home("alice") / "goodput")
        mine = member.folder
        text = JOB.format(python=sys.executable, program=Path(__file__).resolve(), folder=mine)
        job = member.submit(member.write("goodput.toml", text), "--qos=scavenge")
        run = mine / "runs" / "goodput-1"
        for number in range(count + 1):
            wait_for_steps(mine, f"{job}.{number}")
            time.sleep(rng.uniform(8, 40))
            if number < count:
                sandbox.run("srun", "--qos=urgent", "--exclusive", "true", user="bob", timeout=120)
                wait_until(lambda: member.run("squeue", "-h", "-j", job, "-o", "%T").strip() == "PENDING")
                # slurmctld (22.05.8) needs a moment until it has seen the end of the former life
                time.sleep(3)
                member.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        member.type("cancel", "goodput-1")
        wait_until(lambda: attempts(run)[-1]["ended"])
        return attempts(run), steps(mine)
    finally:
        sandbox.down()


def compare(rows, done):
    """Print what the training kept beside what the model says, each from the attempts' own costs."""
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
    said = sum(kept(row["ended"] - row["started"], 1e9, costs, True) for row in rows)
    was = (rows[-1]["last"] or done[-1][1]) * pace
    total = sum(row["ended"] - row["started"] for row in rows)
    redone = [
        before[-1][1] - after[0][1] + 10
        for before, after in zip(list(of.values()), list(of.values())[1:], strict=False)
    ]
    print(f"{len(rows)} lives of {min(r['ended'] - r['started'] for r in rows):.0f} to "
          f"{max(r['ended'] - r['started'] for r in rows):.0f} s; {pace * 1000:.1f} ms a step; start-up and restore "
          f"{statistics.median(starts):.1f} s; at most {max(0, *redone)} steps done twice.\n")  # fmt: skip
    print("| kept of the allocated time | model | measured | model / measured |\n|---|---|---|---|")
    print(f"| {len(rows) - 1} preemptions | {said / total:.1%} | {was / total:.1%} | {said / was:.3f} |")


class Costs:
    """Seconds. `blocked`: training waits for a save; `written`: until it is on storage.

    `restart`: from the start of a life to its first new step; `last`: from the last step to the end of one that was
    warned.
    """

    def __init__(self, blocked, written, restart, last):
        self.blocked, self.written, self.restart, self.last = blocked, written, restart, last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preemptions", type=int, default=10)
    parser.add_argument("--costs", type=Path, help="what benchmarks/checkpoint.py --costs wrote")
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
        print("\nNo real preemptions: the cluster for them needs root.")
        return
    print()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        compare(*preempted(folder, options.preemptions, random.Random(1)))


if __name__ == "__main__":
    main()
