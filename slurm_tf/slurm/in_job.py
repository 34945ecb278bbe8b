"""Slurm's commands as the job itself runs them: to ask for a job's status, requeue it, or submit one that follows.

Commands run beside the coordinator's loop (`Question`), by absolute path, bounded in time.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from slurm_tf import units
from slurm_tf.errors import HostlistError, UnitError
from slurm_tf.slurm import hostlist, sbatch_variables

# Year and month of a release.
Version = Tuple[int, int]

_SECONDS = 15.0
# Stay: they say which Slurm. All else of an enclosing job would be taken for the new one's.
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_ENCLOSING = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND", "PMI_", "PMI", "PMIX_", "OMPI_",
              "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK",
              "TF_CONFIG")  # fmt: skip
# Of a login shell these travel all the same: what sbatch itself obeys (sbatch(1), 22.05), how srun binds, traces and
# starts the tasks of a step, and how MPI is tuned. With the others, which ask for resources, srun would refuse the step
# or start another one than the job is for. SLURM_HINT is in the script, from which sbatch sets it again.
_OF_LOGIN_SHELL = (
    "SLURM_ACCTG_FREQ", "SLURM_CPU_BIND", "SLURM_CPU_FREQ_REQ", "SLURM_DEBUG", "SLURM_DEBUG_FLAGS", "SLURM_EXIT_ERROR",
    "SLURM_GPU_BIND", "SLURM_GPU_FREQ", "SLURM_MEM_BIND", "SLURM_MPI_TYPE", "SLURM_NETWORK",
    "SLURM_PROFILE", "SLURM_STEP_KILLED_MSG_NODE_ID", "SLURM_TASK_EPILOG", "SLURM_TASK_PROLOG", "SLURM_TIME_FORMAT",
    "SLURM_UMASK",
)  # fmt: skip
_TUNING = ("OMPI_MCA_", "PMIX_MCA_")
# What a user configures slurm-tf with; other variables with this prefix are what a run tells its program.
_OWN = ("SLURM_TF_SITE", "SLURM_TF_RUNS", "SLURM_TF_PATH", "SLURM_TF_CLIENT", "SLURM_TF_DEBUG")
# Options of commands other than sbatch.
_OPTIONS = ("SQUEUE_", "SINFO_", "SBATCH_")
# Of squeue's fields these tell a preemption from a cancel: a job that is cancelled, requeued or preempted is COMPLETING
# in all three cases, and only one that is preempted has a PreemptTime (22.05.8).
_FIELDS = ("State", "PreemptTime", "EndTime", "StartTime", "TimeLimit", "RestartCnt", "exit_code")
_UNKNOWN_JOB = "Invalid job id specified"
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
_ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip
# Of sinfo's states (sinfo(1) and node_state_string() of 22.05 to 25.11): nodes on which Slurm starts nothing until they
# are repaired, or back. INVAL, of a node that registered with less than slurm.conf says, hides others, also DRAINED.
# Fit are those that are held for others, or for a reservation that may be the job's own (planned, reserved, maint,
# perfctrs, blocked); those that Slurm powers up for a job (~ # ! %); and unknown: slurmctld has only just started.
_UNFIT = (
    "down", "drained", "draining", "error", "fail", "failing", "future", "inval", "invalid_reg", "no_respond",
    "not_responding", "reboot", "reboot_issued", "reboot_requested",
)  # fmt: skip
# What sinfo appends to a state, and what it means.
_UNFIT_FLAGS = {"*": "not responding", "^": "rebooting"}
# How many characters of an administrator's reason are kept.
_WHY = 200


@dataclass(frozen=True)
class Answer:
    """What a command said. `code`: its exit code, None if it did not end in time or could not be started."""

    code: Optional[int]
    output: str
    errors: str

    @property
    def failure(self) -> str:
        """Why it failed, in its own words."""
        last = (self.errors.strip() or self.output.strip()).splitlines()[-1:]
        return "no answer in time" if self.code is None and not last else (last or [f"exit code {self.code}"])[0]


class Question:
    """A command of Slurm that runs beside the caller's loop."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], seconds: float = _SECONDS) -> None:
        """Start the command with what belongs to it of `environ`."""
        self._until = time.monotonic() + seconds
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._answer: Optional[Answer] = None
        try:
            self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - `_close`
        except OSError as error:  # no descriptor, or no room, is left
            self._answer = Answer(None, "", f"cannot start {argv[0]}: {error.strerror}")
            return
        program = shutil.which(argv[0], path=environ.get("PATH", os.defpath))
        if program is None:
            self._close(None, f"no {argv[0]} in PATH on {os.uname().nodename}")
            return
        try:
            self._process = subprocess.Popen(
                [program, *argv[1:]], env=_environ(argv[0], environ), stdin=subprocess.DEVNULL, stdout=self._output,
                stderr=self._errors, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._close(None, f"cannot start {program}: {error.strerror}")

    def answer(self) -> Optional[Answer]:
        """Return what it said, None while it runs; it is ended when its time is over."""
        if self._answer is None and self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._close(code)
            elif time.monotonic() >= self._until:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                self._close(None)
        return self._answer

    def wait(self) -> Answer:
        """Return what it said, when it has."""
        while True:
            answer = self.answer()
            if answer is not None:
                return answer
            time.sleep(0.02)

    def _close(self, code: Optional[int], problem: str = "") -> None:
        texts = []
        for file in (self._output, self._errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
            file.close()
        self._answer = Answer(code, texts[0], problem or texts[1])


def ask(command: Sequence[str], environ: Mapping[str, str]) -> Answer:
    """Return what Slurm says to a command. A signal that Slurm sends to all of the job ends such commands as well."""
    answer = Question(command, environ).wait()
    if answer.code is not None and answer.code < 0:
        answer = Question(command, environ).wait()
    return answer


def has_commands(environ: Mapping[str, str]) -> bool:
    """Return whether Slurm's commands are in PATH; they are not in most containers."""
    path = environ.get("PATH", os.defpath)
    return all(shutil.which(command, path=path) for command in ("squeue", "scontrol"))


def srun_version(environ: Mapping[str, str]) -> Optional[Version]:
    """Return the version of Slurm's srun, such as (22, 5); None if it does not say."""
    match = re.search(r"(\d+)\.(\d+)", ask(["srun", "--version"], environ).output)
    return (int(match[1]), int(match[2])) if match else None


def environ_for_srun(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment for a job of srun's own: the user's, without what an enclosing job or run left in it."""
    inside = "SLURM_JOB_ID" in environ
    return {
        name: value
        for name, value in environ.items()
        if name in (*_KEPT, *_OWN, *sbatch_variables.FOR_SBATCH)
        or not (_is_ours(name) or (inside and name.startswith(_ENCLOSING)))
    }


def environ_for_sbatch(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment to submit from: also without what only means something inside a job.

    sbatch passes its environment to the job, where srun would take a login shell's SLURM_GRES for an option. Without
    what is in the script, where the command line outranks it: sbatch would prefer SLURM_CLUSTERS.
    """
    kept = [name for name in _KEPT if name not in sbatch_variables.OPTIONS]
    return {
        name: value
        for name, value in environ_for_srun(environ).items()
        if name in (*kept, *_OWN, *sbatch_variables.FOR_SBATCH, *_OF_LOGIN_SHELL)
        or name.startswith(_TUNING)
        or not name.startswith(_ENCLOSING)
    }


def _is_ours(name: str) -> bool:
    """Whether a variable is an option of sbatch, which is in the script, or what a run tells its program."""
    return (name.startswith("SBATCH_") and name in sbatch_variables.OPTIONS) or name.startswith("SLURM_TF_")


def _environ(command: str, environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment for a command; to one that asks, times are seconds of the epoch, in no other format."""
    if command == "sbatch":
        return environ_for_sbatch(environ)
    kept = {name: value for name, value in environ.items() if not name.startswith(_OPTIONS)}
    return {**kept, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"}


def own_id(environ: Mapping[str, str]) -> str:
    """Return the job's id as Slurm's commands take it: of an array, that of this task; "" outside of a job."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    return environ.get("SLURM_HET_JOB_ID") or environ.get("SLURM_JOB_ID", "")


@dataclass(frozen=True)
class JobStatus:
    """What squeue says of a job. `state`: "" if it did not say; "gone" if slurmctld knows no such job.

    `preempted`: Slurm has decided to preempt it. `ends`: when its time is over, by its limit or by
    the grace time of its preemption, seconds of the epoch. `restarts`: how often it was put back into the queue.
    `killed`: a signal has ended its batch script.
    """

    state: str
    preempted: bool = False
    ends: Optional[float] = None
    problem: str = ""
    restarts: int = 0
    killed: bool = False

    @property
    def is_known(self) -> bool:
        """Whether Slurm answered."""
        return bool(self.state)

    @property
    def lives(self) -> bool:
        """Whether tasks of the job may run; true for a state that is not known here."""
        return self.state not in (*_WAITING, *_ENDED, "gone")


def job_status_command(job: str) -> List[str]:
    """Return the command that asks for the status of a job."""
    return [
        "squeue",
        "--noheader",
        f"--jobs={job}",
        "--states=all",
        "--Format=" + ",".join(f"{name}:30" for name in _FIELDS),
    ]


def job_status(answer: Answer) -> JobStatus:
    """Return what squeue's answer says; of a heterogeneous job, of all its components together."""
    if answer.code != 0:
        return JobStatus("gone") if _UNKNOWN_JOB in answer.errors else JobStatus("", problem=answer.failure)
    rows = [line.split() for line in answer.output.splitlines() if len(line.split()) == len(_FIELDS)]
    if not rows:
        return JobStatus("gone")
    states = [row[0] for row in rows]
    ends = [end for end in map(_ends, rows) if end is not None]
    living = [state for state in states if JobStatus(state).lives]
    return JobStatus(
        (living or states)[0],
        any(_number(row[1]) for row in rows),
        min(ends, default=None),
        restarts=max(int(_number(row[5]) or 0) for row in rows),
        killed=any(int(_number(row[6]) or 0) & 0x7F for row in rows),
    )


def _ends(row: Sequence[str]) -> Optional[float]:
    """Return when a job's time is over. Once it is being ended, for any reason, its EndTime is that moment."""
    state, _, end, start, limit, *_ = row
    if state != "COMPLETING":
        return _number(end)
    begun = _number(start)
    try:
        length = units.parse_time(limit)
    except UnitError:
        return None
    return None if begun is None or length is None else begun + length.total_seconds()


def _number(text: str) -> Optional[float]:
    return float(text) if re.fullmatch(r"\d+", text) else None


def requeue_command(job: str, over: bool) -> List[str]:
    """Return the command that requeues a job. Its owner may run it, unless the job was submitted with --no-requeue.

    `over`: the job has ended. A job that has not is requeued only if it has not been cancelled in the meantime:
    slurmctld (22.05.8) would also requeue a cancelled job, and start it again. If it was cancelled, scontrol prints
    nothing and exits with 0.
    """
    return ["scontrol", "requeue", *([] if over else ["incomplete"]), job]


def cancel_command(job: str) -> List[str]:
    """Return the command that cancels a job."""
    return ["scancel", "--", job]


def delay_command(job: str, seconds: float) -> List[str]:
    """Return what has a job that waits start no sooner than in `seconds`; its owner may."""
    return ["scontrol", "update", f"JobId={job}", f"StartTime=now+{seconds:.0f}"]


def exclusion_command(job: str, nodes: Sequence[str]) -> List[str]:
    """Return what has a job that waits start on none of `nodes`; its owner may."""
    return ["scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(nodes)}"]


def excluded_command(job: str) -> List[str]:
    """Return what asks for the nodes that a job is not to start on."""
    return ["squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%x"]


def excluded(answer: Answer) -> Optional[List[str]]:
    """Return those nodes, of a heterogeneous job of all its components; None if squeue did not say."""
    if answer.code != 0 or not answer.output:
        return None
    try:
        names = [name for line in answer.output.splitlines() for name in hostlist.expand(line)]
    except HostlistError:
        return None
    return list(dict.fromkeys(names))


def nodes_command(nodes: Sequence[str]) -> List[str]:
    """Return what asks for the state of each node."""
    return ["sinfo", "--all", "--noheader", "--Node", f"--nodes={','.join(nodes)}", "--format=%N|%T|%E"]


def unfit(answer: Answer) -> Dict[str, str]:
    """Return the nodes on which nothing starts, as sinfo says, and why; none if it did not answer."""
    rows = [line.split("|", 2) for line in answer.output.splitlines()] if answer.code == 0 else []
    found = {}
    for name, state, reason in (row for row in rows if len(row) == 3):
        problem = _problem(state.lower())
        if problem:
            why = "".join(character if character.isprintable() else "?" for character in reason.strip())[:_WHY]
            found[name] = problem if why in ("", "none") else f"{problem}: {why}"
    return found


def _problem(state: str) -> str:
    """Return why nothing starts on a node in this state, "" if something does."""
    word = state.rstrip("*~#!%$@^+-")
    if word in _UNFIT:
        return word
    return next((problem for flag, problem in _UNFIT_FLAGS.items() if flag in state[len(word) :]), "")


def successor_command(
    script: str,
    output: str,
    environ: Mapping[str, str],
    point: Optional[int],
    exclude: Sequence[str] = (),
    after: str = "",
) -> List[str]:
    """Return what submits another job for the same run, or for `point` of it, which may be the task of an array.

    `output`: the file of this job's output, which the other goes on with. `exclude`: nodes that it is not to start on,
    which outrank those in the script; of a heterogeneous job for all its components (22.05.8). `after`: the job that is
    to end first; what the script depends on was fulfilled when that started.
    """
    command = ["sbatch", "--parsable", "--output=" + output.replace("%", "%%")]
    command += [f"--exclude={','.join(exclude)}"] if exclude else []
    command += [f"--dependency=afterany:{after}"] if after else []
    if point is None:
        return [*command, script]
    if environ.get("SLURM_ARRAY_TASK_ID"):
        return [*command, f"--array={point}", script]
    return [*command, script, str(point)]


def takeover_command(script: str, output: str, job: str, minutes: Optional[int], point: int) -> List[str]:
    """Return what submits the job that takes over from `job`, which runs, as number `point` of its service.

    It may start `minutes` after the start of `job`, or once that has ended; None: only then. `output`: its log, in
    which patterns of sbatch count.
    """
    conditions = [f"after:{job}+{minutes}"] if minutes is not None else []
    dependency = "?".join([*conditions, f"afterany:{job}"])
    return ["sbatch", "--parsable", f"--output={output}", f"--dependency={dependency}", script, str(point)]


def loss_command(job: str) -> List[str]:
    """Return what asks whether a job has lost a node."""
    return ["squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T|%r"]


def has_lost_node(answer: Answer) -> bool:
    """Whether squeue says that the job ends for the loss of a node; it is COMPLETING while other nodes end it."""
    rows = [line.partition("|") for line in answer.output.splitlines()] if answer.code == 0 else []
    return any(state == "NODE_FAIL" or reason == "NodeDown" for state, _, reason in rows)


def trial_command(submission: Sequence[str]) -> List[str]:
    """Return what asks whether a job could start some day if it were submitted so: it fails if not."""
    return [submission[0], "--test-only", *submission[1:]]
