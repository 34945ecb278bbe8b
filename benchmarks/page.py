"""Measures the page: its start, its memory, a list of a thousand runs, and twenty browsers that follow curves.

    python benchmarks/page.py [--runs 1000] [--browsers 20] [--seconds 30] [--rounds 5]

Prints a Markdown table: medians, least and most of the rounds. The runs are over, as most of a thousand are, and
Slurm's commands are stand-ins that answer in some milliseconds: what is measured is the page. Nothing trains: a thread
adds a line a second to each of the twenty files. The package is compiled before, as pip does it.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slurm_tf.run import attempts, job_chain, manifest, status
from slurm_tf.run.attempts import Attempt
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import Manifest
from slurm_tf.run.status import AttemptState, RunStatus, TaskState, TaskStatus

ROOT = Path(__file__).resolve().parent.parent
SQUEUE = "#!/bin/sh\nexit 0\n"
# of each job that is asked for: completed, long ago; a `python3` of the PATH may be a script that takes long
PYTHON = f"#!{sys.executable} -IS"
SACCT = r"""
import sys
if "--helpformat" in sys.argv:
    sys.exit(0)
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
known = {"State": "COMPLETED", "ExitCode": "0:0", "User": "ann", "Submit": "2026-03-14T09:00:00",
         "Start": "2026-03-14T09:00:00", "End": "2026-03-14T10:00:00", "Restarts": "0", "NodeList": "n1"}
for job in words["jobs"].split(","):
    print("".join((job if name in ("JobID", "JobIDRaw") else known.get(name, "")) + words["delimiter"]
                  for name in words["format"].split(",")))
"""


def make_runs(folder, count):
    """Make runs that are over, and return them."""
    runs = []
    for number in range(1, count + 1):
        run, job = RunFolder(str(folder / "runs" / f"flowers-{number}")), str(1000 + number)
        for path in (run.path, run.submission(1).path, *run.folders):
            os.makedirs(path, mode=0o700)
        about = Manifest(run.name, "", "job.toml", {"name": "flowers"}, "generic", None, None, "", {})
        for path in (run.manifest, run.submission(1).manifest):
            manifest.write(path, about)
        job_chain.add(run, job, "", (), False, submission=1)
        tasks = {f"worker:{n}": TaskStatus(TaskState.ENDED, f"n{n}", 0, 0) for n in range(4)}
        status.write(run, RunStatus(run.name, job, 0, "n1", 0.0, AttemptState.ENDED, 0, 0, "", tasks=tasks))
        attempts.write(run, [Attempt(f"{job}.0", job, 0.0, 3600.0, code=0)])
        runs.append(run)
    return runs


def stand_ins(folder):
    """Write commands in the place of Slurm's; return the folder that has them."""
    for name, text in {"squeue": SQUEUE, "sacct": PYTHON + SACCT, "scontrol": SQUEUE, "sinfo": SQUEUE}.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder / "bin"


