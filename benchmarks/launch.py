"""Measures the launcher: the cost of one agent, of two thousand agents, and the largest cluster.

    python benchmarks/launch.py [--pairs 9] [--agents 2000]

Prints Markdown tables. What is compared runs alternately, within the same minute. Figures are medians, and ratios are
medians of the pairs' ratios with the smallest and largest. System calls are counted by strace, if it is installed.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slurm_tf.errors import SlurmTfError, TopologyError
from slurm_tf.launch.mapping import cluster
from slurm_tf.launch.transport import connections, ports
from slurm_tf.launch.transport.messages import Ended, Hello, Leave, Report, Start, Started
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import LaunchSettings, RoleSettings, write_settings
from slurm_tf.run.train_settings import TrainSettings
from slurm_tf.submit import packed_modules

STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURMD_NODENAME": "n1"}
RESOLVER = """
import json, time
start = time.perf_counter()
from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import SlurmClusterResolver
imported = time.perf_counter()
resolver = SlurmClusterResolver({"worker": 1}, gpus_per_node=1, gpus_per_task=1, auto_set_gpu=False)
resolver.cluster_spec(), resolver.get_task_info()
print(json.dumps([imported - start, time.perf_counter() - imported]))
"""
RESOLVER_STEP = {
    "SLURM_PROCID": "0",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_NODELIST": "n1",
    "SLURM_STEP_TASKS_PER_NODE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def settings(roles, **more):
    return LaunchSettings(
        run="bench", local=True, strategy="multi_worker", roles=roles, env={}, cluster_flags=False, gpu_sharing="split",
        max_restarts=0, register_timeout=300.0, wait=60.0, kill_wait=5.0, ports=None, coordinator_ports=None,
        interface="", train=TrainSettings(), **more,
    )  # fmt: skip


def run_folder(folder, plan):
    run = RunFolder(str(folder))
    os.makedirs(run.logs, exist_ok=True)
    submission = run.submission(1)
    os.makedirs(submission.path, exist_ok=True)
    write_settings(submission, plan)
    Path(submission.launcher).write_bytes(packed_modules.launcher())
    return run


def timed(command, environ):
    """Run `command`; return its wall and CPU seconds, all it started included, and what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, (command, process.returncode)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, printed


def traced(command):
    """Return `command` under strace, and the path of the file in which `calls` counts the file-system calls."""
    handle, path = tempfile.mkstemp()
    os.close(handle)
    return ["strace", "-f", "-qq", "-e", "trace=%file", "-o", path, *command], path


def calls(path):
    lines = Path(path).read_text(errors="replace").splitlines()
    os.unlink(path)
    return sum("(" in line for line in lines)


# --- one agent ---


def as_step(result, trace):
    """Time one agent from its start to its end, in a process that the coordinator starts in place of srun."""
    run = os.environ["BENCH_RUN"]
    command = [sys.executable, "-IS", RunFolder(run).submission(1).launcher, "agent"]
    environ = {**os.environ, **STEP}
    path = ""
    if trace:
        command, path = traced(command)
    wall, cpu, _ = timed(command, environ)
    Path(result).write_text(json.dumps([wall, cpu, calls(path) if trace else None]))


def agent(folder, trace=False):
    run = run_folder(folder, settings((RoleSettings("worker", 1, command=("true",)),)))
    result = str(folder / "result")
    step = [sys.executable, __file__, "--as-step", result, *(["--trace"] if trace else [])]
    command = [sys.executable, run.submission(1).launcher, "coordinate", run.submission(1).path, "--", *step]
    subprocess.run(
        command, check=True, env={**os.environ, "BENCH_RUN": run.path}, stderr=subprocess.DEVNULL, timeout=120
    )
    return json.loads(Path(result).read_text())


def true_alone(trace=False):
    command, path = traced(["true"]) if trace else (["true"], "")
    wall, cpu, _ = timed(command, dict(os.environ))
    return [wall, cpu, calls(path) if trace else None]


def resolver(trace=False):
    command, path = [sys.executable, "-c", RESOLVER], ""
    if trace:
        command, path = traced(command)
    wall, cpu, printed = timed(command, {**os.environ, **RESOLVER_STEP})
    return [wall, cpu, calls(path) if trace else None, *json.loads(printed.splitlines()[-1])]


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def one_agent(folder, pairs):
    agents, trues, resolvers = [], [], []
    for _ in range(pairs):
        agents.append(agent(folder))
        trues.append(true_alone())
        resolvers.append(resolver())
    counts = [None] * 3
    if shutil.which("strace"):
        counts = [agent(folder, trace=True)[2], true_alone(trace=True)[2], resolver(trace=True)[2]]
    print("| one task | wall, ms | CPU, ms | file-system calls |\n|---|---|---|---|")
    for name, rows, count in zip(
        ("an agent of `true`", "`true`", "SlurmClusterResolver, its process"),
        (agents, trues, resolvers),
        counts,
        strict=True,
    ):
        wall, cpu = (statistics.median(row[column] for row in rows) * 1000 for column in (0, 1))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {'not measured: no strace' if count is None else count} |")
    for column, name in ((3, "importing TensorFlow"), (4, "building its spec")):
        print(f"| of that, {name} | {statistics.median(row[column] for row in resolvers) * 1000:.1f} | | |")
    over_true = [(a[0] - b[0]) * 1000 for a, b in zip(agents, trues, strict=True)]
    print(f"\nAn agent adds {spread(over_true)} ms to `true`.")
    for column, name in ((0, "wall"), (1, "CPU")):
        ratios = [b[column] / a[column] for a, b in zip(agents, resolvers, strict=True)]
        print(f"SlurmClusterResolver's process takes {spread(ratios)} times an agent's {name} time.")


