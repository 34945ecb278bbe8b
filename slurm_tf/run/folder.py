"""The layout of a run's folder: the name of every file in it. Standard library, Python 3.9."""

import os
from dataclasses import dataclass
from typing import Tuple

# how the names of RunFolder.claim begin
CLAIM = "alone."


@dataclass(frozen=True)
class RunFolder:
    """The name of every file of one run."""

    path: str

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return os.path.basename(self.path)

    @property
    def script(self) -> str:
        """The rendered batch script."""
        return os.path.join(self.path, "script.sbatch")

    @property
    def launcher(self) -> str:
        """The zip file of slurm_tf.launch that the script runs: a requeue never runs edited launcher code."""
        return os.path.join(self.path, "launch.pyz")

    @property
    def settings(self) -> str:
        """LaunchSettings as JSON."""
        return os.path.join(self.path, "launch.json")

    @property
    def manifest(self) -> str:
        """Where this run came from, as JSON: resolved job, site, versions."""
        return os.path.join(self.path, "manifest.json")

    @property
    def cluster(self) -> str:
        """The cluster of the newest attempt, as JSON: task, node, address, GPUs."""
        return os.path.join(self.path, "cluster.json")

    @property
    def status(self) -> str:
        """How the newest attempt is doing, as JSON: see launch/coordinator/status_writer.py."""
        return os.path.join(self.path, "status.json")

    @property
    def attempts(self) -> str:
        """How each attempt of the run went, as JSON: see run/attempts.py."""
        return os.path.join(self.path, "attempts.json")

    @property
    def jobs(self) -> str:
        """The jobs that were submitted for the run, or that follow a job of this point: see run/job_chain.py."""
        return os.path.join(self.path, "jobs.json")

    @property
    def preflight(self) -> str:
        """What the newest preflight measured, as JSON: see launch/nodes/preflight.py."""
        return os.path.join(self.path, "preflight.json")

    @property
    def preflight_script(self) -> str:
        """The batch script of a preflight alone."""
        return os.path.join(self.path, "preflight.sbatch")

    @property
    def mpi_probe(self) -> str:
        """The copy of train/collectives/mpi_probe.py, where the job's preflight is to measure MPI."""
        return os.path.join(self.path, "mpi_probe.py")

    @property
    def probes(self) -> str:
        """The folder where the nodes of a preflight write and read."""
        return os.path.join(self.path, "preflight")

    @property
    def bad_nodes(self) -> str:
        """Nodes that the next attempt leaves out, as JSON: see run/bad_nodes.py."""
        return os.path.join(self.path, "bad_nodes.json")

    @property
    def cancelled(self) -> str:
        """There if the run was cancelled: no attempt may start."""
        return os.path.join(self.path, "cancelled")

    @property
    def lease(self) -> str:
        """Whose the run is, as JSON: see Lease."""
        return os.path.join(self.path, "lease.json")

    def claim(self, attempt: str) -> str:
        """There if an agent of `attempt`, which has lost its coordinator, sees to it that the run goes on."""
        return os.path.join(self.path, f"{CLAIM}{attempt}")

    @property
    def rehearsal(self) -> str:
        """What `slurm-tf interrupt` asks the living attempt for, as JSON: see launch/coordinator/fault_injection.py."""
        return os.path.join(self.path, "rehearsal.json")

    @property
    def logs(self) -> str:
        """The folder of logs, one file a task."""
        return os.path.join(self.path, "logs")

    @property
    def checkpoints(self) -> str:
        """The folder of checkpoints."""
        return os.path.join(self.path, "checkpoints")

    @property
    def exports(self) -> str:
        """The folder for SavedModels."""
        return os.path.join(self.path, "export")

    @property
    def tensorboard(self) -> str:
        """The folder for what TensorBoard shows."""
        return os.path.join(self.path, "tensorboard")

    @property
    def folders(self) -> Tuple[str, ...]:
        """All that a program or its agent may write to: made before anything starts."""
        return (self.logs, self.checkpoints, self.exports, self.tensorboard)

    def point(self, index: int) -> "RunFolder":
        """The folder of one task of an array, which is a run of its own."""
        return RunFolder(os.path.join(self.path, str(index)))

    def code(self, number: int) -> str:
        """The `number`-th copy of the program's code; each submission has its own."""
        return os.path.join(self.path, f"code-{number}")

    def log(self, role: str, index: int) -> str:
        """The file that holds what one task printed, over all attempts."""
        return os.path.join(self.logs, f"{role}-{index}.log")
