"""Makes what all jobs of a service have in common: its token, and the folder of its endpoints."""

import secrets

from slurm_tf import files
from slurm_tf.run.folder import RunFolder

_TOKEN_BYTES = 32


def make(run: RunFolder) -> None:
    """Make the files of a service; a token that is there stays, as clients have it. Raises RunError or OSError."""
    for folder in (run.path, run.endpoints, run.requests):
        files.own_folder(folder)
    try:
        with open(run.token, encoding="ascii") as file:
            known = file.read().strip()
    except FileNotFoundError:
        known = ""
    if not known:
        files.write_whole(run.token, f"{secrets.token_hex(_TOKEN_BYTES)}\n".encode())
