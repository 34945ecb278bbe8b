"""Starts an attempt: reads the run's settings, makes its folders, takes its lease, and starts the coordinator."""

import glob
import os
import sys
from typing import Callable, List, Mapping, NoReturn, Optional, Sequence, Tuple

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
    """Return the context and settings of the job's run; make the folders of its sweep point, if it has one.

    The job makes them, not the submission, which would take long for many points. `environ`: the batch script's. Raises
    RunError or OSError.
    """
    submission = SubmissionFolder(os.path.abspath(path))
    settings, context = read_settings(submission), JobContext(submission, point, environ)
    if point is not None:
        settings, folder = settings.of_point(point), context.folder
        for each in (folder.path, *folder.folders):
            files.own_folder(each)
        if files.is_shared(context.run.path):
            for each in (folder.path, folder.checkpoints):
                files.share(each)
    if context.is_cancelled:
        raise RunError(f"run {settings.run} was cancelled", "one that is to go on", "submit it again")
    return context, settings


def take(
    context: JobContext, settings: LaunchSettings, preflight_only: bool, say: Callable[[str], None]
) -> Optional[attempts.AttemptRecorder]:
    """Take the run's lease; return the record of its attempts, None for a preflight alone.

    Raises ProgressError if the last attempts committed no new checkpoint, RunError or OSError.
    """
    try:
        lease = lease_holder.take(context.folder, context.environ, say)
    except LeaseError as error:
        if settings.goes_on and not preflight_only:
            arranged = continuation.arrange(context, None, settings.retry.wait, lambda: False)
            raise LeaseError(f"{error.found}; {arranged.description}", error.needed, error.do) from error
        raise
    if preflight_only:
        return None
    for claim in glob.glob(glob.escape(os.path.join(context.folder.path, CLAIM)) + "*"):
        os.unlink(claim)
    former = [each for each in attempts.read(context.folder) if each.id != lease.attempt]
    attempts.check(former, set(context.line), settings.retry.fruitless)
    return attempts.AttemptRecorder(context.folder, lease.attempt, context.job, say)


def main(arguments: Sequence[str]) -> NoReturn:
    """coordinate RUN_FOLDER [--point INDEX] [--preflight] -- LAUNCHER... [+ LAUNCHER...]..."""
    end = list(arguments).index("--")
    options, words = arguments[:end], list(arguments[end + 1 :])
    point = int(options[2]) if options[1:2] == ["--point"] else None
    try:
        context, settings = open_run(options[0], point, os.environ)
        record = take(context, settings, "--preflight" in options[1:], say)
        code = Coordinator(context, settings, _launchers(words), record).run()
    except SlurmTfError as error:
        say(str(error))
        code = error.exit_code
    except OSError as error:
        say(str(files.storage_error(error, "begin the attempt")))
        code = 1
    sys.exit(code)


def _launchers(words: Sequence[str]) -> List[List[str]]:
    """Return the command of each launcher; "+" is between them, and is no word of a launcher."""
    launchers: List[List[str]] = [[]]
    for word in words:
        if word == "+":
            launchers.append([])
        else:
            launchers[-1].append(word)
    return launchers
