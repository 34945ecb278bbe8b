"""The srun of a step beside others, for each kind of job."""

from collections.abc import Callable

import pytest

from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import attached_step

# squeue --noheader --array --all --jobs=7_4 --Format=JobID:\x1f,ArrayTaskID:\x1f of Slurm 22.05.8
ROW = "9\x1f4\x1f\n"
OPTIONS = ["--nodelist=n1", "--nodes=1", "--ntasks=1", "--mpi=none", "--export=ALL", "--kill-on-bad-exit=0"]


@pytest.mark.parametrize(
    ("job", "words"),
    [("7", ["--jobid=7"]), ("7_4", ["--jobid=9"]), ("7+1", ["--jobid=7", "--het-group=1"])],
)
def test_each_kind_of_job(job: str, words: list[str], program: Callable[[str, str], None]) -> None:
    program("squeue", f"#!/bin/sh\nprintf '{ROW}'\n")
    argv = attached_step.srun_command(job, "n1", ["a b", "-c"], has_terminal=False)
    assert argv == ["srun", "--overlap", *words, *OPTIONS, "a b", "-c"]
    argv = attached_step.srun_command(job, "n1", ["sh"], has_terminal=True)
    assert argv == ["srun", "--overlap", *words, *OPTIONS, "--pty", "sh"]


def test_what_slurm_does_not_know(program: Callable[[str, str], None]) -> None:
    program("squeue", "#!/bin/sh\n")
    with pytest.raises(SlurmError, match="Slurm knows no job 7_4 that runs"):
        attached_step.srun_command("7_4", "n1", ["true"], has_terminal=False)
    with pytest.raises(SlurmError, match="found the job id '7_--help'"):
        attached_step.srun_command("7_--help", "n1", ["true"], has_terminal=False)
    with pytest.raises(UnreachableError, match="found no srun in PATH"):
        attached_step.become(["srun"], {"PATH": "/nowhere"})
    with pytest.raises(UnreachableError, match="found no srun in PATH"):
        attached_step.run(["srun"], {"PATH": "/nowhere"}, 2)
