"""Options of sbatch: each of them, on the command line, in a variable and in [sbatch], as sbatch reads it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import checks, configuration, sbatch_options, sbatch_table
from slurm_tf.jobspec import plan as plan_module
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.sbatch_table import ALIASES, OPTIONS, Argument, SbatchOption, Use
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import in_job, sbatch_variables
from slurm_tf.submit import render
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

JOB = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\n{more}\n[roles.worker]\n'
# Not documented: what a shell's completion asks, and what plugins alone may set.
HIDDEN = {"autocomplete", "external"}
# Values where not every text will do.
VALUES = {"signal": "USR1@60", "array": "0-3", "time": "00:10:00", "exclusive": "user"}


def rows(name: str) -> list[list[str]]:
    lines = (ROOT / "tests" / "vectors" / name).read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


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
        (["-koff", "--no-kill=off"], [], {"no-kill": "off"}),
        (["-HJname"], [], {"hold": True, "job-name": "name"}),
        (["-vQv", "--verbose", "-B", "2:4", "x"], ["x"], {"verbose": "3", "quiet": True, "extra-node-info": "2:4"}),
        (["--test-only", "--ignore-pbs", "x"], ["x"], {"test-only": True, "ignore-pbs": True}),
        (["--dependency", "afterok:1", "--dependency=afterok:2"], [], {"dependency": "afterok:2"}),
        (["--part", "gpu", "--gpus-per-n=2", "--wait"], [], {"partition": "gpu", "gpus-per-node": "2", "wait": True}),
        (["--tasks-per-node=2", "--cluster", "b"], [], {"ntasks-per-node": "2", "clusters": "b"}),
        (["--wait-all-nodes", "1", "--oversubscribe", "x"], ["x"], {"wait-all-nodes": "1", "oversubscribe": True}),
        (["--a-new-option", "value", "-"], ["-"], {"a-new-option": "value"}),
        (["-t", "1", "--", "-p", "--x"], ["-p", "--x"], {"time": "1"}),
    ],
)
def test_as_sbatch_reads_it(words: list[str], plain: list[str], found: dict[str, str | bool]) -> None:
    assert sbatch_options.parse(words) == (plain, found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-Z", "1"], "-Z"),
        (["-p"], "-p has no value"),
        (["--mem"], "--mem"),
        (["--hold=yes"], "found --hold=yes; needed --hold, which takes no value"),
        (["--mail", "END"], "found --mail; needed one of --mail-type, --mail-user"),
    ],
)
def test_what_it_is_not(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sbatch_options.parse(words)


def _check_option_of_release(release: str, name: str, letter: str, argument: str) -> None:
    if name in HIDDEN:
        return
    option = OPTIONS[ALIASES.get(name, name)]
    assert letter == ("" if name in ALIASES else option.letter)
    kind = Argument[argument.upper()]
    if (name, release) in {("requeue", "22.05.8"), ("get-user-env", "26.05.3")}:  # the other release has a value
        kind = Argument.OPTIONAL
    assert option.argument is kind


def test_every_option_of_sbatch_is_known(subtests: pytest.Subtests) -> None:
    for release, name, letter, argument, *_ in rows("sbatch-options.tsv"):
        with subtests.test(release=release, option=name):
            _check_option_of_release(release, name, letter, argument)


def test_every_option_of_its_help_is_known() -> None:
    text = (ROOT / "tests" / "recorded" / "slurm-22.05.8" / "sbatch-help.txt").read_text()
    found = re.findall(r"^ {2}(?:-(\w),? +| {4})--([a-z0-9-]+)", text, re.MULTILINE)
    assert len(found) > 85
    for letter, name in found:
        assert OPTIONS[name].letter == letter


def test_no_option_is_invented() -> None:
    assert set(OPTIONS) | set(ALIASES) | HIDDEN == {row[1] for row in rows("sbatch-options.tsv")}
    assert set(sbatch_table.RESTRICTED) <= set(OPTIONS)


def test_options_of_a_component_are_those_that_sbatch_forgets_before_each() -> None:
    kept = {name for name, option in OPTIONS.items() if option.use is Use.KEPT}
    of_each = {row[1] for row in rows("sbatch-options.tsv") if row[4] == "each"} & kept
    # the mails are of the first component, licenses and such are taken once
    counted_once = {"bb", "licenses", "mail-type", "mail-user", "power", "resources", *sbatch_table.NOT_OF_COMPONENTS}
    assert of_each - counted_once == sbatch_table.OF_COMPONENT


def word(option: SbatchOption) -> tuple[str, str | None]:
    """Return an option as it is typed, and its value."""
    value = None if option.argument is Argument.NONE else VALUES.get(option.name, "v")
    return f"--{option.name}" + (f"={value}" if value else ""), value


def fitted(job: Job, tmp_path: Path) -> Plan:
    return plan_module.fit(job, RunFolder(str(tmp_path / "runs" / "run-1")))


def _check_option_on_the_command_line(option: SbatchOption, job_file: Callable[[str], Path], tmp_path: Path) -> None:
    typed, value = word(option)
    path = job_file(JOB.format(more=""))
    _, options = sbatch_options.parse([typed])

    def script() -> str:
        return render.script(fitted(configuration.load(path, {}, "generic", (), options), tmp_path))

    if option.use is Use.KEPT:
        assert re.search(rf"^#SBATCH {re.escape(typed)}$", script(), re.MULTILINE)
    elif option.use is Use.KEY:
        spec = configuration.load(path, {}, "generic", (), options).spec
        assert str(getattr(spec, option.instead)).endswith(value or "")
        assert re.search(rf"^#SBATCH --{option.name}=.*{re.escape(value or '')}$", script(), re.MULTILINE)
    elif option.use is Use.VERB:
        assert option.name in sbatch_options.OF_VERB
    else:
        with pytest.raises(ConfigError) as error:
            script()
        assert str(error.value).startswith(f"command line: --{option.name}: found ")
        assert option.instead in error.value.needed


def test_each_option_on_the_command_line(
    subtests: pytest.Subtests, job_file: Callable[[str], Path], tmp_path: Path
) -> None:
    for option in OPTIONS.values():
        with subtests.test(option=option.name):
            _check_option_on_the_command_line(option, job_file, tmp_path)


def _check_option_in_a_file(option: SbatchOption, load: Callable[..., Job], tmp_path: Path) -> None:
    _, value = word(option)
    text = JOB.format(more=f"[sbatch]\n{option.name} = " + (f'"{value}"' if value else "true"))
    if option.use is not Use.KEPT:
        with pytest.raises(
            ConfigError, match=rf"job.toml: sbatch.{option.name}: found the option {option.name}; needed "
        ):
            load(text)
        return
    written = render.script(fitted(load(text), tmp_path))
    assert re.search(rf"^#SBATCH {re.escape(word(option)[0])}$", written, re.MULTILINE)


def test_each_option_in_a_file(subtests: pytest.Subtests, load: Callable[..., Job], tmp_path: Path) -> None:
    for option in OPTIONS.values():
        with subtests.test(option=option.name):
            _check_option_in_a_file(option, load, tmp_path)


def _check_variable(release: str, variable: str, source: str, load: Callable[..., Job], tmp_path: Path) -> None:
    assert source in ("man", "source"), release
    option = OPTIONS[sbatch_variables.OPTIONS[variable]]
    if variable in sbatch_variables.FOR_SBATCH:
        assert in_job.environ_for_sbatch({variable: "1"}) == {variable: "1"}
        assert load(JOB.format(more=""), environ={variable: "1"}).spec.sbatch == {}
        return
    assert in_job.environ_for_sbatch({variable: "1"}) == {}
    value = "1" if option.argument is Argument.NONE else VALUES.get(option.name, "v")
    if option.use is Use.REFUSED:
        with pytest.raises(ConfigError, match=rf"environment: {variable}: found .*\nHINT: unset {variable}"):
            load(JOB.format(more=""), environ={variable: value})
        assert load(JOB.format(more=""), environ={variable: ""}).spec.sbatch == {}
        return
    job = load(JOB.format(more=""), environ={variable: value})
    if option.use is Use.KEPT:
        written = "requeue" if variable == "SBATCH_REQUEUE" else word(option)[0].removeprefix("--")
        shown = render.script(fitted(job, tmp_path))
        assert f"\n#SBATCH --{written}\n" in shown or variable == "SBATCH_REQUEUE"
    elif option.use is Use.KEY:
        assert str(getattr(job.spec, option.instead)) == value
    if option.argument is not Argument.NONE:  # empty, it is an option without its value, or nothing
        unset, empty = (
            dict(fitted(load(JOB.format(more=""), environ=environ), tmp_path).components[0].options)
            for environ in ({}, {variable: ""})
        )
        assert empty == (unset if option.argument is Argument.REQUIRED else {**unset, option.name: None})


def test_each_variable(subtests: pytest.Subtests, load: Callable[..., Job], tmp_path: Path) -> None:
    for release, variable, source in rows("sbatch-variables.tsv"):
        with subtests.test(release=release, variable=variable):
            _check_variable(release, variable, source, load, tmp_path)


@pytest.mark.parametrize(
    ("value", "is_set"),
    [
        ("", True),
        ("yes", True),
        ("YES", True),
        ("1", True),
        ("-2", True),
        ("0", False),
        ("no", False),
        ("true", False),
        ("1x", False),
    ],
)
@pytest.mark.parametrize("variable", ["SBATCH_OVERCOMMIT", "SBATCH_USE_MIN_NODES", "SBATCH_SPREAD_JOB"])
def test_a_variable_of_a_flag(
    variable: str, value: str, is_set: bool, load: Callable[..., Job], tmp_path: Path
) -> None:
    name = OPTIONS[sbatch_variables.OPTIONS[variable]].name
    more = f"[sbatch]\n{name} = true"
    plan = fitted(load(JOB.format(more=more), environ={variable: value}), tmp_path)
    assert (name in dict(plan.components[0].options)) is is_set
    assert dict(plan.components[0].options).get(name) is None


@pytest.mark.parametrize(
    ("environ", "table", "site", "written"),
    [
        ({}, "", "requeue = true", "requeue"),
        ({}, "", "requeue = false", "no-requeue"),
        ({}, "requeue = false", "requeue = true", "no-requeue"),
        ({}, "no-requeue = false", "requeue = false", "requeue"),
        ({}, "no-requeue = true", "requeue = true", "no-requeue"),
        ({}, "", "[job.sbatch]\nrequeue = false", "no-requeue"),
        # a later layer wins, whichever of the two names it uses
        ({}, "requeue = true", "[job.sbatch]\nno-requeue = true", "requeue"),
        ({"SBATCH_NO_REQUEUE": "1"}, "requeue = true", "requeue = true", "no-requeue"),
        ({"SBATCH_NO_REQUEUE": "0"}, "requeue = false", "requeue = true", "requeue"),
        ({"SBATCH_REQUEUE": ""}, "no-requeue = true", "requeue = false", "requeue"),
        ({"SBATCH_REQUEUE": "expedite"}, "", "requeue = false", "requeue=expedite"),
        ({"SBATCH_NO_REQUEUE": "yes", "SBATCH_REQUEUE": "yes"}, "", "requeue = false", "requeue"),
    ],
)
def test_requeue_is_always_said(
    environ: dict[str, str], table: str, site: str, written: str, load: Callable[..., Job], tmp_path: Path
) -> None:
    (tmp_path / "site.toml").write_text(site)
    job = load(JOB.format(more=f"[sbatch]\n{table}"), site=str(tmp_path / "site.toml"), environ=environ)
    plan = fitted(job, tmp_path)
    assert re.findall(r"^#SBATCH --((?:no-)?requeue.*)$", render.script(plan), re.MULTILINE) == [written]
    assert plan.settings.goes_on is (site == "requeue = false" or written != "no-requeue")


@pytest.mark.parametrize(
    ("table", "written"),
    [
        ("no-kill = false", "no-kill=off"),
        ("propagate = false", "propagate=NONE"),
        ("kill-on-invalid-dep = false", "kill-on-invalid-dep=no"),
        ("kill-on-invalid-dep = true", "kill-on-invalid-dep=yes"),
        ("wait-all-nodes = false", "wait-all-nodes=0"),
        ("wait-all-nodes = true", "wait-all-nodes=1"),
        ("oom-kill-step = false", "oom-kill-step=0"),
        ("nice = true", "nice"),
    ],
)
def test_yes_and_no_are_said(table: str, written: str, load: Callable[..., Job], tmp_path: Path) -> None:
    plan = fitted(load(JOB.format(more=f"[sbatch]\n{table}")), tmp_path)
    assert f"\n#SBATCH --{written}\n" in render.script(plan)


FLAGS = [each.name for each in OPTIONS.values() if each.argument is not Argument.REQUIRED and each.use is Use.KEPT]


@pytest.mark.parametrize("name", FLAGS)
def test_a_false_flag_overrides_a_true_one(name: str, load: Callable[..., Job], tmp_path: Path) -> None:
    """It becomes its opposite or is refused; it is only dropped where Slurm does nothing without it."""
    text = JOB.format(more=f"[sbatch]\n{name} = true")
    if name == "oversubscribe":
        with pytest.raises(ConfigError, match="found false; needed true: without it the partition decides"):
            load(text, set=(f"sbatch.{name}=false",))
        return
    before = [line for line in render.script(fitted(load(text), tmp_path)).splitlines() if line.startswith("#SBATCH")]
    now = render.script(fitted(load(text, set=(f"sbatch.{name}=false",)), tmp_path)).splitlines()
    gone = [line for line in before if line not in now]
    assert gone == [f"#SBATCH --{name}"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("hold = 1", r"sbatch.hold: found 1; needed true or false"),
        ('hold = "yes"', r"sbatch.hold: found 'yes'; needed true or false"),
        ("reservation = true", r"sbatch.reservation: found true; needed a value"),
        ("comment = false", r"sbatch.comment: found false; needed a value"),
        ("requeue = true\nno-requeue = true", r"found no-requeue and another name of the same option"),
        ('mail_type = "END"', r"found the option 'mail_type'; .*\nHINT: did you mean 'mail-type'"),
        ('gre = "nvme:1"', r"found the option 'gre'; .*\nHINT: did you mean 'gres'"),
        ("wait = true", r"found the option wait; needed it on the command line: slurm-tf submit JOB --wait"),
        ('gres = "help"', r"found 'help'; needed a value\nHINT: sbatch --gres=help prints what there is"),
    ],
)
def test_what_a_table_cannot_say(table: str, message: str, load: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match=message):
        load(JOB.format(more=f"[sbatch]\n{table}"))


def test_what_is_not_sbatchs_is_the_users_own(load: Callable[..., Job]) -> None:
    mine = {"SBATCH_ARGS": "-p x", "SBATCH_CONTIGUOUS": "1", "SBATCH_COMMENT": "c", "SBATCH_": ""}
    assert load(JOB.format(more=""), environ=mine).spec == load(JOB.format(more="")).spec
    assert in_job.environ_for_sbatch(mine) == mine
    # what sbatch sets in a job is not the next job's
    inside = {"SLURM_JOB_ID": "1", "SBATCH_MEM_BIND_TYPE": "rank", "SBATCH_CPU_BIND": "x", "SBATCH_ARGS": "y"}
    assert in_job.environ_for_sbatch(inside) == {"SBATCH_ARGS": "y"}


def test_of_two_variables_the_one_that_sbatch_reads_last_counts(load: Callable[..., Job]) -> None:
    job = load(JOB.format(more=""), environ={"SLURM_HINT": "compute_bound", "SBATCH_HINT": "memory_bound"})
    assert job.spec.sbatch == {"hint": "memory_bound"}
    assert job.origins["sbatch.hint"] == "environment: SBATCH_HINT"
    clusters = {"SBATCH_CLUSTERS": "a", "SLURM_CLUSTERS": "b"}
    assert load(JOB.format(more=""), environ=clusters).spec.sbatch == {"clusters": "b"}
    assert load(JOB.format(more=""), environ=clusters, set=("sbatch.clusters=c",)).spec.sbatch == {"clusters": "c"}
    # sbatch would prefer it to what the script has
    assert in_job.environ_for_sbatch(clusters) == {}


def test_an_option_that_is_not_known_is_written_as_it_is(load: Callable[..., Job], tmp_path: Path) -> None:
    """It may be a site's own, or of a newer release."""
    plan = fitted(load(JOB.format(more='[sbatch]\nx11-proxy = "y"\nauks = true\nlater = false')), tmp_path)
    options: dict[str, Any] = dict(plan.components[0].options)
    assert (options["x11-proxy"], options["auks"]) == ("y", None)
    assert "later" not in options


