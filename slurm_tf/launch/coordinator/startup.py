"""An attempt opens its run, and takes it: settings and folders, the lease, the record of all attempts."""

import glob
import os
import sys
from typing import Callable, Mapping, NoReturn, Optional, Sequence, Tuple

from slurm_tf import files
from slurm_tf.errors import LeaseError, RunError, SlurmTfError
from slurm_tf.launch.coordinator.coordinator import Coordinator
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.log import say
from slurm_tf.launch.requeue import continuation, lease_holder
from slurm_tf.run import attempts
from slurm_tf.run.folder import CLAIM, SubmissionFolder
from slurm_tf.run.settings import LaunchSettings, read_settings


def open_run(path: str, point: Optional[int], environ: Mapping[str, str]) -> Tuple[JobContext, LaunchSettings]:
    """Return the run, or one point of it, whose folders are made here: nobody waits for 1,000 of them at submission.

    `environ`: the batch script's. Raises RunError or OSError.
    """
    submission = SubmissionFolder(os.path.abspath(path))
    settings, place = read_settings(submission), JobContext(submission, point, environ)
    if point is not None:
        settings, folder = settings.of_point(point), place.folder
        for each in (folder.path, *folder.folders):
            files.own_folder(each)
        if files.is_shared(place.run.path):
            for each in (folder.path, folder.checkpoints):
                files.share(each)
    if place.is_cancelled:
        raise RunError(f"run {settings.run} was cancelled", "one that is to go on", "submit it again")
    return place, settings


def take(
    place: JobContext, settings: LaunchSettings, preflight_only: bool, say: Callable[[str], None]
) -> Optional[attempts.AttemptRecorder]:
    """Take the run's lease; return the record of its attempts, None for a preflight alone.

    Raises ProgressError if the last attempts were in vain, RunError or OSError.
    """
    try:
        own = lease_holder.take(place.folder, place.environ, say)
    except LeaseError as error:
        if settings.goes_on and not preflight_only:
            after = continuation.arrange(place, None, settings.retry.wait, lambda: False)
            raise LeaseError(f"{error.found}; {after.words}", error.needed, error.do) from error
        raise
    if preflight_only:
        return None
    for claim in glob.glob(glob.escape(os.path.join(place.folder.path, CLAIM)) + "*"):
        os.unlink(claim)
    former = [each for each in attempts.read(place.folder) if each.id != own.attempt]
    attempts.check(former, set(place.line), settings.retry.fruitless)
    return attempts.AttemptRecorder(place.folder, own.attempt, place.job, say)


def main(arguments: Sequence[str]) -> NoReturn:
    """coordinate RUN_FOLDER [--point INDEX] [--preflight] -- LAUNCHER..."""
    end = list(arguments).index("--")
    options, launcher = arguments[:end], list(arguments[end + 1 :])
    point = int(options[2]) if options[1:2] == ["--point"] else None
    try:
        place, settings = open_run(options[0], point, os.environ)
        record = take(place, settings, "--preflight" in options[1:], say)
        code = Coordinator(place, settings, launcher, record).run()
    except (SlurmTfError, OSError) as error:
        say(str(error))
        code = error.exit_code if isinstance(error, SlurmTfError) else 1
    sys.exit(code)
