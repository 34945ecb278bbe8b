"""sbatch's own command line."""

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.jobspec import sbatch_options


@pytest.mark.parametrize(
    ("words", "plain", "found"),
    [
        (["job.toml", "-p", "gpu", "-t", "10:00"], ["job.toml"], {"partition": "gpu", "time": "10:00"}),
        (["-pgpu", "job.toml"], ["job.toml"], {"partition": "gpu"}),
        (["--comment=a=b", "--mem-bind", "local"], [], {"comment": "a=b", "mem-bind": "local"}),
        (
            ["--hold", "x", "--exclusive", "y", "--nice", "z"],
            ["x", "y", "z"],
            {"hold": True, "exclusive": True, "nice": True},
        ),
        (["--exclusive=user", "--nice=5"], [], {"exclusive": "user", "nice": "5"}),
        (["-HW", "-k", "x"], ["x"], {"hold": True, "wait": True, "no-kill": True}),
        (["-HJname"], [], {"hold": True, "job-name": "name"}),
        (["--dependency", "afterok:1", "--dependency=afterok:2"], [], {"dependency": "afterok:2"}),
        (["--a-new-option", "value", "-"], ["-"], {"a-new-option": "value"}),
        (["-t", "1", "--", "-p", "--x"], ["-p", "--x"], {"time": "1"}),
    ],
)
def test_as_sbatch_reads_it(words: list[str], plain: list[str], found: dict[str, str | bool]) -> None:
    assert sbatch_options.parse(words) == (plain, found)


@pytest.mark.parametrize(("words", "message"), [(["-Z", "1"], "-Z"), (["-p"], "-p has no value"), (["--mem"], "--mem")])
def test_what_it_is_not(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sbatch_options.parse(words)
