"""What is copied to the nodes' scratch before training: [stage] of a job file. Standard library, Python 3.9."""

import os
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from slurm_tf.errors import StageError


@dataclass(frozen=True)
class StageSettings:
    """The files and folders to copy.

    `folder`: what relative paths are relative to. `size`: how many MiB they may have at most, None for no bound.
    `optional`: tasks of a node whose scratch cannot hold them read them from shared storage.
    """

    paths: Tuple[str, ...]
    folder: str
    optional: bool = False
    size: Optional[int] = None

    def sources(self) -> Dict[str, str]:
        """Return the absolute path of each by the name that it has in the stage folder. Raises StageError."""
        found: Dict[str, str] = {}
        for path in self.paths:
            source = os.path.normpath(os.path.join(self.folder, path))
            name = os.path.basename(source)
            if not name:
                raise StageError(f"found the path {path!r}", "a file, or a folder other than /")
            if name in found:
                raise StageError(f"found {found[name]} and {source}", "paths that end in different names")
            found[name] = source
        return found
