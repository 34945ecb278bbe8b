"""Checks for the packages of the extra `prepare`, which the commands for data sets import."""

import importlib.util

from slurm_tf.errors import UsageError

_PACKAGES = ("google_crc32c", "numpy", "pyarrow", "sqlglot")


def check() -> None:
    """Raise UsageError if a package is not installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        found = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise UsageError(found, "the packages that prepare data", "pip install 'slurm-tf[prepare]'")