# --- many agents ---


def as_agents(count, part, result):
    """Run `count` agents as threads, each of which is a connection without a program; started in place of srun."""
    assigned, errors = [], []

    def one(rank):
        try:
            host, _, port = os.environ["SLURM_TF_COORDINATOR"].rpartition(":")
            deadline = time.monotonic() + 280
            secret = bytes.fromhex(os.environ["SLURM_TF_SECRET"])
            client = connections.connect([(host, int(port))], secret, count, deadline)
            client.send(Hello())
            client.next(deadline)
            reserved = ports.reserve(None, deadline)
            report = Report(rank, f"n{rank // 8}", client.sock.getsockname()[0], ports.port_of(reserved))
            client.send(report)
            assignment, shared = client.next(deadline), client.next(deadline)
            assigned.append(time.monotonic())
            assert shared.hosts["worker"][assignment.index].endswith(f":{report.port}")
            while not isinstance(client.next(deadline), Start):
                pass
            client.send(Started(rank))
            client.send(Ended(0))
            while not isinstance(client.next(deadline), Leave):
                pass
        except (SlurmTfError, OSError) as error:
            errors.append(repr(error))

    threading.stack_size(256 << 10)
    connections.raise_file_limit()
    first, last = part
    start = time.monotonic()
    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(first, last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Path(f"{result}-{first}").write_text(json.dumps([start, max(assigned, default=0), len(assigned), errors[:3]]))


def as_many(count, result):
    """Start processes of 500 agents each."""
    size = 500
    parts = [(first, min(first + size, count)) for first in range(0, count, size)]
    processes = [
        subprocess.Popen([sys.executable, __file__, "--as-agents", str(count), str(low), str(high), result])
        for low, high in parts
    ]
    for process in processes:
        process.wait()


def many_agents(folder, counts):
    print("| agents | until all have their assignment, s | coordinator's CPU, s | its peak memory, MiB |")
    print("|---|---|---|---|")
    for count in counts:
        plan = settings((RoleSettings("worker", count),))
        run = run_folder(folder, plan)
        result = str(folder / f"many-{count}")
        step = [sys.executable, __file__, "--as-many", str(count), result]
        command = [sys.executable, run.submission(1).launcher, "coordinate", run.submission(1).path, "--", *step]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        peak = 0
        cpu = 0.0
        while True:
            done, status, _ = os.wait4(process.pid, os.WNOHANG)
            if done:
                process.returncode = os.waitstatus_to_exitcode(status)
                break
            text = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(text.partition("VmHWM:")[2].split()[0]))
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            time.sleep(0.05)
        assert process.returncode == 0, process.returncode
        parts = [json.loads(path.read_text()) for path in folder.glob(f"many-{count}-*")]
        assert sum(part[2] for part in parts) == count, parts
        seconds = max(part[1] for part in parts) - min(part[0] for part in parts)
        print(f"| {count} | {seconds:.2f} | {cpu:.2f} | {peak / 1024:.0f} |")


# --- the largest cluster ---


def fits(host, count):
    reports = [
        Report(rank, "n", host.format(a=rank // 250, b=rank % 250, n=rank), 32768 + rank % 20000)
        for rank in range(count)
    ]
    formed = cluster.form(reports, (RoleSettings("worker", count),))
    try:
        formed.check_size()
    except TopologyError:
        return None
    return cluster.tf_config(formed.hosts, "worker", count - 1)


def largest(host):
    """Return the largest number of tasks whose TF_CONFIG fits, and whether Linux starts a process with more."""
    low, high = 1, 20000
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(host, middle) else (low, middle - 1)
    text = fits(host, low)
    subprocess.run(["true"], env={"TF_CONFIG": text}, check=True)
    try:
        subprocess.run(["true"], env={"TF_CONFIG": text + "x" * 60}, check=True)
    except OSError:
        return low, "starts with it, not with 60 bytes more"
    return low, "starts with more as well"


def largest_cluster():
    print("| addresses | most tasks | Linux |\n|---|---|---|")
    for name, host in (
        ("IPv4, as slurm-tf gives them", "10.77.{a}.{b}"),
        ("long host names", "node{n:05}.cluster.example.org"),
    ):
        count, agrees = largest(host)
        print(f"| {name} | {count} | {agrees} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--as-step", help=argparse.SUPPRESS)
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--as-many", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--as-agents", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_step:
        as_step(options.as_step, options.trace)
    elif options.as_many:
        as_many(int(options.as_many[0]), options.as_many[1])
    elif options.as_agents:
        count, low, high, result = options.as_agents
        as_agents(int(count), (int(low), int(high)), result)
    else:
        load = os.getloadavg()[0]
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the start.\n")
        with tempfile.TemporaryDirectory() as folder:
            one_agent(Path(folder), options.pairs)
            print()
            many_agents(Path(folder), (8, 200, options.agents))
        print()
        largest_cluster()


if __name__ == "__main__":
    main()
