"""What exchanging gradients costs: 25 million float32 a step, by each way that two or four ranks have here.

    python benchmarks/allreduce.py [--rounds 9] [--rounds-of-four 3] [--steps 7] [--only "ours"]

Prints Markdown tables of seconds a step. Every way does the same: a rank adds its number to each variable, and all take
the mean. What is compared runs in turns: a round is one run of each way, the next round goes through them backwards. A
run's figure is the median of its steps, a step's that of its slowest rank; cells are medians of the runs with the
smallest and largest, ratios are medians of the rounds' ratios. The results are checked, each element. A way that does
not run or does not end is a line of its own.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 2
PATIENCE = 180.0  # seconds: a run takes ten
GRACE = 20.0
FAILURES = 2  # of one way, and it is not tried again
ENVIRON = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": str(ROOT)}
JOB = """\
name = "allreduce"
strategy = "{strategy}"
command = {command}
[roles.worker]
count = {ranks}
"""


def resnet50():
    """Return the sizes of ResNet-50's 161 trainable variables."""
    sizes, inputs = [7 * 7 * 3 * 64, 64, 64], 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            kernels = [(inputs, width), (9 * width, width), (width, 4 * width)]
            kernels += [(inputs, 4 * width)] if block == 0 else []
            for rows, columns in kernels:
                sizes += [rows * columns, columns, columns]
            inputs = 4 * width
    return [*sizes, 2048 * 1000, 1000]


SIZES = {"25 x 1M": [1_000_000] * 25, "161, as ResNet-50": resnet50(), "1 x 25M": [25_000_000]}


# --- the program: one rank ---


def with_tensorflow(exchange, rank):
    """Return what makes a step from sizes: the step, and what gives the variables."""
    import tensorflow as tf  # noqa: PLC0415 - the program alone needs it

    # as many ranks as processors
    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy, mean = tf.distribute.get_strategy(), list
    if exchange == "default":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()

        def mean(gradients):
            return tf.distribute.get_replica_context().all_reduce("MEAN", gradients)

    elif exchange == "ours":
        import slurm_tf.train  # noqa: PLC0415

        mean = slurm_tf.train.init().mean
    elif exchange == "horovod":
        import horovod.tensorflow as hvd  # noqa: PLC0415

        assert hvd.mpi_built() or os.environ.get("HOROVOD_CONTROLLER") != "mpi", "this Horovod was built without MPI"
        hvd.init()

        def mean(gradients):
            return [hvd.allreduce(gradient, op=hvd.Average) for gradient in gradients]

    def make(sizes):
        with strategy.scope():
            variables = [tf.Variable(tf.fill([size], float(index))) for index, size in enumerate(sizes)]

        def replica():
            gradients = [variable + float(rank + 1) for variable in variables]
            for variable, value in zip(variables, mean(gradients), strict=True):
                variable.assign(value)

        step = tf.function(lambda: strategy.run(replica))
        return step, lambda: [variable.numpy() for variable in variables]

    return make


def with_mpi4py(rank):
    import numpy as np  # noqa: PLC0415
    from mpi4py import MPI  # noqa: PLC0415

    world = MPI.COMM_WORLD

    def make(sizes):
        variables = [np.full(size, index, "f") for index, size in enumerate(sizes)]
        gradients = [np.empty_like(variable) for variable in variables]

        def step():
            for variable, gradient in zip(variables, gradients, strict=True):
                np.add(variable, rank + 1, out=gradient)
                world.Allreduce(MPI.IN_PLACE, gradient)
                np.divide(gradient, world.size, out=variable)

        return step, lambda: variables

    return make


def with_memcpy():
    import numpy as np  # noqa: PLC0415

    def make(sizes):
        variables = [np.full(size, index, "f") for index, size in enumerate(sizes)]
        copies = [np.empty_like(variable) for variable in variables]

        def step():
            for variable, copy in zip(variables, copies, strict=True):
                np.copyto(copy, variable)

        return step, lambda: copies

    return make


def own_rank():
    for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return json.loads(os.environ["TF_CONFIG"])["task"]["index"]


def meet(folder, when, rank, ranks):
    """Wait until all ranks are here: also those that do not speak to each other shall work at the same time."""
    Path(folder, f"{when}-{rank}").touch()
    left, end = set(range(ranks)), time.monotonic() + PATIENCE
    while left := {other for other in left if not os.path.exists(f"{folder}/{when}-{other}")}:
        assert time.monotonic() < end, f"rank {sorted(left)} did not come to {when}"
        time.sleep(0.0002)


def program(exchange, folder, ranks, steps):
    """Be one rank; leave the seconds of each step, by sizes."""
    rank = own_rank()
    own = {"memcpy": with_memcpy, "mpi4py": lambda: with_mpi4py(rank)}
    make = own.get(exchange, lambda: with_tensorflow(exchange, rank))()
    added = {"none": rank + 1, "memcpy": 0}.get(exchange, (ranks + 1) / 2)
    seconds = {}
    for name, sizes in SIZES.items():
        step, values = make(sizes)
        seconds[name] = []
        for number in range(WARM_UP + steps):
            meet(folder, f"{len(seconds)}-{number}", rank, ranks)
            begun = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begun)
        for index, value in enumerate(values()):
            expected = index + (WARM_UP + steps) * added
            assert (value == expected).all(), f"error: {name}, variable {index} of rank {rank} is not {expected}"
        del step, values
    Path(folder, f"seconds-{rank}").write_text(json.dumps(seconds))
    # who leaves early is missed: TensorFlow's and Horovod's ranks end each other
    meet(folder, "end", rank, ranks)


