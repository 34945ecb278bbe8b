"""Links to what [stage] names, for tasks that read it where it is: they find it by the same names as a copy."""

import os
import shutil

from slurm_tf.run.folder import RunFolder
from slurm_tf.run.stage_settings import StageSettings


def make(folder: RunFolder, settings: StageSettings) -> str:
    """Make the folder of links of a run anew; return it. Raises StageError or OSError."""
    sources = settings.sources()
    shutil.rmtree(folder.stage_links, ignore_errors=True)
    os.mkdir(folder.stage_links, 0o700)
    for name, source in sources.items():
        os.symlink(source, os.path.join(folder.stage_links, name))
    return folder.stage_links