class Page:
    """A page that runs, and its browser."""

    def __init__(self, folder):
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        environ |= {f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CONFIG")}
        environ["SLURM_TF_SITE"] = "generic"
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, each start would compile the package anew
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slurm_tf", "page", "--json"], cwd=folder, env=environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = json.loads(self.process.stdout.readline())
        self.port, link = said["port"], urlsplit(said["link"])
        self.prefix = "/" + link.path.split("/")[1]
        headers, _ = self.get(f"{link.path}?{link.query}", {}, "")
        self.start, self.start_cpu = time.perf_counter() - begun, self.cpu
        self.cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}

    def get(self, path, headers, prefix=None):
        """Return the headers and the body of an answer."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        connection.request("GET", (self.prefix if prefix is None else prefix) + path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        body = answer.read()
        connection.close()
        return answer.headers, body

    def timed(self, path):
        begun = time.perf_counter()
        self.get(path, self.cookie)
        return time.perf_counter() - begun

    @property
    def memory(self):
        """Peak memory in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / 1024

    @property
    def cpu(self):
        """Seconds of CPU of the process, without those it has started."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(folder):
    page = Page(folder)
    try:
        yield page
    finally:
        page.process.terminate()
        page.process.wait(30)


def follow(page, address, seconds, lags):
    """Follow a run as a browser does; add how many seconds each report was behind its line."""
    connection = http.client.HTTPConnection("localhost", page.port, timeout=60)
    connection.request("GET", f"{page.prefix}{address}/events", headers=page.cookie)
    answer = connection.getresponse()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        line = answer.readline()
        if line.startswith(b"data: ") and b'"rows"' in line:
            now = time.time()
            lags += [now - row[1]["at"] for row in json.loads(line[6:])["rows"] if "at" in row[1]]
    connection.close()


def live(page, runs, seconds):
    """Return the share of a core that browsers take which follow runs, and how far behind the files they are."""
    _, body = page.get("/?show=", page.cookie)
    text, lags, over = body.decode(), [], threading.Event()
    found = [part.partition('"')[0] for part in text.split(f'href="{page.prefix}') if part.startswith("/runs/")]
    names = {run.name for run in runs}
    addresses = [each for each in found if each.rpartition("/")[2] in names]
    assert len(addresses) == len(runs), (len(addresses), len(runs))

    def report():
        step = 0
        while not over.wait(1.0):
            step += 10
            for run in runs:
                now = time.time()
                values = {"loss": 1 / step, "accuracy": 0.5, "val_loss": 1 / step, "at": now}
                with open(run.progress, "a") as file:
                    file.write(json.dumps({"step": step, "at": now, "attempt": "1.0/0", "values": values}) + "\n")

    threads = [threading.Thread(target=follow, args=(page, each, seconds, lags)) for each in addresses]
    writer = threading.Thread(target=report)
    for each in (writer, *threads):
        each.start()
    time.sleep(3)
    before, begun = page.cpu, time.monotonic()
    time.sleep(seconds - 6)
    share = (page.cpu - before) / (time.monotonic() - begun)
    for each in threads:
        each.join()
    over.set()
    writer.join()
    return share, lags


def measure(folder):
    """Return the seconds that each thing takes once."""
    with started(folder) as page:
        found = {"start, until it answers a first request": page.start, "CPU of that": page.start_cpu}
        found["{} runs listed at once: views are imported, runs and accounting are read"] = page.timed("/")
        found["CPU of that, of the page"] = page.cpu - page.start_cpu
        found["listed again"] = min(page.timed("/") for _ in range(5))
    with started(folder) as page:
        time.sleep(1)  # the user opens the link
        found["{} runs listed for the first time, a second after the start"] = page.timed("/")
    return found


def spread(seconds):
    """Return the median of seconds, the least and the most, in words."""
    return f"{statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--browsers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stand_ins(folder)
        runs = make_runs(folder, options.runs)
        with started(folder) as page:  # compiles what is not compiled
            page.timed("/")
        rounds = [measure(folder) for _ in range(options.rounds)]
        living = runs[-options.browsers :]
        for run in living:  # they train: the job is one that Slurm does not know, so each look asks for it
            status.write(run, RunStatus(run.name, "1", 0, "n1", time.time(), AttemptState.RUNNING))
            job_chain.add(run, "9" + run.name.rpartition("-")[2], "", (), False, submission=1)
        (folder / "bin" / "sacct").write_text(
            PYTHON + SACCT.replace('"COMPLETED"', '"RUNNING"').replace("2026-03-14T10:00:00", "")
        )
        with started(folder) as page:
            page.timed("/")
            share, lags = live(page, living, options.seconds)
            memory = page.memory
    rows = [(words.format(options.runs), spread([each[words] for each in rounds])) for words in rounds[0]] + [
        (f"CPU, {options.browsers} browsers with live curves", f"{share:.1%} of a core"),
        ("a curve behind its file, median", f"{statistics.median(lags):.2f} s"),
        ("the same, worst", f"{max(lags):.2f} s"),
        ("peak memory", f"{memory:.0f} MiB"),
    ]
    print("| the page | |\n|---|---|")
    for words, value in rows:
        print(f"| {words} | {value} |")


if __name__ == "__main__":
    main()
