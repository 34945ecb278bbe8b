"""Finds the folders of templates and site profiles: packaged, the site's, the user's; a later folder wins."""

import os
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import ConfigError, RunError

_HERE = Path(__file__).resolve().parent


def packaged(kind: str) -> Path:
    """Return the folder `kind` that came with slurm-tf: inside an installed package, else at the checkout's top."""
    installed = _HERE / kind
    return installed if installed.is_dir() else _HERE.parent / kind


def user_config() -> Path:
    """Return the folder of the user's own settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "slurm-tf"


def folders(kind: str) -> list[Path]:
    """Return the folders that hold files of `kind` ("templates", "site_configs"), weakest first.

    Raises UsageError for a folder of SLURM_TF_PATH that cannot be expanded.
    """
    listed = [Path(files.expand(path)) / kind for path in os.environ.get("SLURM_TF_PATH", "").split(":") if path]
    candidates = [packaged(kind), Path("/etc/slurm-tf") / kind, user_config() / kind, *listed]
    return [folder for folder in candidates if folder.is_dir()]


def check_trusted(path: Path) -> None:
    """Raise ConfigError if a user other than us and root can change `path`: templates and prologues are code.

    Files that came with slurm-tf are trusted as its modules are.
    """
    if any(files.path_below(str(path), str(packaged(kind))) for kind in ("templates", "site_configs")):
        return
    try:
        for each in (path, path.parent):
            files.check_own(str(each))
    except FileNotFoundError:
        raise ConfigError("no such file", "a file that can be read", where=str(path)) from None
    except RunError as error:
        raise ConfigError(error.found, error.needed, error.do, where=str(path)) from error
