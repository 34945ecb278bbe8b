"""Record what sacct prints of a mix of jobs, as root on this machine:

    python3 -m tests.recorded.record_usage tests/recorded/slurm-22.05.8/usage

It starts a sandbox of its own, lets jobs end in every way, leaves some running and waiting, and writes into the folder
the bytes that sacct printed: `live`, as slurm_tf.slurm.sacct asks, with SEPARATOR and the fields LIVE, and `waiting`,
so of an array;
`saved` and `saved-closed`, as somebody saves a table with -P and with -p; `saved.json.gz`, the same jobs with --json;
`fields`, what --helpformat says.
"""

import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.mix import ELSEWHERE, SHAPE, SLEEP, Mix
from tests.sandbox.cluster import Sandbox

SEPARATOR = "\x1f0123abcd\x1f"
LATIN = b"caf\xe9".decode(errors="surrogateescape")  # bytes that are no UTF-8: here, "?" is what is left of them
# of `live` and `waiting`, where this release has them
LIVE = (
    "JobID", "JobIDRaw", "State", "Cluster", "SLUID", "Submit", "Eligible", "Start", "End", "ElapsedRaw", "Suspended",
    "User", "Account", "Partition", "QOS", "WCKey", "ExitCode", "TimelimitRaw", "Restarts", "AllocTRES", "TotalCPU",
    "MaxRSS", "NTasks", "TRESUsageInTot", "ConsumedEnergyRaw", "NodeList", "Reason", "JobName", "Comment",
    "AdminComment", "Extra", "SubmitLine", "WorkDir",
)  # fmt: skip
SAVED = (
    "JobID", "JobIDRaw", "JobName", "User", "Account", "Partition", "QOS", "State", "ExitCode", "Submit", "Eligible",
    "Start", "End", "Elapsed", "Suspended", "Timelimit", "AllocTRES", "TotalCPU", "MaxRSS", "NTasks", "ReqMem",
    "NodeList",
)  # fmt: skip


def sacct(sandbox: Sandbox, *options: str, **environ: str) -> bytes:
    """Return what sacct prints of all users' jobs."""
    is_whole = not any(option.startswith("--jobs") for option in options)
    window = ("--starttime=now-1hour", "--endtime=now+1hour") if is_whole else ()
    argv = ("sacct", "--allusers", "--duplicates", *window, *options)
    with sandbox.popen(*argv, user="root", env={"TZ": "UTC", **environ}, stdout=subprocess.PIPE) as process:
        out: bytes = process.communicate(timeout=60)[0]
    return out


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), SHAPE, bound=True)
    mix = Mix(sandbox)
    mix.arrange()
    mix.submit("latin", "carol", "true", f"--job-name={LATIN}", "--account=nlp", ELSEWHERE)
    mix.submit("waiting", "bob", SLEEP, "--array=0-5%1", ELSEWHERE)
    mix.submit("running", "alice", SLEEP, "--gpus=1", ELSEWHERE)
    mix.wait(lambda: mix.states()["running"] == ["RUNNING"], "one runs")
    # of tasks that wait for another, sacct tells only by the job's id
    ids = f"--jobs={mix.jobs['waiting']}"
    mix.wait(lambda: b"PENDING" in sacct(sandbox, "--parsable2", "--format=State", ids), "tasks wait for another")
    mix.wait(lambda: mix.states()["latin"] == ["COMPLETED"], "one is over")
    fields = sandbox.run("sacct", "--helpformat", user="root").stdout
    names = ",".join(name for name in LIVE if name in fields.split())
    live = ("--noheader", "--noconvert", "--parsable", f"--delimiter={SEPARATOR}", f"--format={names}")
    saved = f"--format={','.join(SAVED)}"
    (folder / "fields").write_text(fields)
    (folder / "live").write_bytes(sacct(sandbox, *live, SLURM_TIME_FORMAT="%s"))
    (folder / "waiting").write_bytes(sacct(sandbox, *live, ids, SLURM_TIME_FORMAT="%s"))
    (folder / "saved").write_bytes(sacct(sandbox, "--parsable2", saved))
    (folder / "saved-closed").write_bytes(sacct(sandbox, "--parsable", saved))
    (folder / "saved.json.gz").write_bytes(gzip.compress(sacct(sandbox, "--json"), mtime=0))
    sandbox.down()
    shutil.rmtree(sandbox.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
