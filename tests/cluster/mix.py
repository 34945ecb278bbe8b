"""A mix of jobs that end in every way that Slurm has, on a sandbox of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

# four nodes of eight CPUs and four GPUs: node3 is for the preemption, node4 is set down once
SHAPE = Shape(nodes=4)
ELSEWHERE = "--exclude=node3,node4"
HOSTILE = "\na|b\x1fc\n12|COMPLETED"
SLEEP = "sleep 300"
DATABASE = ("mariadb", "--no-defaults", "--socket=/run/mysqld/mysqld.sock", "--user=root", "-N", "-B", "slurm_acct_db")


@dataclass
class Mix:
    """Jobs by name; each is submitted, brought to where its name says, and over at the end."""

    sandbox: Sandbox
    jobs: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def arrange(self) -> None:
        """Let all jobs run and end. The one that is suspended is over before the one begins that reaches its limit."""
        self._suspend()
        self.submit("timeout", "alice", SLEEP, "--time=1", "--cpus-per-task=3", "--gpus=a100:2", ELSEWHERE)
        self._quick()
        self._change()
        self._preempt()
        self._lose_a_node()
        self._finish()

    def submit(self, name: str, user: str, lines: str, *options: str) -> str:
        """Submit a script of these lines; return the job's id."""
        script = self.sandbox.shared / f"{name}.sh"
        script.write_text(f"#!/bin/bash\n{lines}\n")
        script.chmod(0o755)
        mem = () if any(option.startswith("--mem") for option in options) else ("--mem=20",)
        argv = ("sbatch", "--parsable", "--output=/dev/null", *mem, *options, str(script))
        self.jobs[name] = self.sandbox.run(*argv, user=user).stdout.strip()
        self.owners[name] = user
        return self.jobs[name]

    def sql(self, text: str) -> list[list[str]]:
        """Return the rows of a query on slurmdbd's own database."""
        out = self.sandbox.run(*DATABASE, "-e", text, user="root").stdout
        return [line.split("\t") for line in out.splitlines()]

    def wait(self, is_true: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not is_true():
            assert time.monotonic() < end, f"{what}: {self.states()}"
            time.sleep(0.3)

    def states(self) -> dict[str, list[str]]:
        """Return the states of each job's incarnations, in slurmdbd's order."""
        argv = ("sacct", "--allusers", "--duplicates", "--allocations", "--noheader", "--parsable2")
        rows = self.sandbox.run(*argv, "--format=JobID,State", user="root").stdout.splitlines()
        names = {job: name for name, job in self.jobs.items()}
        found: dict[str, list[str]] = {name: [] for name in self.jobs}
        for job, state in (row.split("|") for row in rows):
            found[names[job.partition("_")[0].partition("+")[0]]].append(state.partition(" ")[0])
        return found

    def _in(self, state: str, *names: str) -> None:
        self.wait(lambda: all(self.states()[name][-1:] == [state] for name in names), f"{names} are {state}")

    def _root(self, *argv: str) -> None:
        self.sandbox.run(*argv, user="root")

    def _suspend(self) -> None:
        job = self.submit("suspended", "bob", "sleep 6", "--cpus-per-task=2", "--gpus=1", ELSEWHERE)
        self._in("RUNNING", "suspended")
        self._root("scontrol", "suspend", job)
        self._in("SUSPENDED", "suspended")
        time.sleep(3)  # it is this that is measured
        self._root("scontrol", "resume", job)
        self._in("COMPLETED", "suspended")

    def _quick(self) -> None:
        self.submit("completed", "bob", "srun sleep 2", "--ntasks=2", "--gpus=a100:2", ELSEWHERE)
        self.submit("failed", "alice", "sleep 1; exit 3", f"--job-name={HOSTILE}", f"--comment={HOSTILE}", ELSEWHERE)
        self.submit("array", "bob", "sleep 2", "--array=0-4%2", "--gpus=1", ELSEWHERE)
        het = "#SBATCH --mem=20 --gpus=1\n#SBATCH hetjob\n#SBATCH --mem=20 --cpus-per-task=3\nsleep 4"
        self.submit("het", "carol", het, "--account=nlp", ELSEWHERE)
        self.submit("out-of-memory", "carol", "tail -c 500M /dev/zero | tail > /dev/null", "--mem=50", ELSEWHERE)
        self.submit("cancelled", "alice", SLEEP, "--gpus=1", ELSEWHERE)
        self.submit("cancelled-by-root", "carol", SLEEP, ELSEWHERE)
        self.submit("never-ran", "alice", SLEEP, "--hold")

    def _change(self) -> None:
        self._in("RUNNING", "cancelled", "cancelled-by-root")
        self.sandbox.run("scancel", self.jobs["cancelled"], self.jobs["never-ran"], user="alice")
        self._root("scancel", self.jobs["cancelled-by-root"])
        job = self.submit("requeued", "alice", SLEEP, "--gpus=1", ELSEWHERE)
        self._in("RUNNING", "requeued")
        self._root("scontrol", "requeue", job)
        self._again("requeued")
        job = self.submit("shrunk", "carol", SLEEP, "--nodes=2", ELSEWHERE)
        self._in("RUNNING", "shrunk")
        time.sleep(1)  # for a record of its own
        self.sandbox.run("scontrol", "update", f"jobid={job}", "numnodes=1", user="carol")

    def _preempt(self) -> None:
        whole = ("--nodelist=node3", "--ntasks=8", "--gpus=4")
        self.submit("preempted", "alice", SLEEP, "--qos=scavenge", *whole)
        self._in("RUNNING", "preempted")
        self.submit("urgent", "bob", "sleep 2", "--qos=urgent", *whole)
        self._in("COMPLETED", "urgent")
        self._again("preempted")

    def _lose_a_node(self) -> None:
        self.submit("node-fail", "bob", SLEEP, "--no-requeue", "--nodelist=node4", "--gpus=1")
        self.submit("node-fail-requeued", "carol", SLEEP, "--account=vision", "--nodelist=node4", "--gpus=1")
        self._in("RUNNING", "node-fail", "node-fail-requeued")
        self._root("scontrol", "update", "nodename=node4", "state=down", "reason=test")
        self._in("NODE_FAIL", "node-fail")
        self._root("scontrol", "update", "nodename=node4", "state=idle")
        self._again("node-fail-requeued")

    def _again(self, name: str) -> None:
        """Let a job that was requeued start soon: Slurm waits for two minutes (22.05).

        Not in the same second: slurmd then takes it for the one that it has just killed, and the job fails.
        """
        job = self.jobs[name]
        # sacct does not tell of what waits for a time to come
        queue = ("squeue", "--noheader", f"--jobs={job}", "--format=%T")
        self.wait(lambda: self.sandbox.run(*queue).stdout.strip() == "PENDING", f"{name} waits")
        self.sandbox.run("scontrol", "update", f"jobid={job}", "starttime=now+3", user=self.owners[name])
        self.wait(lambda: self.states()[name][1:] == ["RUNNING"], f"{name} runs again")

    def _finish(self) -> None:
        """End what was put back into the queue, or made smaller, and wait for the rest."""
        for name in ("requeued", "shrunk", "preempted", "node-fail-requeued"):
            self.sandbox.run("scancel", self.jobs[name], user=self.owners[name])
        self._in("TIMEOUT", "timeout")
        self.wait(lambda: not self._unfinished(), "all is in the database")

    def _unfinished(self) -> Sequence[Sequence[str]]:
        return self.sql("select id_job from sandbox_job_table where time_end = 0")


def move(mix: Mix, seconds: int) -> None:
    """Put the cluster and all that ran on it so many seconds back."""
    columns = {
        "job": ("time_submit", "time_eligible", "time_start", "time_end"),
        "step": ("time_start", "time_end"),
        "suspend": ("time_start", "time_end"),
        "event": ("time_start", "time_end"),
        "last_ran": ("hourly_rollup", "daily_rollup", "monthly_rollup"),
    }
    for table, names in columns.items():
        each = ", ".join(f"{name} = if({name} > {seconds}, {name} - {seconds}, {name})" for name in names)
        mix.sql(f"update sandbox_{table}_table set {each}")  # noqa: S608


def iso(seconds: int) -> str:
    """Return a time in UTC as Slurm's commands take it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
