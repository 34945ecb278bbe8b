"""The table [serve] of a job file, and what of a service's settings comes from it."""

import os
import re
from typing import Annotated

from msgspec import Meta, field

from slurm_tf.jobspec.base_table import Amount, Base

# A model's name is a part of URLs, and of command lines.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


class Serve(Base, frozen=True):
    """Which models a job with strategy serve answers for, and how its jobs follow each other."""

    models: Annotated[
        dict[str, str],
        Meta(description="the folder of each model, with its versions, by the model's name; relative to the job file"),
    ] = field(default_factory=dict)
    overlap: Annotated[
        Amount,
        Meta(
            description="how long before its time limit the job that follows may start, to take over; at most half the "
            "limit"
        ),
    ] = "00:10:00"
    processes: Annotated[
        int,
        Meta(ge=0, le=256, description="replica processes of each task; 0: one for every 4 CPUs, or one with GPUs"),
    ] = 0
    open: Annotated[bool, Meta(description="answer also who has no token: everybody who reaches the ports")] = False
    certificate: Annotated[
        str, Meta(description="the site's certificate in PEM, with key; default: each replica makes one for itself")
    ] = ""
    key: Annotated[str, Meta(description="the file of the certificate's private key")] = ""
    max_batch_size: Annotated[
        int,
        Meta(ge=1, description="rows of several requests that are computed together at most; 1: each request alone"),
    ] = 256
    batch_timeout_micros: Annotated[
        int,
        Meta(ge=0, description="how long a request waits for others, in microseconds; 0: while others are computed"),
    ] = 0


def model_name(base: str) -> str:
    """Return the name of the model in the folder `base`: that of the folder."""
    return os.path.basename(os.path.normpath(base))
