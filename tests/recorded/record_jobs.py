"""Record what the command-line client runs, and what a live Slurm prints.

Run as root on the login node of a cluster with the users alice and bob, slurmdbd, two nodes and one to spare,
from the checkout, with a folder that every node shares:

    PYTHONPATH=. python3 tests/recorded/record_jobs.py SHARED_FOLDER NODE OUTPUT.json

NODE is set down once while a job runs on it. OUTPUT holds the job ids, each command with its output, exit code and
error text, and the same commands' words where no daemon listens. Jobs are cancelled at the end.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client
from slurm_tf.slurm.client import CommandLineClient
from slurm_tf.slurm.job_states import JobState

HOSTILE = "a\nb|c\"d'e\x1f99\x1f\n7"
SLEEP = "sleep 300"
# by name: user, lines of the script, options of sbatch
JOBS: dict[str, tuple[str, str, Sequence[str]]] = {
    "timeout": ("alice", SLEEP, ["--time=1"]),
    "array": ("alice", SLEEP, ["--array=0-40:2%2"]),
    "het": ("alice", f"#SBATCH --mem=20\n#SBATCH hetjob\n#SBATCH --mem=20\n{SLEEP}", []),
    "completed": ("alice", "true", []),
    "failed": ("alice", "exit 3", []),
    "failed-130": ("alice", "exit 130", []),
    "killed": ("alice", "kill -9 $$", []),
    "out-of-memory": ("alice", "tail -c 500M /dev/zero | tail > /dev/null", ["--mem=50"]),
    "held": ("alice", SLEEP, ["--hold"]),
    "later": ("alice", SLEEP, ["--begin=now+1hour"]),
    "requeued": ("alice", SLEEP, []),
    "running": ("alice", SLEEP, ["--nodes=2"]),
    "cancelled": ("alice", SLEEP, ["--hold"]),
    "node-fail": ("alice", SLEEP, ["--no-requeue"]),
    "node-fail-requeued": ("alice", SLEEP, []),
    "hostile": ("bob", SLEEP, [f"--job-name={HOSTILE}", f"--comment={HOSTILE}"]),
}


class Recorder:
    """Runs commands as subprocess.run does, and keeps what they said."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self._run = subprocess.run

    def __call__(self, argv: list[str], **more: Any) -> "subprocess.CompletedProcess[str]":
        done = self._run(argv, **more)
        self.commands.append({"argv": argv, "stdout": done.stdout, "stderr": done.stderr, "exit_code": done.returncode})
        return done

    def record(self, ask: Callable[[], object]) -> list[dict[str, Any]]:
        """Return the commands that `ask` runs."""
        self.commands = []
        client.subprocess.run = self  # type: ignore[attr-defined]
        try:
            ask()
        except SlurmError as error:
            print(error)
        finally:
            client.subprocess.run = self._run  # type: ignore[attr-defined]
        return self.commands


def command(*argv: str, user: str = "root") -> str:
    switch = [] if user == "root" else ["setpriv", f"--reuid={user}", "--regid=research", "--clear-groups"]
    done = subprocess.run([*switch, *argv], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def submit(shared: Path, node: str, name: str) -> str:
    user, lines, options = JOBS[name]
    script = shared / f"{name}.sh"
    script.write_text(f"#!/bin/bash\n{lines}\n")
    script.chmod(0o755)
    where = [f"--nodelist={node}" if name.startswith("node-fail") else f"--exclude={node}"]
    mem = [] if any(option.startswith("--mem") for option in options) else ["--mem=20"]
    return command("sbatch", "--parsable", "--output=/dev/null", *mem, *options, *where, str(script), user=user)


def wait(what: str, is_true: Callable[[], bool], seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.5)


def arrange(shared: Path, node: str, jobs: dict[str, str]) -> None:
    """Submit all jobs and bring each to where its name says."""
    real = CommandLineClient()

    def is_in(state: JobState, *ids: str) -> bool:
        found = real.jobs(ids)
        return len(found) >= len(ids) and all(record.state is state for record in found)

    for name in JOBS:
        jobs[name] = submit(shared, node, name)
        print(name, jobs[name])
    array = jobs["array"]
    running = [jobs[name] for name in ("requeued", "running", "node-fail", "node-fail-requeued", "hostile", "het")]
    wait("jobs run", lambda: is_in(JobState.RUNNING, *running, f"{array}_0", f"{array}_2"))
    command("scontrol", "requeue", jobs["requeued"], user="alice")
    command("scancel", jobs["cancelled"], f"{array}_0", user="alice")
    wait("a task is cancelled", lambda: is_in(JobState.CANCELLED, f"{array}_0"))
    wait("a job timed out", lambda: is_in(JobState.TIMEOUT, jobs["timeout"]))
    command("scontrol", "update", f"nodename={node}", "state=down", "reason=recording")
    wait("a job lost its node", lambda: is_in(JobState.NODE_FAIL, jobs["node-fail"]))
    command("scontrol", "update", f"nodename={node}", "state=drain", "reason=recording")
    wait("jobs are queued again", lambda: is_in(JobState.PENDING, jobs["requeued"], jobs["node-fail-requeued"]))


def unreachable(shared: Path) -> str:
    """Return the path of a slurm.conf by which no daemon is where it should be."""
    conf = shared / "nobody-listens.conf"
    conf.write_text(Path("/etc/slurm/slurm.conf").read_text() + "\nSlurmctldPort=1\nAccountingStoragePort=2\n")
    return str(conf)


def main() -> None:
    shared, node, output = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    jobs: dict[str, str] = {}
    recorder = Recorder()
    try:
        arrange(shared, node, jobs)
        asked = CommandLineClient()
        array, het = jobs["array"], jobs["het"]
        recorded = recorder.record(lambda: asked.jobs(list(jobs.values())))
        recorded += recorder.record(lambda: asked.history(list(jobs.values())))
        recorded += recorder.record(lambda: (asked.nodes(), asked.partitions()))
        for ids in ([f"{array}_2"], [f"{array}_8"], [f"{het}+1"], ["999999"]):
            recorded += recorder.record(lambda ids=ids: asked.jobs(ids))  # type: ignore[misc]
            recorded += recorder.record(lambda ids=ids: asked.history(ids))  # type: ignore[misc]
        for verb in (asked.cancel, asked.requeue):
            recorded += recorder.record(lambda verb=verb: verb(["999999"]))  # type: ignore[misc]
        recorded += recorder.record(client.version)
        os.environ["SLURM_CONF"] = unreachable(shared)
        lost = recorder.record(lambda: asked.jobs([array]))
        lost += recorder.record(lambda: asked.history([array]))
        for verb in (asked.cancel, asked.requeue):
            lost += recorder.record(lambda verb=verb: verb([array]))  # type: ignore[misc]
        lost += recorder.record(asked.nodes)
        del os.environ["SLURM_CONF"]
        table = {"slurm": client.version(), "zone": time.tzname[0], "jobs": jobs, "commands": recorded, "lost": lost}
        output.write_text(json.dumps(table, indent=1) + "\n")
    finally:
        command("scontrol", "update", f"nodename={node}", "state=undrain")
        if jobs:
            command("scancel", *jobs.values())


if __name__ == "__main__":
    main()
