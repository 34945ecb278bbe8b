"""Every error that slurm-tf raises on purpose, and the exit code of a command that it ends.

    SlurmTfError                1   base of all, caught in one place
    ├── UsageError              2   a command line that cannot be done
    ├── ConfigError             2   a job file, site profile or user file says something impossible
    │   └── ConfigGroupError    2   several such errors, in one message
    ├── TemplateError           2   a script template does not render, or its script is no shell
    ├── LimitError              2   a job that Slurm's limits would never let start
    ├── UnitError               2   text that is no time, amount of memory or count
    ├── HostlistError           2   text that is no Slurm node list
    ├── AccountingError        65   a saved table of accounting cannot be read, or not all of it
    │   └── LedgerError        74   what was kept of accounting cannot be used
    ├── DatasetError           65   a prepared data set cannot be read, or rows do not fit its schema
    ├── ModelError             65   a version of a model cannot be exported, read or served
    ├── TopologyError          65   the tasks that came cannot form the cluster that was asked for, or have not
    ├── DeviceError            65   a program's TensorFlow has no GPU, and its role asked for some
    ├── DriverError            69   the driver of a GPU does not say what the GPU does
    ├── AllocationError        69   not inside a Slurm step, or its variables contradict each other
    ├── SlurmError              1   Slurm refused something, in its own words
    │   ├── StepError           1   srun refused the job's step, and would again
    │   └── UnreachableError   69   Slurm does not answer
    ├── DataServiceError       75   elements of a data set are lost, as a data worker ended
    ├── ReplicaError           70   tasks that should train one model train several
    ├── ServiceError           69   a service does not answer, or refuses a request
    ├── StorageError           74   a file or folder cannot be read or written
    │   └── MemoryLimitError   74   what is computed does not fit into the memory that it may have
    ├── RunError               73   a run's folder cannot be used
    │   └── LeaseError         75   Slurm does not say whether the run's last attempt lives
    ├── CheckpointError        74   a checkpoint cannot be written or read
    │   └── FencedError        74   another attempt has taken over the run
    ├── StageError             73   files cannot be copied to the nodes' scratch
    ├── RegistrationError      75   some task never reported to the coordinator
    ├── PreflightError         76   a node of the allocation is not fit for the job
    ├── ContainerError        126   a program cannot be started in its container
    ├── AuthenticationError    77   the other side does not know the job's secret
    ├── OrganizationError      77   an organization may not be changed: by this user, on this cluster, or now
    ├── MessageError           76   the other side sent what this release does not know
    ├── ProgressError          78   attempts in a row committed no new checkpoint
    ├── ImageError              1   no container image was built; the code is that of the program that failed
    └── StoppedError      128 + n   ended by signal n

Codes from 64 on are those of sysexits.h. This module imports nothing of slurm-tf and runs on Python 3.9.
"""

from typing import Optional, Sequence, Tuple


class SlurmTfError(Exception):
    """An error for the user: what was found, what was needed, what to do about it, and where."""

    exit_code = 1

    def __init__(self, found: str, needed: str = "", do: str = "", where: str = "") -> None:
        super().__init__(found, needed, do, where)
        self.found, self.needed, self.do, self.where = found, needed, do, where

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        text += f"; needed {self.needed}" if self.needed else ""
        return text + (f"\nHINT: {self.do}" if self.do else "")


class UsageError(SlurmTfError):
    """A command line that cannot be done."""

    exit_code = 2


class ConfigError(SlurmTfError):
    """A job file, site profile or user file says something impossible; `where` is "file: key.path"."""

    exit_code = 2


class ConfigGroupError(ConfigError):
    """Several errors of a job file, site profile or user file; its text has all of them, one after the other."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__(f"found {len(errors)} errors")
        self.errors: Tuple[ConfigError, ...] = tuple(errors)

    def __str__(self) -> str:
        return "\n".join([self.found, *map(str, self.errors)])


class TemplateError(SlurmTfError):
    """A script template does not render, or bash cannot read its script."""

    exit_code = 2


class LimitError(SlurmTfError):
    """A job asks for more than a limit of Slurm lets any job have: it would wait for ever."""

    exit_code = 2


class UnitError(SlurmTfError, ValueError):
    """Text that is no time, amount of memory, count or range."""

    exit_code = 2


class HostlistError(SlurmTfError, ValueError):
    """Text that is no Slurm node list; `part` is the faulty piece of it."""

    exit_code = 2

    def __init__(self, found: str, needed: str, part: str) -> None:
        super().__init__(found, needed)
        self.part = part


class AccountingError(SlurmTfError):
    """A saved table of accounting cannot be read, or not all of it."""

    exit_code = 65


class LedgerError(AccountingError):
    """What was kept of accounting cannot be used: it is locked, corrupt, or of a newer slurm-tf."""

    exit_code = 74


class DatasetError(SlurmTfError):
    """A prepared data set cannot be read, or rows do not fit its schema; `where` is the file."""

    exit_code = 65


class ModelError(SlurmTfError):
    """A version of a model cannot be exported, read or served; `where` is its file or folder."""

    exit_code = 65


class TopologyError(SlurmTfError):
    """The tasks that came cannot form the cluster that was asked for, or have not."""

    exit_code = 65


class DeviceError(SlurmTfError):
    """A program's TensorFlow has no GPU, and its role asked for some."""

    exit_code = 65


