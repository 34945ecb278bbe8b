"""Reads slurm.conf itself, for what has to be known before a command of Slurm is run."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

# Debian's and most sites' place, and where slurmd and sackd put it on a cluster that hands it out ("configless").
_PATHS = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))


def cluster_name(environ: Mapping[str, str]) -> str:
    """Return the name of the machine's cluster: a job's own, else of slurm.conf; "" if there is none to read."""
    if environ.get("SLURM_CLUSTER_NAME"):
        return environ["SLURM_CLUSTER_NAME"]
    paths = [Path(environ["SLURM_CONF"])] if environ.get("SLURM_CONF") else _PATHS
    path = next((each for each in paths if each.is_file() and os.access(each, os.R_OK)), None)
    text = path.read_text(errors="replace") if path else ""
    match = re.search(r"^\s*ClusterName\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""
