"""Layers: which value wins, and where it came from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import checks, configuration, plan, user_settings
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.resources import TimeLimit

JOB = """
name = "a"
strategy = "single"
command = ["x"]
{more}
[roles.worker]
"""


def user_file(text: str) -> None:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "slurm-tf"
    (folder / "site_configs").mkdir(parents=True)
    (folder / "site_configs" / "uni.toml").write_text('[job]\naccount = "site"\ntime = 1\nqos = "site"\nname = "site"')
    (folder / "config.toml").write_text(text)


def test_each_layer_over_the_last(load: Callable[..., Job]) -> None:
    user_file('site = "uni"\n[job]\naccount = "user"\nqos = "user"\npartition = "user"\n')
    job = load(
        JOB.format(more='qos = "file"\npartition = "file"\nexclusive = true'),
        site="",
        environ={
            "SBATCH_PARTITION": "environment",
            "SBATCH_TIMELIMIT": "5",
            "SBATCH_RESERVATION": "r",
            "SBATCH_WAIT": "1",
        },
        set=("exclusive=false", "roles.worker.mem=4G", 'env.A="b c"'),
    )
    origins = {key: (value, origin) for key, value, origin in configuration.explain(job)}
    home = os.environ["XDG_CONFIG_HOME"]
    assert origins["site"] == ("uni", "")
    assert origins["account"] == ('"user"', f"{home}/slurm-tf/config.toml: job")
    assert origins["qos"] == ('"file"', str(job.path))
    assert origins["name"] == ('"a"', str(job.path))
    assert origins["time"] == ('"5"', "environment: SBATCH_TIMELIMIT")
    assert origins["partition"] == ('"environment"', "environment: SBATCH_PARTITION")
    assert origins["sbatch.reservation"] == ('"r"', "environment: SBATCH_RESERVATION")
    assert origins["exclusive"] == ("false", "command line: --set")
    assert origins["roles.worker.mem"] == ('"4G"', "command line: --set")
    assert origins["env.A"] == ('"b c"', "command line: --set")
    assert origins["checkpoint.keep"] == ("3", "built-in")


def test_an_error_names_the_layer_that_is_wrong(load: Callable[..., Job]) -> None:
    user_file('[job]\naccoun = "user"\n')
    with pytest.raises(ConfigError, match=r"config.toml: job: accoun: .*\nHINT: did you mean 'account'"):
        load(JOB.format(more=""))
    with pytest.raises(ConfigError, match=r"site uni: job"):
        Path(os.environ["XDG_CONFIG_HOME"], "slurm-tf", "site_configs", "uni.toml").write_text("[job]\nx = 1")
        Path(os.environ["XDG_CONFIG_HOME"], "slurm-tf", "config.toml").unlink()
        load(JOB.format(more=""), site="uni")


@pytest.mark.parametrize("override", ["x", "=1", ""])
def test_an_override_without_a_value(override: str, load: Callable[..., Job]) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        load(JOB.format(more=""), set=(override,))


def test_an_option_of_the_environment_that_is_ours(load: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match=r"environment: SBATCH_OUTPUT: found 'x'.*\nHINT: unset SBATCH_OUTPUT"):
        load(JOB.format(more=""), environ={"SBATCH_OUTPUT": "x"})


def test_a_secret_is_not_explained(load: Callable[..., Job]) -> None:
    job = load(JOB.format(more="") + '[env]\nHF_TOKEN = "s3cret"\nA = "b"')
    values = {key: value for key, value, _ in configuration.explain(job)}
    assert values["env.HF_TOKEN"] == "***"
    assert values["env.A"] == '"b"'


def test_a_user_file_that_others_write_is_refused(load: Callable[..., Job]) -> None:
    user_file("")
    Path(os.environ["XDG_CONFIG_HOME"], "slurm-tf", "config.toml").chmod(0o666)
    with pytest.raises(ConfigError, match="others can change it"):
        load(JOB.format(more=""))


def test_where_runs_go(load: Callable[..., Job]) -> None:
    assert load(JOB.format(more="")).runs == os.path.abspath("runs")
    assert load(JOB.format(more=""), environ={"SLURM_TF_RUNS": "/r"}).runs == "/r"


def test_which_client_asks_slurm() -> None:
    assert user_settings.client({}) == "commands"
    user_file('client = "pyslurm"\n')
    assert user_settings.client({}) == "pyslurm"
    assert user_settings.client({"SLURM_TF_CLIENT": "commands"}) == "commands"
    with pytest.raises(UsageError, match="found SLURM_TF_CLIENT=rest; needed commands or pyslurm"):
        user_settings.client({"SLURM_TF_CLIENT": "rest"})
    Path(os.environ["XDG_CONFIG_HOME"], "slurm-tf", "config.toml").write_text('client = "rest"\n')
    with pytest.raises(ConfigError, match=r"config.toml: client: "):
        user_settings.client({})


def test_paths_are_expanded_as_a_shell_does_or_refused(
    load: Callable[..., Job], job_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WORK", raising=False)
    profile = tmp_path / "uni.toml"
    for folder, path in {"~/r": "r", "$SCRATCH/r": "r", "${SCRATCH}": "."}.items():
        profile.write_text(f'shared = "{folder}"\n')
        expected = os.path.normpath(tmp_path / path)
        assert load(JOB.format(more=""), environ={"SLURM_TF_RUNS": folder}).runs == expected
        assert load(JOB.format(more=""), site=str(profile)).runs == expected
        assert plan.source_folder(load(JOB.format(more=f'chdir = "{folder}"'))) == expected
        typed = configuration.load(job_file(JOB.format(more="")), {}, "generic", (), {"chdir": folder})
        assert plan.source_folder(typed) == expected
    profile.write_text('shared = "$WORK/r"\n')
    refused: dict[str, dict[str, Any]] = {
        r"environment: SLURM_TF_RUNS": {"environ": {"SLURM_TF_RUNS": "$WORK/r"}},
        r"site .*uni.toml: shared": {"site": str(profile)},
    }
    for where, more in refused.items():
        with pytest.raises(
            ConfigError, match=rf"^{where}: found '\$WORK/r'; needed the variable WORK, which is not set"
        ):
            load(JOB.format(more=""), **more)
    with pytest.raises(ConfigError, match=r"^command line: --chdir: found '\$WORK/r'"):
        checks.check(configuration.load(job_file(JOB.format(more="")), {}, "generic", (), {"chdir": "$WORK/r"}))
    with pytest.raises(ConfigError, match=r"job.toml: chdir: found '\$WORK/r'"):
        plan.source_folder(load(JOB.format(more='chdir = "$WORK/r"')))


@pytest.mark.parametrize("value", ["$HOME/bin:$PATH", "/opt/bin:${PATH}", "x:$A"])
def test_a_value_of_env_that_is_meant_for_a_shell(value: str, fit: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)env.A: found .* is passed on as it is.*`setup`.*export A="):
        fit(JOB.format(more="") + f"[env]\nA = '{value}'\n")
    assert fit(JOB.format(more="") + "[env]\nA = 'pa$$word $(x) $1 $'\n").settings.env


def test_times_of_toml_and_a_byte_order_mark(load: Callable[..., Job], fit: Callable[..., Plan]) -> None:
    text = "\ufeff" + JOB.format(more="time = 12:00:00 # half a day") + "[sbatch]\nbegin = 2026-12-24T18:00:00\n"
    job = load(text)
    assert (job.spec.time, job.spec.sbatch["begin"]) == ("12:00:00", "2026-12-24T18:00:00")
    assert load(JOB.format(more=""), set=("time=01:30:00", "sbatch.deadline=2026-12-24")).spec.time == "01:30:00"
    assert ("time", "12:00:00") in fit(text).components[0].options
    with pytest.raises(ConfigError, match=r"time: found '12:00:00.500000'; needed a time as sbatch writes it"):
        fit(JOB.format(more="time = 12:00:00.5"))


@pytest.mark.parametrize(
    "line",
    ["time = 24:00:00", "time=1-00:00:00  # a day", "time = 90:00", "partition = gpu", "  roles.worker.mem = 4G"],
)
def test_a_value_that_toml_refuses_without_quotes(line: str, load: Callable[..., Job]) -> None:
    key, value = (part.strip() for part in line.partition("#")[0].split("="))
    with pytest.raises(ConfigError, match=r"at line \d+, ") as raised:
        load(JOB.format(more=line))
    assert raised.value.do.endswith(f'in quotes: {key} = "{value}"')


@pytest.mark.parametrize("line", ["a = 'x", "[[", 'time = "1', "a = [1"])
def test_an_error_of_toml_that_quotes_do_not_mend(line: str, load: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match="needed TOML") as raised:
        load(JOB.format(more=line))
    assert raised.value.do == ""


@pytest.mark.parametrize("value", ["0", "00:00:00", "0-0"])
def test_a_time_of_0_is_no_limit(value: str, fit: Callable[..., Plan]) -> None:
    """As for sbatch --time (sbatch(1) of Slurm 22.05)."""
    fitted = fit(JOB.format(more=f'time = "{value}"'))
    assert fitted.time_limit == TimeLimit(None)
    assert ("time", "UNLIMITED") in fitted.components[0].options
    assert fitted.settings.warning == fit(JOB.format(more='time = "UNLIMITED"')).settings.warning


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")
@pytest.mark.parametrize("named", [False, True])
def test_only_the_users_own_file_says_who_is_trusted(
    named: bool, load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "group" / "site_configs"
    folder.mkdir(parents=True)
    profile = folder / "uni.toml"
    profile.write_text("shared = '/shared'\n[recognise]\nhostnames = ['.*']\n[job]\naccount = 'group'\n")
    os.chown(profile, 1, -1)
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path / "group"))
    environ = {"SLURM_TF_SITE": "uni"} if named else {}
    with pytest.raises(ConfigError, match=f"{profile}: it belongs to daemon"):
        load(JOB.format(more=""), site="", environ=environ)
    # what only looks at runs goes on
    settings = user_settings.read(environ)
    assert (str(settings.unusable).partition(";")[0], settings.runs) == (
        f"{profile}: it belongs to daemon",
        str(Path("runs").absolute()),
    )
    user_file("trust = ['daemon']")
    Path(os.environ["XDG_CONFIG_HOME"], "slurm-tf", "site_configs", "uni.toml").unlink()  # it would come first
    assert load(JOB.format(more=""), site="", environ=environ).spec.account == "group"
    assert user_settings.read(environ).runs == "/shared"
    with pytest.raises(ConfigError, match="found the key 'trust'"):
        load(JOB.format(more="trust = ['daemon']"), site="", environ=environ)
    profile.write_text("trust = ['daemon']")
    with pytest.raises(ConfigError, match=r"uni\.toml: trust: found the key 'trust'"):
        load(JOB.format(more=""), site="uni", environ=environ)
