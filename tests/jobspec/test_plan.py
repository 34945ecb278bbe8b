"""Plans: components, options as the site spells them, limits of partitions, the launcher's settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import configuration
from slurm_tf.jobspec import plan as plan_module
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import job_comment, json_file
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import LaunchSettings, RetrySettings, RoleSettings

HEAD = 'name = "a"\ncommand = ["x"]\n'
WORKERS = HEAD + 'strategy = "multi_worker"\n[roles.worker]\ncount = 4\n'
PS = HEAD + 'strategy = "ps"\n[roles.chief]\n{chief}\n[roles.worker]\ncount = 3\n{worker}\n[roles.ps]\n{ps}\n'


def options(plan: Plan, component: int = 0) -> dict[str, str | None]:
    return dict(plan.components[component].options)


def steps(plan: Plan) -> list[tuple[str, ...]]:
    return [step.roles for step in plan.layout.steps]


def site(tmp_path: Path, text: str) -> str:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return str(path)


def test_equal_needs_are_one_component(fit: Callable[..., Plan]) -> None:
    plan = fit(PS.format(chief="mem = '4G'", worker="mem = '4096M'", ps="mem = 4096"))
    assert steps(plan) == [("chief", "worker", "ps")]
    assert len(plan.components) == 1
    assert options(plan)["ntasks"] == "5"
    assert options(plan)["mem"] == "4G"


def test_other_partitions_are_a_component_for_the_roles_that_ask_for_the_same(fit: Callable[..., Plan]) -> None:
    plan = fit(PS.format(chief="", worker="gpus-per-task = 1\npartition = 'gpu'", ps=""))
    assert steps(plan) == [("chief", "ps"), ("worker",)]
    assert [options(plan, number)["ntasks"] for number in (0, 1)] == ["2", "3"]
    assert [step.first_rank for step in plan.layout.steps] == [0, 2]
    assert plan.layout.apart == "their partitions differ"
    assert "job-name" in options(plan, 0)
    assert "job-name" not in options(plan, 1)
    assert options(plan, 1)["partition"] == "gpu"
    assert options(plan, 1)["gpus-per-task"] == "1"
    assert [(role.name, role.gpus) for role in plan.settings.roles] == [("chief", 0), ("ps", 0), ("worker", 1)]


def test_accounting_can_tell_whose_hours_they_are(fit: Callable[..., Plan]) -> None:
    tags = {name: value for name, value in options(fit(WORKERS)).items() if name in ("job-name", "comment")}
    assert tags == {"job-name": "stf-a", "comment": "slurm-tf run=run-1/template=a"}
    assert job_comment.read_comment(str(tags["comment"])) == ("run-1", "a")
    hostile = "two words/template=x"
    assert job_comment.read_comment(job_comment.comment("r-1", hostile)) == ("r-1", hostile)
    assert job_comment.read_comment("mine/template=x") == job_comment.read_comment("slurm-tf run=x") == ("", "")


@pytest.mark.parametrize(
    ("more", "name", "comment"),
    [
        ({"set": ("name=b",)}, "stf-b", "slurm-tf run=run-1/template=b"),
        # what somebody typed stays
        ({"options": {"job-name": "mine", "comment": "for Ann"}}, "mine", "for Ann"),
        ({"environ": {"SBATCH_JOB_NAME": "mine"}}, "mine", "slurm-tf run=run-1/template=mine"),
        ({"set": ("sbatch.comment=for Ann",)}, "stf-a", "for Ann"),
        # longer than Slurm takes
        ({"set": (f"name={'x' * 990}",)}, f"stf-{'x' * 990}", None),
    ],
)
def test_names_and_comments_that_somebody_typed_stay(
    more: dict[str, Any], name: str, comment: str | None, job_file: Callable[[str], Path]
) -> None:
    values = [more.get("environ", {}), "generic", more.get("set", ()), more.get("options", {})]
    loaded = configuration.load(job_file(WORKERS), *values)
    found = dict(plan_module.fit(loaded, RunFolder("/runs/run-1")).components[0].options)
    assert (found["job-name"], found.get("comment")) == (name, comment)


def test_components_with_mem_come_last(fit: Callable[..., Plan]) -> None:
    # sbatch 22.05.8 passes --mem on to the components that follow
    plan = fit(PS.format(chief="mem = '8G'", worker="", ps="mem-per-cpu = '1G'"))
    assert steps(plan) == [("worker",), ("ps",), ("chief",)]
    assert [role.name for role in plan.settings.roles] == ["worker", "ps", "chief"]
    assert "job-name" in options(plan, 0)


def test_an_option_that_counts_for_the_job_is_written_once(fit: Callable[..., Plan]) -> None:
    text = PS.format(chief="", worker="gpus-per-task = 1", ps="partition = 'cpu'")
    once = {"licenses": "matlab:1", "mail-type": "END", "bb": "x", "nice": "5", "reservation": "r", "a-plugins": "p"}
    each = {"gres": "nvme:1", "hint": "nomultithread", "tmp": "10G"}
    plan = fit(text + "[sbatch]\n" + "".join(f"{name} = '{value}'\n" for name, value in {**once, **each}.items()))
    for name, value in once.items():
        assert [options(plan, number).get(name) for number in range(3)] == [value, None, None]
    for name, value in each.items():
        assert [options(plan, number).get(name) for number in range(3)] == [value] * 3


@pytest.mark.parametrize("name", ["nodelist", "nodefile"])
def test_nodes_that_every_component_would_need_are_refused(name: str, fit: Callable[..., Plan]) -> None:
    wanted = f"[sbatch]\n{name} = 'n1'\n"
    with pytest.raises(ConfigError, match=rf"sbatch.{name}: found {name}, and roles that are components with nodes"):
        fit(PS.format(chief="", worker="partition = 'gpu'", ps="") + wanted)
    assert options(fit(WORKERS + wanted))[name] == "n1"


@pytest.mark.parametrize(
    ("asked", "spelling", "found"),
    [
        ("mem = '8G'", "as-asked", {"mem": "8G"}),
        ("mem = '8G'", "none", {}),
        ("mem = '8G'\nntasks-per-node = 2\ncpus-per-task = 4", "mem-per-cpu", {"mem-per-cpu": "1G"}),
        ("mem-per-cpu = '1G'\nntasks-per-node = 2\ncpus-per-task = 4", "mem", {"mem": "8G"}),
    ],
)
def test_memory_as_the_site_spells_it(
    asked: str, spelling: str, found: dict[str, str], fit: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = fit(WORKERS + asked, site=site(tmp_path, f"mem-spelling = '{spelling}'"))
    assert {name: value for name, value in options(plan).items() if name.startswith("mem")} == found


def test_nodes_follow_from_tasks_a_node(fit: Callable[..., Plan]) -> None:
    plan = fit(WORKERS + "ntasks-per-node = 3")
    assert (options(plan)["nodes"], options(plan)["ntasks"], options(plan)["ntasks-per-node"]) == ("2", "4", "3")


LIMITS = (
    "[partitions.small]\nmax-time='1:00:00'\nmax-nodes=2\ncpus-per-node=8\nmem-per-node='16G'\ngpus-per-node='a100:2'\n"
)


@pytest.mark.parametrize(
    ("asked", "key", "numbers"),
    [
        ("cpus-per-task = 16", "roles.worker.cpus-per-task", ("16", "8")),
        ("cpus-per-task = 3\nntasks-per-node = 3", "roles.worker.cpus-per-task", ("9", "8")),
        ("mem = '20G'", "roles.worker.mem", ("20480", "16384")),
        ("gpus-per-task = 3", "roles.worker.gpus-per-task", ("3", "2")),
        ("gpus-per-node = 'a100:4'", "roles.worker.gpus-per-node", ("4", "2")),
        ("ntasks-per-node = 1", "roles.worker.ntasks-per-node", ("4", "2")),
    ],
)
def test_what_the_partition_cannot_give(
    asked: str, key: str, numbers: tuple[str, str], fit: Callable[..., Plan], tmp_path: Path
) -> None:
    where = site(tmp_path, "default-partition = 'small'\n" + LIMITS)
    fit(WORKERS, site=where)
    with pytest.raises(ConfigError, match=f"{key}: asks for {numbers[0]} .* at most {numbers[1]}.*'small'"):
        fit(WORKERS + asked, site=where)


def test_a_time_over_the_limit(fit: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"time: asks for 02:00:00; needed at most 01:00:00"):
        fit("time = '2:00:00'\npartition = 'small'\n" + WORKERS, site=site(tmp_path, LIMITS))


@pytest.mark.parametrize("time", ["UNLIMITED", "infinite", "0"])
def test_no_limit_is_over_the_limit(time: str, fit: Callable[..., Plan], tmp_path: Path) -> None:
    text = f"time = '{time}'\npartition = 'small'\n" + WORKERS
    with pytest.raises(ConfigError, match=r"time: asks for UNLIMITED; needed at most 01:00:00, the limit of partition"):
        fit(text, site=site(tmp_path, LIMITS))
    fit(text, site=site(tmp_path, LIMITS.replace("1:00:00", "UNLIMITED")))
    fit(text.replace(time, "365-0"), site=site(tmp_path, LIMITS.replace("1:00:00", "UNLIMITED")))


LISTED = (
    LIMITS.replace("max-nodes=2", "max-nodes=4")
    + "[partitions.long]\nmax-time='2-0'\ncpus-per-node=4\ngpus-per-node='t4:4,v100:1'\n"
)


def test_a_list_of_partitions_is_refused_where_none_of_it_can(fit: Callable[..., Plan], tmp_path: Path) -> None:
    """As sbatch: the job starts in one of them that can."""
    where = site(tmp_path, LISTED)
    listed = "partition = 'small,long'\n" + WORKERS
    assert options(fit("time = '1-0'\n" + listed, where))["partition"] == "small,long"
    fit(listed + "cpus-per-task = 8", where)
    fit("time = '3-0'\n" + listed.replace("long", "unknown"), where)
    both = (
        "asks for 3-00:00:00; needed at most 01:00:00, the limit of partition 'small'; at most 2-00:00:00, the limit "
    )
    with pytest.raises(ConfigError, match=f"^command line: --set: time: {both}of partition 'long'"):
        fit(listed, where, set=("time=3-0",))
    with pytest.raises(ConfigError, match="time: asks for 1-00:00:00, 8 CPUs on a node; needed at most 01:00:00"):
        fit("time = '1-0'\n" + listed + "cpus-per-task = 8", where)


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("gpus-per-task = 'k80:1'", "gpus-per-task: asks for GPUs of type k80; needed of type t4 or v100, those of "),
        ("gpus-per-node = 'v100:2'", "gpus-per-node: asks for 2 v100 GPUs on a node; needed at most 1, the limit of "),
        (
            "gpus-per-task = 'v100'\nntasks-per-node = 2",
            "gpus-per-task: asks for 2 v100 GPUs on a node; needed at most 1",
        ),
        ("gpus = 'v100:4'\nntasks-per-node = 2", "gpus: asks for 2 v100 GPUs on a node; needed at most 1"),
        ("gpus-per-node = 't4:4,v100:1'", ""),
        ("gpus-per-node = 5", ""),
        ("gpus-per-task = 'v100'", ""),
        ("gpus-per-task = 'k80:0'", ""),
    ],
)
def test_types_of_gpus_are_those_of_the_partition(
    gpus: str, message: str, fit: Callable[..., Plan], tmp_path: Path
) -> None:
    text = "partition = 'long'\n" + WORKERS + gpus
    if message:
        with pytest.raises(ConfigError, match=f"roles.worker.{message}"):
            fit(text, site(tmp_path, LISTED))
    else:
        fit(text, site(tmp_path, LISTED))
    fit(text, site(tmp_path, LISTED.replace("t4:4,v100:1", "5")))


def test_pass_through_and_flags(fit: Callable[..., Plan]) -> None:
    plan = fit(WORKERS + "[sbatch]\nhold = true\nnice = 5\nreservation = ''\nspread-job = false\nno-requeue = true")
    found = options(plan)
    assert found["hold"] is None
    assert found["nice"] == "5"
    assert "no-requeue" in found
    assert not {"reservation", "spread-job", "requeue"} & set(found)


def test_exclusive_of_site_and_job(fit: Callable[..., Plan], tmp_path: Path) -> None:
    alone = site(tmp_path, "exclusive = true")
    assert "exclusive" in options(fit(WORKERS, site=alone))
    assert "exclusive" not in options(fit("exclusive = false\n" + WORKERS, site=alone))
    assert "exclusive" not in options(fit(WORKERS))


@pytest.mark.parametrize(("strategy", "bad_exit"), [("ps", "0"), ("between_graph", "0"), ("multi_worker", "1")])
def test_sruns_options_are_always_said(strategy: str, bad_exit: str, fit: Callable[..., Plan]) -> None:
    roles = "[roles.worker]\ncpus-per-task = 2\n" + ("[roles.ps]\ncpus-per-task = 2\n" if bad_exit == "0" else "")
    roles += "[roles.chief]\ncpus-per-task = 2\n" if strategy == "ps" else ""
    srun = dict(fit(f"{HEAD}strategy = '{strategy}'\n{roles}").layout.steps[0].srun)
    assert srun["export"] == "ALL"
    assert srun["wait"] == "0"
    assert srun["kill-on-bad-exit"] == bad_exit
    assert srun["cpus-per-task"] == "2"
    assert ("no-kill" in srun) == (bad_exit == "0")


HOROVOD = HEAD + 'strategy = "horovod"\n[roles.worker]\ncount = 3\n'


def test_horovods_controller_says_how_srun_starts_it(fit: Callable[..., Plan], tmp_path: Path) -> None:
    def found(text: str, site: str = "generic") -> tuple[str | None, str]:
        made = fit(text, site=site)
        return dict(made.layout.steps[0].srun)["mpi"], made.settings.horovod

    over_mpi = HOROVOD + "[horovod]\ncontroller = 'mpi'\n"
    assert found(HOROVOD) == ("none", "gloo")
    assert found(over_mpi) == ("pmix", "mpi")
    assert found(over_mpi, site(tmp_path, "mpi = 'pmix_v4'")) == ("pmix_v4", "mpi")
    assert found(WORKERS) == ("none", "")
    with pytest.raises(ConfigError, match=r"horovod\.controller: found mpi; needed gloo"):
        fit(over_mpi, site="local")


def test_settings_come_back_from_json(fit: Callable[..., Plan], tmp_path: Path) -> None:
    text = (
        WORKERS + "[env]\nA = 'é'\n[checkpoint]\nevery-steps = 5\nkeep = 2\n[launch]\nwait = '0:30'\nmax-restarts = 2"
    )
    settings = fit(text, site=site(tmp_path, "ports = '20000-20100'\ninterface = 'ib0'")).settings
    assert json_file.parse(json_file.dumps(settings), LaunchSettings, "launch.json") == settings
    assert settings.roles == (RoleSettings("worker", 4, 0, ("x",)),)
    assert settings.ports == (20000, 20100)
    assert (settings.wait, settings.max_restarts, settings.train.checkpoint_keep) == (30.0, 2, 2)
    assert (settings.train.checkpoint_every, settings.train.checkpoint_every_steps) == (None, 5)


def test_a_roles_own_command_goes_before_the_jobs(fit: Callable[..., Plan], tmp_path: Path) -> None:
    mpi = site(tmp_path, "[job.roles.worker]\ncommand = ['/opt/python3', 'a.py']")
    text = 'name = "a"\nstrategy = "ps"\npreflight = "mpi"\n[roles.chief]\n[roles.worker]\n[roles.ps]\n'
    plan = fit(text, mpi, set=('command=["x"]', 'roles.ps.command=["y", "z"]'))
    commands = {role.name: role.command for role in plan.settings.roles}
    assert commands == {"chief": ("x",), "worker": ("/opt/python3", "a.py"), "ps": ("y", "z")}
    assert plan.settings.preflight_mpi[0] == "/opt/python3"
    each = [f'roles.{name}.command=["{name}"]' for name in commands]
    assert [role.command for role in fit(text, set=tuple(each)).settings.roles] == [("chief",), ("worker",), ("ps",)]


def test_time_and_steps_may_both_decide(fit: Callable[..., Plan]) -> None:
    settings = fit(WORKERS + "[checkpoint]\nevery = 5\nevery-steps = 7").settings
    assert (settings.train.checkpoint_every, settings.train.checkpoint_every_steps) == (300.0, 7)
    assert settings.train.mtbf is None


def test_the_interval_between_checkpoints_follows_the_nodes_failures(fit: Callable[..., Plan], tmp_path: Path) -> None:
    settings = fit(WORKERS).settings
    assert (settings.train.checkpoint_every, settings.train.checkpoint_every_steps) == (None, None)
    assert settings.train.mtbf == 86400.0
    mine = site(tmp_path, 'node-mtbf = "30-00:00:00"\n')
    assert fit(WORKERS, site=mine).settings.train.mtbf == 30 * 86400.0
    assert fit(WORKERS + '[checkpoint]\nevery = "auto"\nevery-steps = 9\n').settings.train.mtbf == 86400.0
    with pytest.raises(ConfigError, match=r"checkpoint.every: found 'automatic'; needed a time"):
        fit(WORKERS + '[checkpoint]\nevery = "automatic"\n')


def test_explain_shows_that_the_interval_is_chosen(load: Callable[..., Job]) -> None:
    assert ("checkpoint.every", '"auto"', "built-in") in configuration.explain(load(WORKERS))


def test_a_path_that_slurm_cannot_hold(fit: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match="backslash"):
        fit("chdir = 'a\\b'\n" + WORKERS)
    fit("chdir = 'a\\b'\n" + WORKERS, site="local")


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("", "B:USR1@120"),
        ("time = 60", "B:USR1@120"),
        ("time = 10", "B:USR1@120"),
        ("time = 1", "B:USR1@12"),
        ("time = 'UNLIMITED'", "B:USR1@120"),
        ("time = 60\n[checkpoint]\nwarning = '5:00'", "B:USR1@300"),
    ],
)
def test_a_job_is_warned_before_its_time_limit(text: str, signal: str, fit: Callable[..., Plan]) -> None:
    plan = fit(HEAD + f'strategy = "multi_worker"\n{text}\n[roles.worker]\n')
    assert options(plan)["signal"] == signal
    assert plan.settings.warning == ("USR1", float(signal.partition("@")[2]))


def test_who_would_not_save_is_not_warned(fit: Callable[..., Plan]) -> None:
    text = HEAD + 'strategy = "between_graph"\n{}\n[roles.worker]\n[roles.ps]\nmem = "1G"\n'
    plan = fit(text.format(""))
    assert not any("signal" in options(plan, number) for number in range(2))
    assert plan.settings.warning == ("", 0.0)
    plan = fit(text.format('[checkpoint]\nsignal = "USR2"'))
    assert ["signal" in options(plan, number) for number in range(2)] == [True, False]
    assert plan.settings.checkpoint_signal == "USR2"
    plan = fit(WORKERS, site="local")
    assert (plan.settings.warning, plan.settings.goes_on) == (("", 0.0), False)


@pytest.mark.parametrize(
    ("own", "warning"),
    [
        ("USR2", ("USR2", 60.0)),
        ("SIGTERM@30", ("TERM", 30.0)),
        ("B:10@300", ("USR1", 300.0)),
        ("R:usr1@5", ("USR1", 5.0)),
        ("RB:HUP@7", ("HUP", 7.0)),
    ],
)
def test_a_signal_of_the_users_own_wins_and_is_understood(
    own: str, warning: tuple[str, float], fit: Callable[..., Plan]
) -> None:
    plan = fit(WORKERS + f"[sbatch]\nsignal = '{own}'\n")
    assert options(plan)["signal"] == own
    assert plan.settings.warning == warning


@pytest.mark.parametrize("own", ["KILL@60", "INT", "B:", "B:USR1@", "64", "USR1@60 ", ""])
def test_a_signal_that_says_something_else_is_refused(own: str, fit: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match=r"sbatch\.signal: found .*one of HUP, TERM, USR1, USR2"):
        fit(WORKERS + f"[sbatch]\nsignal = '{own}'\n")


def test_retries_are_the_job_files(fit: Callable[..., Plan]) -> None:
    assert fit(WORKERS).settings.retry == RetrySettings(
        permanent=(2, 64, 65, 69, 70, 73, 76, 77, 78, 126, 127, 130),
        retryable=(75,),
        unknown=3,
        fruitless=3,
        wait=120.0,
    )
    plan = fit(WORKERS + "[retry]\npermanent = []\nretryable = [9]\nunknown = 0\nfruitless = 5\nwait = '0:01'\n")
    assert plan.settings.retry == RetrySettings((), (9,), 0, 5, 1.0)
    assert json_file.parse(json_file.dumps(plan.settings), LaunchSettings, "launch.json") == plan.settings


def test_a_job_that_is_not_to_be_put_back_is_not(fit: Callable[..., Plan]) -> None:
    assert fit(WORKERS).settings.goes_on
    assert fit(WORKERS + "[sbatch]\nrequeue = true\n").settings.goes_on
    assert not fit(WORKERS + "[sbatch]\nno-requeue = true\n").settings.goes_on
