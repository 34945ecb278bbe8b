"""Measures the exchange of gradients: 25 million float32 a step, by each method that two or four ranks have.

    python benchmarks/allreduce.py [--rounds 9] [--rounds-of-four 3] [--steps 7] [--only "ours"]

Prints Markdown tables of seconds per step. Every method does the same: a rank adds its number to each variable, and all
ranks take the mean. A round is one run of each method, and the next round runs them in reverse order. The figure of a
run is the median of its steps, that of a step is the time of its slowest rank. Cells are medians of the runs with the
smallest and largest, ratios are medians of the rounds' ratios. Each element of the results is checked. A method that
does not run or does not end is reported on a line of its own.
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
TIMEOUT = 180.0  # seconds; a run takes ten
KILL_WAIT = 20.0
MAX_FAILURES = 2  # a method that fails this often is not run again
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
    """Return a function of sizes that returns the training step, and a function for the values of the variables."""
    import tensorflow as tf  # the program alone needs it

    # there are as many ranks as processors
    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy, mean = tf.distribute.get_strategy(), list
    if exchange == "default":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()

        def mean(gradients):
            return tf.distribute.get_replica_context().all_reduce("MEAN", gradients)

    elif exchange == "ours":
        import slurm_tf.train

        mean = slurm_tf.train.init().mean
    elif exchange == "horovod":
        import horovod.tensorflow as hvd

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
    import numpy as np
    from mpi4py import MPI

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
    import numpy as np

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
    """Wait for all ranks, so that those that do not communicate also compute at the same time."""
    Path(folder, f"{when}-{rank}").touch()
    left, end = set(range(ranks)), time.monotonic() + TIMEOUT
    while left := {other for other in left if not os.path.exists(f"{folder}/{when}-{other}")}:
        assert time.monotonic() < end, f"rank {sorted(left)} did not come to {when}"
        time.sleep(0.0002)


def program(exchange, folder, ranks, steps):
    """Run one rank; write the seconds of each step, by sizes, to a file."""
    rank = own_rank()
    makers = {"memcpy": with_memcpy, "mpi4py": lambda: with_mpi4py(rank)}
    make = makers.get(exchange, lambda: with_tensorflow(exchange, rank))()
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
    # a rank that ends early would make the others fail, under TensorFlow and Horovod
    meet(folder, "end", rank, ranks)


# --- the ways to start the program ---


def slurm_tf(strategy):
    def start(command, ranks, folder):
        job = Path(folder, "job.toml")
        job.write_text(JOB.format(strategy=strategy, command=json.dumps(command), ranks=ranks))
        return [sys.executable, "-m", "slurm_tf", "run", str(job)], {"SLURM_TF_RUNS": f"{folder}/runs"}

    return start


def horovodrun(command, ranks, folder):  # noqa: ARG001 - the signature of all methods
    # pip installs it beside this Python
    return [str(Path(sys.executable).with_name("horovodrun")), "--gloo", "-np", str(ranks), *command], {}


def mpirun(command, ranks, folder):  # noqa: ARG001
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    environ = {"HOROVOD_CONTROLLER": "mpi", "HOROVOD_CPU_OPERATIONS": "mpi"}
    if ranks > os.cpu_count():
        # MPI polls while it waits
        environ["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return ["mpirun", *options, *command], environ


DEFAULT, OURS = "multi_worker, TensorFlow's defaults", "multi_worker, slurm_tf.train"
GLOO, HOROVODRUN = "Horovod, Gloo, slurm-tf", "Horovod, Gloo, horovodrun"
METHODS = {
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
    """A run failed; the message is the reason."""


def end(process):
    """End a run and its descendants, which slurm-tf's coordinator, horovodrun and mpirun end at SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(KILL_WAIT)
        except subprocess.TimeoutExpired:
            continue


def measured(method, ranks, steps):
    """Run one method once; return the seconds of a step, by sizes. Raises FailedError."""
    exchange, start = METHODS[method]
    with tempfile.TemporaryDirectory(prefix="stf-bench-") as folder:
        arguments = ["--as-program", exchange, folder, str(ranks), str(steps)]
        command, environ = start([sys.executable, str(Path(__file__).resolve()), *arguments], ranks, folder)
        if not shutil.which(command[0]):
            raise FailedError(f"there is no {command[0]}")
        output = Path(folder, "output")
        with output.open("wb") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **ENVIRON, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd=folder,
            )  # fmt: skip
            try:
                code = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(process)
        if code != 0:
            lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
            reason = next((line for line in reversed(lines) if "rror" in line), (lines or ["it printed nothing"])[-1])
            how = f"not done in {TIMEOUT:.0f} s" if code is None else f"exit code {code}"
            raise FailedError(f"{how}: {reason[:200]}")
        by_rank = [json.loads(Path(folder, f"seconds-{rank}").read_text()) for rank in range(ranks)]
    return {
        name: statistics.median([max(step) for step in zip(*(rank[name] for rank in by_rank), strict=True)][WARM_UP:])
        for name in SIZES
    }


# --- the tables ---


def spread(values, digits=3):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def compare(methods, ranks, rounds, steps):
    """Run all methods in each round; print their table, the failures, and the ratios."""
    runs, failures = {method: [] for method in methods}, {method: [] for method in methods}
    for number in range(rounds):
        for method in methods if number % 2 == 0 else reversed(methods):
            row = None
            if len(failures[method]) < MAX_FAILURES:
                try:
                    row = measured(method, ranks, steps)
                except FailedError as error:
                    failures[method].append(str(error))
            runs[method].append(row)
            figures = row and [round(value, 3) for value in row.values()]
            print(ranks, number, method, figures or failures[method][-1], file=sys.stderr, flush=True)
    print(f"| {ranks} ranks, seconds a step, {rounds} rounds | {' | '.join(SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for method in methods:
        rows = [row for row in runs[method] if row]
        cells = [spread([row[name] for row in rows]) if rows else "not measured" for name in SIZES]
        print(f"| {method} | {' | '.join(cells)} |")
    print()
    for method in methods:
        done = sum(row is not None for row in runs[method])
        for reason in failures[method]:
            print(f"{method}: {done} of {rounds} runs have figures; {reason}")
    for slow, fast in RATIOS:
        if slow in methods and fast in methods:
            pairs = [(a, b) for a, b in zip(runs[slow], runs[fast], strict=True) if a and b]
            every = [f"{name}: {spread([a[name] / b[name] for a, b in pairs], 2)}" for name in SIZES if pairs]
            print(f"{slow} / {fast}: {', '.join(every) or 'not measured'}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rounds-of-four", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--only", default="", help="run only methods whose names contain this, or A or B of A|B")
    parser.add_argument("--as-program", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_program:
        exchange, folder, ranks, steps = options.as_program
        program(exchange, folder, int(ranks), int(steps))
        return
    # so that the method that runs is ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    methods = [method for method in METHODS if any(part in method for part in options.only.split("|"))]
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the start.\n", flush=True)
    compare(methods, 2, options.rounds, options.steps)
    if options.rounds_of_four:
        print()
        compare(methods, 4, options.rounds_of_four, options.steps)


if __name__ == "__main__":
    main()
