"""What jobs in the queue hold or wait for, and until when: those of everybody, as far as PrivateData shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from slurm_tf import units
from slurm_tf.errors import UnitError
from slurm_tf.slurm import array_indexes, associations, client, command_output
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import text_or_empty

# The columns of squeue that are asked for.
COLUMNS = (
    "JobID", "ArrayJobID", "ArrayTaskID", "HetJobID", "State", "Reason", "UserName", "Account", "QOS", "EndTime",
    "TimeLimit", "tres-alloc",
)  # fmt: skip
STATES = "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED"
_SECONDS = 30.0
_NO_ARRAY = ("", "N/A")


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job in the queue. `id`: of the whole job. `tasks`: of the array that this stands for, at least 1; `is_array`:
    it is of an array, where each task is a job by itself.

    `tres`: what each task holds, or asks for as long as it is pending; memory in MiB. `end`: when its time limit ends,
    None of a job that waits. `minutes`: its time limit, None for none.
    """

    id: str
    tasks: int
    is_array: bool
    state: JobState
    reason: str
    user: str
    account: str
    qos: str
    end: datetime | None
    minutes: int | None
    tres: Mapping[str, int]

    @property
    def is_pending(self) -> bool:
        """Whether it holds nothing yet."""
        return self.state is JobState.PENDING

    @property
    def total(self) -> dict[str, int]:
        """What all its tasks hold or ask for."""
        return {name: number * self.tasks for name, number in self.tres.items()}


def ask(accounts: Sequence[str] = ()) -> tuple[QueuedJob, ...]:
    """Ask slurmctld for the jobs in the queue, of these accounts or of all. Raises SlurmError."""
    argv = ["squeue", "--noheader", "--all", f"--states={STATES}", command_output.columns(COLUMNS)]
    argv += [f"--account={','.join(accounts)}"] if accounts else []
    return parse(client.run(argv, seconds=_SECONDS).stdout)


def parse(text: str) -> tuple[QueuedJob, ...]:
    """Return the jobs in the output of squeue with the columns of COLUMNS, without --array."""
    found = []
    for cells in command_output.rows(text, len(COLUMNS)):
        row = dict(zip(COLUMNS, cells, strict=True))
        state = JobState.parse(row["State"])
        end = None if state is JobState.PENDING else command_output.local_time(row["EndTime"])
        found.append(
            QueuedJob(
                _whole_id(row), _tasks(row["ArrayTaskID"]), row["ArrayTaskID"] not in _NO_ARRAY, state,
                text_or_empty(row["Reason"]), row["UserName"], text_or_empty(row["Account"]), text_or_empty(row["QOS"]),
                end, _minutes(row["TimeLimit"]), associations.tres(text_or_empty(row["tres-alloc"])),
            )
        )  # fmt: skip
    return tuple(found)


def _whole_id(row: Mapping[str, str]) -> str:
    """Return the id that sbatch printed: of the array or the heterogeneous job."""
    if row["ArrayTaskID"] not in _NO_ARRAY:
        return row["ArrayJobID"]
    return row["HetJobID"] if row["HetJobID"].isdigit() and row["HetJobID"] != "0" else row["JobID"]


def _minutes(text: str) -> int | None:
    """Return the minutes of a time limit; None for "UNLIMITED", and where Slurm says no time: "NOT_SET", "INVALID"."""
    try:
        length = units.parse_time(text)
    except UnitError:
        return None
    return None if length is None else -(-int(length.total_seconds()) // 60)


def _tasks(text: str) -> int:
    """Return how many tasks of an array a row stands for; those that wait are in one row."""
    try:
        return max(1, len(array_indexes.parse(text)[0]))
    except UnitError:  # "N/A": no array
        return 1