@pytest.mark.parametrize(
    ("name", "value", "key", "hint"),
    [
        ("gres", "gpu:2", "gpus-per-node", "gpus-per-node=2"),
        ("gres", "gpu", "gpus-per-node", "gpus-per-node=1"),
        ("gres", "gpu:a100", "gpus-per-node", "gpus-per-node=a100"),
        ("gres", "gpu:a100:2,gpu:t4:1", "gpus-per-node", "gpus-per-node=a100:2,t4:1"),
        ("gres", "nvme:100,gpu:2080ti:2", "gpus-per-node", "gpus-per-node=2080ti:2 --gres=nvme:100"),
        ("gres", "gres:gpu:2", "gpus-per-node", "gpus-per-node=2"),
        ("tres-per-task", "cpu:2,gres/gpu:a100:1", "gpus-per-task", "gpus-per-task=a100:1 --tres-per-task=cpu:2"),
        ("tres-per-task", "gres/gpu=1", "gpus-per-task", "gpus-per-task=1"),
        ("gpus", "2", "gpus", None),
        ("gpus-per-socket", "2", "gpus-per-node", None),
        ("ntasks-per-gpu", "2", "gpus-per-task", None),
    ],
)
def test_each_way_to_ask_for_gpus_names_the_roles_key(
    name: str, value: str, key: str, hint: str | None, load: Callable[..., Job]
) -> None:
    """As an option, as a key of [sbatch], of the site's, and as a variable."""
    variables = [each for each, stands_for in sbatch_variables.OPTIONS.items() if stands_for == name]
    path = load(JOB.format(more="")).path
    site, in_file = path.with_name("site.toml"), path.with_name("in_file.toml")
    site.write_text(f'[job.sbatch]\n{name} = "{value}"')
    in_file.write_text(JOB.format(more=f'[sbatch]\n{name} = "{value}"'))
    ways: list[tuple[Path, dict[str, str], str, dict[str, str | bool]]] = [
        (path, {}, "generic", {name: value}),
        (path, {}, str(site), {}),
        (in_file, {}, "generic", {}),
        *((path, {variable: value}, "generic", {}) for variable in variables),
    ]
    found = []
    for job, environ, of_site, options in ways:
        with pytest.raises(ConfigError) as error:
            checks.check(configuration.load(job, environ, of_site, (), options))
        found.append(error.value)
    assert {f"`{key}` in a role's table" in each.needed for each in found} == {True}
    typed = [each.do for each in found if each.where.startswith(("command line: ", "environment: "))]
    in_files = [each.do for each in found if each.do not in typed]
    assert hint is None or {f"say --set roles.worker.{hint}" in each for each in typed} == {True}
    assert hint is None or {f"below [roles.worker]: {key} = " in each for each in in_files} == {True}


@pytest.mark.parametrize("gres", ["nvme:100", "shard:2", "mps:50", "none", "gpumem:8", "tmp:1,nvme"])
def test_other_gres_are_kept(gres: str, load: Callable[..., Job], tmp_path: Path) -> None:
    plan = fitted(load(JOB.format(more=f'[sbatch]\ngres = "{gres}"')), tmp_path)
    assert dict(plan.components[0].options)["gres"] == gres