# --- the ways to start it ---


def slurm_tf(strategy):
    def start(command, ranks, folder):
        job = Path(folder, "job.toml")
        job.write_text(JOB.format(strategy=strategy, command=json.dumps(command), ranks=ranks))
        return [sys.executable, "-m", "slurm_tf", "run", str(job)], {"SLURM_TF_RUNS": f"{folder}/runs"}

    return start


def horovodrun(command, ranks, folder):  # noqa: ARG001 - as the others
    # beside this Python, as pip puts it
    return [str(Path(sys.executable).with_name("horovodrun")), "--gloo", "-np", str(ranks), *command], {}


def mpirun(command, ranks, folder):  # noqa: ARG001
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    environ = {"HOROVOD_CONTROLLER": "mpi", "HOROVOD_CPU_OPERATIONS": "mpi"}
    if ranks > os.cpu_count():
        # MPI waits without a pause
        environ["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return ["mpirun", *options, *command], environ


DEFAULT, OURS = "multi_worker, TensorFlow's defaults", "multi_worker, slurm_tf.train"
GLOO, HOROVODRUN = "Horovod, Gloo, slurm-tf", "Horovod, Gloo, horovodrun"
WAYS = {
    "no communication": ("none", slurm_tf("multi_worker")),
    "one copy in memory": ("memcpy", slurm_tf("multi_worker")),
    DEFAULT: ("default", slurm_tf("multi_worker")),
    OURS: ("ours", slurm_tf("multi_worker")),
    GLOO: ("horovod", slurm_tf("horovod")),
    HOROVODRUN: ("horovod", horovodrun),
    "Horovod, MPI, mpirun": ("horovod", mpirun),
    "mpi4py, mpirun": ("mpi4py", mpirun),
}
RATIOS = ((DEFAULT, OURS), (HOROVODRUN, GLOO))


class FailedError(Exception):
    """A run that gave no figures; says why."""


def end(process):
    """End a run and all below it: slurm-tf's coordinator, horovodrun and mpirun do so when they are asked."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue


def measured(way, ranks, steps):
    """Run one way once; return the seconds of a step, by sizes. Raises FailedError."""
    exchange, start = WAYS[way]
    with tempfile.TemporaryDirectory(prefix="stf-bench-") as folder:
        own = [sys.executable, str(Path(__file__).resolve()), "--as-program", exchange, folder, str(ranks), str(steps)]
        command, environ = start(own, ranks, folder)
        if not shutil.which(command[0]):
            raise FailedError(f"there is no {command[0]}")
        output = Path(folder, "output")
        with output.open("wb") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **ENVIRON, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd=folder,
            )  # fmt: skip
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(process)
        if code != 0:
            lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
            why = next((line for line in reversed(lines) if "rror" in line), (lines or ["it printed nothing"])[-1])
            how = f"not done in {PATIENCE:.0f} s" if code is None else f"exit code {code}"
            raise FailedError(f"{how}: {why[:200]}")
        every = [json.loads(Path(folder, f"seconds-{rank}").read_text()) for rank in range(ranks)]
    return {
        name: statistics.median([max(step) for step in zip(*(own[name] for own in every), strict=True)][WARM_UP:])
        for name in SIZES
    }


# --- the tables ---


def spread(values, digits=3):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def compare(ways, ranks, rounds, steps):
    """Run all ways in turns; print their table, what failed, and the ratios."""
    runs, failures = {way: [] for way in ways}, {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            row = None
            if len(failures[way]) < FAILURES:
                try:
                    row = measured(way, ranks, steps)
                except FailedError as error:
                    failures[way].append(str(error))
            runs[way].append(row)
            said = row and [round(value, 3) for value in row.values()]
            print(ranks, number, way, said or failures[way][-1], file=sys.stderr, flush=True)
    print(f"| {ranks} ranks, seconds a step, {rounds} rounds | {' | '.join(SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for way in ways:
        rows = [row for row in runs[way] if row]
        cells = [spread([row[name] for row in rows]) if rows else "not measured" for name in SIZES]
        print(f"| {way} | {' | '.join(cells)} |")
    print()
    for way in ways:
        done = sum(row is not None for row in runs[way])
        for why in failures[way]:
            print(f"{way}: {done} of {rounds} runs have figures; {why}")
    for slow, fast in RATIOS:
        if slow in ways and fast in ways:
            pairs = [(a, b) for a, b in zip(runs[slow], runs[fast], strict=True) if a and b]
            every = [f"{name}: {spread([a[name] / b[name] for a, b in pairs], 2)}" for name in SIZES if pairs]
            print(f"{slow} / {fast}: {', '.join(every) or 'not measured'}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rounds-of-four", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--only", default="", help="ways whose names have this in them, or one of A|B")
    parser.add_argument("--as-program", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_program:
        exchange, folder, ranks, steps = options.as_program
        program(exchange, folder, int(ranks), int(steps))
        return
    # so that what runs is ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    ways = [way for way in WAYS if any(part in way for part in options.only.split("|"))]
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the start.\n", flush=True)
    compare(ways, 2, options.rounds, options.steps)
    if options.rounds_of_four:
        print()
        compare(ways, 4, options.rounds_of_four, options.steps)


if __name__ == "__main__":
    main()
