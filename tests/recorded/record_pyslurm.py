"""Record what pyslurm and sacct say of the same mix of jobs, as root on this machine, with pyslurm in PYTHONPATH:

    python3 -m tests.recorded.record_pyslurm tests/recorded/slurm-22.05.8/pyslurm-22.5.3

`lines`: as slurm_tf.slurm.pyslurm_accounting writes them, each job's dict as pyslurm gives it; `live`: what sacct
printed, with SEPARATOR.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from slurm_tf.account.rows import ASKED
from tests.cluster.mix import SHAPE, Mix
from tests.conftest import ROOT
from tests.recorded.record_usage import SEPARATOR, sacct
from tests.sandbox.cluster import Sandbox


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), SHAPE, bound=True)
    mix = Mix(sandbox)
    mix.arrange()
    mix.sql("update sandbox_job_table set admin_comment = concat('of ', job_db_inx) where id_job % 2")
    fields = sandbox.run("sacct", "--helpformat", user="root").stdout.split()
    names = ",".join(name for name in ASKED if name in fields)
    live = ("--noheader", "--noconvert", "--parsable", f"--delimiter={SEPARATOR}", f"--format={names}")
    (folder / "live").write_bytes(sacct(sandbox, *live, SLURM_TIME_FORMAT="%s"))
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    argv = (sys.executable, "-m", "slurm_tf.slurm.pyslurm_accounting", json.dumps([[0, 2**32], [], []]))
    (folder / "lines").write_text(sandbox.run(*argv, user="root", env={"PYTHONPATH": path}).stdout)
    sandbox.down()
    shutil.rmtree(sandbox.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
