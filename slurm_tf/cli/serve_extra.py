"""Says what to install where what `slurm-tf serve` needs is missing."""

import importlib.util

from slurm_tf.errors import UsageError


def check() -> None:
    """Raise UsageError unless the extra `serve` is installed."""
    missing = [name for name in ("h11", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"no {missing[0]} here", "the extra serve", "pip install 'slurm-tf[serve]'")
