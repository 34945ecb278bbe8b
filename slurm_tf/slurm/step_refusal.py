"""Reads from what srun printed why it refuses a step, and names the variables that may have asked for too much.

Standard library, Python 3.9.
"""

import re
from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple

# What srun (22.05.8) prints where it creates no step: "srun: error: Unable to create step for job 2: More processors
# requested than permitted", "srun: fatal: ...", "srun: unrecognized option '--x'".
_ERROR = re.compile(
    r"^srun: (?=(?i:error|fatal|unrecognized|invalid))(?:(?:error|fatal): )?(?P<text>\S.*)$", re.MULTILINE
)
# It tries again and again while other steps hold what the step needs, and for ever where no node of the job can.
_WAITS = re.compile(r"^srun: Job \S+ step creation (?:temporarily|still) disabled, retrying \((?P<text>.*)\)$", re.M)
_BUSY = "Requested nodes are busy"
# A step was created, and ended.
_STARTED = re.compile(r"^srun: (error: \S+: tasks? |.*StepId=|error: (Task|Application) launch)", re.MULTILINE)
# Another try may do: slurmctld, the network or a node is the cause, or the job is being ended.
_TRANSIENT = re.compile(
    r"already completing|Invalid job id|expired or invalid job|Unable to contact slurm controller|"
    r"timed out|Zero Bytes|Communication|Connection refused|Unexpected message|standby mode|busy|prolog|"
    r"temporarily|Required node not available|Node failure|not responding|Cancelled pending|authentication|munge|"
    r"Resource temporarily|Cannot allocate memory|Too many open files|getaddrinfo|resolv",
    re.IGNORECASE,
)
# Variables by which srun takes options that ask for resources (srun(1), 22.05 and 25.11). Slurm sets those of `_TOPICS`
# in a job by itself: they are named only where srun's words are about them.
_OPTIONS = (
    "SLURM_BURST_BUFFER", "SLURM_CONSTRAINT", "SLURM_CORE_SPEC", "SLURM_CPU_BIND", "SLURM_CPU_FREQ_REQ",
    "SLURM_DEPENDENCY", "SLURM_DISTRIBUTION", "SLURM_EXACT", "SLURM_EXCLUSIVE", "SLURM_GPU_BIND", "SLURM_GPU_FREQ",
    "SLURM_GRES", "SLURM_GRES_FLAGS", "SLURM_HINT", "SLURM_HOSTFILE", "SLURM_IMMEDIATE", "SLURM_MEM_BIND",
    "SLURM_NETWORK", "SLURM_RESV_PORTS", "SLURM_SIGNAL", "SLURM_STEP_GRES", "SLURM_THREADS", "SLURM_THREAD_SPEC",
    "SLURM_TIMELIMIT", "SLURM_WAIT", "SRUN_CONTAINER", "SRUN_CPUS_PER_TASK",
)  # fmt: skip
_TOPICS = (
    (
        re.compile(r"processors|threads|CPUs|tasks|nodes", re.IGNORECASE),
        (
            "SLURM_CPUS_PER_GPU", "SLURM_JOB_NUM_NODES", "SLURM_NNODES", "SLURM_NPROCS", "SLURM_NTASKS",
            "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_NODE", "SLURM_NTASKS_PER_SOCKET", "SLURM_THREADS_PER_CORE",
            "SLURM_TRES_PER_TASK",
        ),
    ),
    (
        re.compile(r"gres|generic resource|gpu", re.IGNORECASE),
        (
            "SLURM_CPUS_PER_GPU", "SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_SOCKET", "SLURM_GPUS_PER_TASK",
            "SLURM_NTASKS_PER_GPU", "SLURM_TRES_PER_TASK",
        ),
    ),
)  # fmt: skip
_LONGEST = 80


@dataclass(frozen=True)
class Refusal:
    """A refusal that comes again: srun's own `text`, and "NAME=value" of the variables that may be the cause."""

    text: str
    variables: Tuple[str, ...]


def find(printed: str, environ: Mapping[str, str], is_first: bool) -> Optional[Refusal]:
    """Return why srun creates no step, from what it has `printed`; None if it did, or may at another try.

    `environ`: srun's. `is_first`: the job has had no step yet. Where it has had one that asked for the same, a step is
    refused because the job lost a node since, or because the earlier step still holds what the new one needs.
    """
    if not is_first or _STARTED.search(printed):
        return None
    lines = [match["text"] for match in _ERROR.finditer(printed)]
    waits = [match["text"] for match in _WAITS.finditer(printed)]
    if lines and not any(map(_TRANSIENT.search, lines)):
        text = lines[-1]
    elif not lines and waits and waits[-1] == _BUSY:
        text = f"{_BUSY}: no node of the job ever has what the step asks for"
    else:
        return None
    return Refusal(text, tuple(_variables(" ".join([text, *lines]), environ)))


def _variables(text: str, environ: Mapping[str, str]) -> List[str]:
    names = list(_OPTIONS)
    for topic, more in _TOPICS:
        names += more if topic.search(text) else ()
    return [f"{name}={_plain(environ[name])}" for name in dict.fromkeys(names) if environ.get(name)]


def _plain(value: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in value)[:_LONGEST]
