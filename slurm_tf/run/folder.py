"""The layout of a run's folder: the path of every file in it. Standard library, Python 3.9."""

import contextlib
import os
from dataclasses import dataclass
from typing import List, Tuple

# How the names of RunFolder.claim begin.
CLAIM = "alone."
_SUBMISSION = "submission-"
# What to do about a folder of runs that cannot be used.
FOLDER_OF_RUNS = "use another folder of runs: export SLURM_TF_RUNS=FOLDER, or `runs` in the user's configuration"


@dataclass(frozen=True)
class SubmissionFolder:
    """The files that one submission of a run made; its jobs read them again, days later, so nothing changes them.

    A run that is submitted again under its name, perhaps with other roles, gets another folder of this kind.
    """

    path: str

    @property
    def run(self) -> "RunFolder":
        """The run that was submitted."""
        return RunFolder(os.path.dirname(self.path))

    @property
    def number(self) -> int:
        """Which submission of the run this is, from 1 on."""
        return int(os.path.basename(self.path)[len(_SUBMISSION) :])

    @property
    def script(self) -> str:
        """The rendered batch script."""
        return os.path.join(self.path, "script.sbatch")

    @property
    def launcher(self) -> str:
        """The zip file of slurm_tf.launch that the script runs: a requeue never runs edited launcher code."""
        return os.path.join(self.path, "launch.pyz")

    @property
    def train_library(self) -> str:
        """The zip file of slurm_tf.train, for programs whose Python has none: see submit/packed_modules.py."""
        return os.path.join(self.path, "train.zip")

    @property
    def setup_checks(self) -> str:
        """What the script sources before the lines of `setup`: see submit/setup_checks.py."""
        return os.path.join(self.path, "setup_checks.sh")

    @property
    def settings(self) -> str:
        """LaunchSettings as JSON: see run/settings.py."""
        return os.path.join(self.path, "launch.json")

    @property
    def manifest(self) -> str:
        """Where this submission came from, as JSON: see run/manifest.py."""
        return os.path.join(self.path, "manifest.json")

    @property
    def preflight_script(self) -> str:
        """The batch script of a preflight alone."""
        return os.path.join(self.path, "preflight.sbatch")

    @property
    def code(self) -> str:
        """The copy of the program's code."""
        return os.path.join(self.path, "code")

    @property
    def mount_points(self) -> str:
        """The folder of mount points that images lack: see launch/agent/program_container.py."""
        return os.path.join(self.path, "mount_points")

    def bundle(self, role: str) -> str:
        """Return the bundle of a role's OCI container: each job of the submission writes the same."""
        return os.path.join(self.path, f"container-{role}")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, or of one sweep point of it."""

    path: str

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return os.path.basename(self.path)

    def submission(self, number: int) -> SubmissionFolder:
        """Return the folder of the `number`-th submission, from 1 on."""
        return SubmissionFolder(os.path.join(self.path, f"{_SUBMISSION}{number}"))

    @property
    def submissions(self) -> List[SubmissionFolder]:
        """The submissions whose folders there are, oldest first."""
        names: List[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self.path)
        numbers = [name[len(_SUBMISSION) :] for name in names if name.startswith(_SUBMISSION)]
        return [self.submission(number) for number in sorted(int(each) for each in numbers if each.isdecimal())]

    @property
    def manifest(self) -> str:
        """The manifest of the newest submission: see run/manifest.py."""
        return os.path.join(self.path, "manifest.json")

    @property
    def cluster(self) -> str:
        """The cluster of the newest attempt, as JSON: see run/cluster_record.py."""
        return os.path.join(self.path, "cluster.json")

    @property
    def status(self) -> str:
        """How the newest attempt is doing, as JSON: see run/status.py."""
        return os.path.join(self.path, "status.json")

    @property
    def progress(self) -> str:
        """What the chief or worker 0 reported of its training, over all attempts: see run/progress.py."""
        return os.path.join(self.path, "progress.jsonl")

    @property
    def evaluator_progress(self) -> str:
        """What the evaluator reported."""
        return os.path.join(self.path, "progress-evaluator.jsonl")

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
        """What the newest preflight measured, as JSON: see run/preflight_report.py."""
        return os.path.join(self.path, "preflight.json")

    @property
    def probes(self) -> str:
        """The folder where the nodes of a preflight write and read."""
        return os.path.join(self.path, "preflight")

    @property
    def stage_plan(self) -> str:
        """The files that each node copies to its scratch, as JSON: see run/stage_plan.py."""
        return os.path.join(self.path, "stage.json")

    @property
    def stage_links(self) -> str:
        """The folder of links to what [stage] names, for tasks whose nodes copy nothing."""
        return os.path.join(self.path, "stage")

    @property
    def bad_nodes(self) -> str:
        """Nodes that the next attempt leaves out, as JSON: see run/bad_nodes.py."""
        return os.path.join(self.path, "bad_nodes.json")

    @property
    def cancelled(self) -> str:
        """A file that is there if the run was cancelled: no attempt may start."""
        return os.path.join(self.path, "cancelled")

    @property
    def lease(self) -> str:
        """Which attempt may write to the run, as JSON: see run/lease.py."""
        return os.path.join(self.path, "lease.json")

    def claim(self, attempt: str) -> str:
        """Return a file that is there if an agent of `attempt`, whose coordinator is gone, requeues the job."""
        return os.path.join(self.path, f"{CLAIM}{attempt}")

    @property
    def fault_request(self) -> str:
        """The fault that `slurm-tf interrupt` asks the living attempt to inject, as JSON: see run/fault_request.py."""
        return os.path.join(self.path, "fault_request.json")

    @property
    def endpoints(self) -> str:
        """The folder of a service where each of its replicas says where it answers, one file a replica."""
        return os.path.join(self.path, "endpoints")

    @property
    def token(self) -> str:
        """The token of a service, which its replicas ask for."""
        return os.path.join(self.path, "token")

    @property
    def requests(self) -> str:
        """The folder of a service where its replicas log requests by version."""
        return os.path.join(self.path, "requests")

    @property
    def replica_ends(self) -> str:
        """The folder of a service's job with how its replicas ended, one file a replica: see run/replica_ends.py."""
        return os.path.join(self.path, "replica_ends")

    @property
    def logs(self) -> str:
        """The folder of logs, one file a task."""
        return os.path.join(self.path, "logs")

    @property
    def gpus(self) -> str:
        """The folder of what the GPUs of each task did, one file a task: see run/gpu_record.py."""
        return os.path.join(self.path, "gpus")

    @property
    def checkpoints(self) -> str:
        """The folder of checkpoints: see run/checkpoint_folder.py."""
        return os.path.join(self.path, "checkpoints")

    @property
    def exports(self) -> str:
        """The folder for SavedModels."""
        return os.path.join(self.path, "export")

    def model_path(self) -> str:
        """Return the path of the exported model, or the folder of several; "" for none."""
        try:
            names = [name for name in os.listdir(self.exports) if not name.startswith(".")]  # one that is being written
        except OSError:
            return ""
        if len(names) == 1:
            return os.path.join(self.exports, names[0])
        return self.exports if names else ""

    @property
    def tensorboard(self) -> str:
        """The folder for what TensorBoard shows."""
        return os.path.join(self.path, "tensorboard")

    @property
    def folders(self) -> Tuple[str, ...]:
        """All folders that a program or its agent may write to: they are made before anything starts."""
        return (self.logs, self.checkpoints, self.exports, self.tensorboard)

    def point(self, index: int) -> "RunFolder":
        """Return the folder of one sweep point, which is a run of its own."""
        return RunFolder(os.path.join(self.path, str(index)))

    def log(self, role: str, index: int) -> str:
        """Return the file that holds what one task printed, over all attempts."""
        return os.path.join(self.logs, f"{role}-{index}.log")
