"""Measures what a container costs a program that trains: two workers in Charliecloud, and two without, alternately.

    python benchmarks/containers.py [IMAGE] [--mount SRC[:DST[:ro]]] [--pairs 9] [--seconds 20]

Prints a Markdown table. IMAGE is a folder whose python3 has TensorFlow, by itself or by a mount: for a comparison the
version of this Python and of its TensorFlow. Without it the image of the tests is taken, with this Python's packages.
Both run the program of benchmarks/overhead.py under `slurm-tf run` for the same number of steps. Figures are medians,
ratios are medians of the pairs' ratios with the smallest and largest.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import overhead

sys.path.insert(0, str(overhead.ROOT))

from tests import container_image

SITE = "inherit = 'local'\n[container]\nruntime = 'charliecloud'\n"
CONTAINER = "[container]\nimage = {image}\nmounts = {mounts}\n"


def start(command, folder, image="", mounts=()):
    """Start `slurm-tf run`, in the image if there is one; return its process in a list."""
    job = overhead.JOB.format(command=json.dumps(command), workers=overhead.WORKERS)
    if image:
        stated = [str(folder), f"{overhead.ROOT}:{overhead.ROOT}:ro", *mounts]
        job += CONTAINER.format(image=json.dumps(image), mounts=json.dumps(stated))
    Path(folder, "job.toml").write_text(job)
    profiles = Path(folder, "slurm-tf", "site_configs")
    profiles.mkdir(mode=0o700, parents=True)
    (profiles / "local.toml").write_text(SITE)
    environ = {**os.environ, **overhead.ENVIRON, "SLURM_TF_RUNS": str(Path(folder, "runs"))}
    environ.update(PYTHONPATH=str(overhead.ROOT), XDG_CONFIG_HOME=str(folder))
    run = [sys.executable, "-m", "slurm_tf", "run", "job.toml"]
    with Path(folder, "output").open("wb") as log:
        return [subprocess.Popen(run, cwd=folder, env=environ, stdout=log, stderr=log)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", metavar="IMAGE", nargs="?")
    parser.add_argument("--mount", action="append", default=[], metavar="SRC[:DST[:ro]]")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    overhead.print_machine()
    image, mounts = Path(options.image or container_image.folder()), options.mount
    mounts += [] if options.image else [container_image.site_mount()]
    inside = functools.partial(start, image=str(image.resolve()), mounts=mounts)
    ways = {
        "in Charliecloud": functools.partial(overhead.measured, inside, python="python3"),
        "without": functools.partial(overhead.measured, start),
    }
    rate = overhead.CALIBRATION_STEPS / ways["without"](overhead.CALIBRATION_STEPS)[2]
    overhead.compare(ways, int(rate * options.seconds * overhead.MARGIN), options.pairs)


if __name__ == "__main__":
    main()