class DriverError(SlurmTfError):
    """The driver of a GPU does not say what the GPU does; `hangs`: it does not answer at all."""

    exit_code = 69

    def __init__(self, found: str, hangs: bool = False) -> None:
        super().__init__(found)
        self.hangs = hangs


class AllocationError(SlurmTfError):
    """Not inside a Slurm step, or its variables contradict each other."""

    exit_code = 69


class SlurmError(SlurmTfError):
    """Slurm refused something, in its own words; its commands end with 1 as well."""

    exit_code = 1


class StepError(SlurmError):
    """The job's step was refused by srun, and would be again in another attempt."""


class DataServiceError(SlurmTfError):
    """Elements of a data set are lost, as a data worker of the tf.data service ended."""

    exit_code = 75


class ServiceError(SlurmTfError):
    """A service does not answer, or refuses a request; `status`: that of HTTP, None without an answer."""

    exit_code = 69

    def __init__(self, found: str, needed: str = "", do: str = "", status: Optional[int] = None) -> None:
        super().__init__(found, needed, do)
        self.status = status


class ReplicaError(SlurmTfError):
    """Tasks that should train one model train several."""

    exit_code = 70


class UnreachableError(SlurmError):
    """Slurm does not answer, or is not there."""

    exit_code = 69


class StorageError(SlurmTfError):
    """A file or folder cannot be read or written; files.storage_error makes one from an OSError."""

    exit_code = 74


class MemoryLimitError(StorageError):
    """What is computed does not fit into the memory that it may have."""


class RunError(SlurmTfError):
    """A run's folder cannot be used."""

    exit_code = 73


class LeaseError(RunError):
    """Slurm does not say whether the run's last attempt lives; it may, when asked again."""

    exit_code = 75


class CheckpointError(SlurmTfError):
    """A checkpoint cannot be written or read."""

    exit_code = 74


class FencedError(CheckpointError):
    """Another attempt has taken over the run: this one may write nothing more."""


class StageError(SlurmTfError):
    """Files that are to be copied to the nodes' scratch cannot be: [stage] of a job file."""

    exit_code = 73


class RegistrationError(SlurmTfError):
    """A task never reported to the coordinator; `missing` names all such tasks."""

    exit_code = 75

    def __init__(self, found: str, needed: str, do: str, missing: Sequence[str]) -> None:
        super().__init__(found, needed, do)
        self.missing = tuple(missing)


class PreflightError(SlurmTfError):
    """A node of the allocation is slow, cut off, or lacks GPUs or storage."""

    exit_code = 76


class ContainerError(SlurmTfError):
    """A program cannot be started in its container, and could not at the next try."""

    exit_code = 126


class AuthenticationError(SlurmTfError):
    """The other side of a connection does not know the job's secret."""

    exit_code = 77


class OrganizationError(SlurmTfError):
    """An organization may not be changed: by this user, on this cluster, or while it has jobs."""

    exit_code = 77


class MessageError(SlurmTfError):
    """The other side of an authenticated connection is of another release of slurm-tf, or broken."""

    exit_code = 76


class ProgressError(SlurmTfError):
    """Attempts in a row committed no new checkpoint."""

    exit_code = 78


class ImageError(SlurmTfError):
    """A container image was not built; the exit code is that of the runtime's program."""

    def __init__(self, found: str, needed: str, do: str, exit_code: int) -> None:
        super().__init__(found, needed, do)
        self.exit_code = exit_code


class StoppedError(SlurmTfError):
    """Ended by a signal; the exit code is a shell's, 128 and the signal's number."""

    def __init__(self, found: str, exit_code: int) -> None:
        super().__init__(found)
        self.exit_code = exit_code
