"""Documentation: links lead somewhere, every key is named, what the README types works."""

import ast
import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pytest
import tomllib

from slurm_tf import search_path
from slurm_tf.cli import commands
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import (
    configuration,
    job_file,
    job_templates,
    plan,
    sbatch_table,
    sites,
    train_tables,
    user_settings,
)
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.sbatch_table import Use
from slurm_tf.launch.direct import direct_launch
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import sbatch_variables
from slurm_tf.submit import render
from tests import snippets
from tests.cli.scene import make_data_set
from tests.conftest import ROOT, required_values
from tests.snippets import PAGES, Snippet

BIN = Path(sys.executable).parent


# The hosts that pages lead to. Nobody looks in a test whether they answer.
EXTERNAL = {
    "https://arxiv.org/abs/1512.03385",
    "https://github.com/PySlurm/pyslurm",
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    "https://www.tensorflow.org/install/source",
}


def prose(page: Path) -> str:
    """Return a page without its snippets."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", prose(page)):
        if "://" in target:
            assert target in EXTERNAL, "a host that EXTERNAL does not name"
        else:
            path = (page.parent / target) if target else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_no_page_leads_to_a_host_without_tls() -> None:
    assert [page.name for page in PAGES if re.search(r"\bhttp://(?!localhost|127\.)", page.read_text())] == []


def test_each_page_has_a_place_in_the_navigation_of_the_site() -> None:
    named = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {str(page.relative_to(ROOT)) for page in PAGES} - {"README.md"} | {"index.md"}
    assert sorted(named) == sorted(pages), "nav in mkdocs.yml"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_can_be_read_in_a_terminal(page: Path) -> None:
    for line in page.read_text().splitlines():
        assert len(line) <= 120 or line.startswith("|"), line


def keys(spec: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(spec)}


@pytest.mark.parametrize(
    ("page", "specs"),
    [
        (
            "jobs.md",
            [
                job_file.JobSpec,
                job_file.Role,
                job_file.Roles,
                job_file.Param,
                train_tables.Checkpoint,
                job_file.Launch,
                job_file.Retry,
                job_file.Horovod,
                train_tables.Export,
                job_file.Container,
                user_settings.UserFile,
            ],
        ),
        ("sites.md", [sites.Site, sites.Recognise, sites.Partition, sites.Prices, sites.SiteContainer]),
    ],
)
def test_every_key_is_documented(page: str, specs: list[type[msgspec.Struct]]) -> None:
    text = (ROOT / "docs" / page).read_text()
    missing = {key for spec in specs for key in keys(spec) if not re.search(rf"[`\[.]{key}[`\].]", text)}
    assert missing == set()


def option_row(option: sbatch_table.SbatchOption) -> str:
    """Return the row of docs/jobs.md for an option of sbatch."""
    names = [f"`--{option.name}`", *([f"`-{option.letter}`"] if option.letter else [])]
    variables = [f"`{name}`" for name, stands_for in sbatch_variables.OPTIONS.items() if stands_for == option.name]
    made = {
        Use.KEPT: "kept",
        Use.KEY: f"the key `{option.instead}`",
        Use.VERB: f"`slurm-tf submit`: {option.instead}",
        Use.REFUSED: f"refused; needed {option.instead}",
    }[option.use]
    if option.name in sbatch_table.RESTRICTED:
        made += f"; {sbatch_table.RESTRICTED[option.name]}"
    return f"| {', '.join(names)} | {', '.join(variables)} | {made} |"


def test_every_option_of_sbatch_is_documented(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "jobs.md"
    before, head, rest = page.read_text().partition(
        "| option | variable | what slurm-tf makes of it |\n|---|---|---|\n"
    )
    table, end, after = rest.partition("\n\n")
    rows = "\n".join(map(option_row, sbatch_table.OPTIONS.values()))
    if request.config.getoption("--update-golden"):
        page.write_text(before + head + rows + end + after)
    else:
        assert table == rows, "pytest --update-golden tests/test_docs.py writes the rows anew"


def test_every_option_of_launch_is_documented_with_its_variable() -> None:
    text = (ROOT / "docs" / "launch.md").read_text()
    for field, variable in direct_launch.VARIABLES.items():
        assert f"| `--{field.replace('_', '-')}` | `{variable}` |" in text


JOBS = sorted((ROOT / "jobs").glob("*.toml"))
# what needs Slurm, and what the error names
NOT_LOCAL = {"cnn_horovod_mpi": "found mpi", "cnn_sweep": "found 6 points"}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
@pytest.mark.parametrize("site", ["generic", "local"])
def test_every_job_fits_every_site_and_is_documented(path: Path, site: str) -> None:
    job = configuration.load(path, {}, site, values=required_values(path))
    if site == "local" and path.stem in NOT_LOCAL:
        with pytest.raises(ConfigError, match=NOT_LOCAL[path.stem]):
            plan.fit(job, RunFolder("/runs/x"))
        return
    fitted = plan.fit(job, RunFolder("/runs/x"))
    programs = [each for role in fitted.settings.roles for each in re.findall(r"\w+\.py", " ".join(role.command))]
    assert programs or path.stem.startswith("prepare") or job.spec.strategy == "serve"
    assert all((path.parent / program).exists() for program in programs)
    assert f"../jobs/{path.name}" in (ROOT / "docs" / "jobs.md").read_text()
    assert re.search(rf"^\|.*`{path.stem}`.*\|.*\|$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_quick_start_is_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"## Quick start\n.*?```sh\n(.*?)```", text, re.DOTALL)
    assert block.split("\n") == ["make demo", "make test", ""]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")


def test_every_snippet_is_run_by_a_test_or_says_why_not() -> None:
    assert {each.kind for each in snippets.ALL if not each.why} == set(snippets.RUN_BY)
    for kind, file in snippets.RUN_BY.items():
        assert f'snippets.of("{kind}"' in (ROOT / file).read_text(), kind
    assert {f"{each.page.name}: {each.why}" for each in snippets.ALL if each.why} == {
        "admins.md: a line of slurm.conf",
        "containers.md: it takes two versions of TensorFlow",
        "containers.md: needs a registry; tests/images/test_image_build.py builds one without",
        "containers.md: tests/jobspec/test_containers.py fits it to the site below",
        "containers.md: tests/sandbox/files.py writes the same",
        "data.md: tests/jobs/test_distribution.py runs tests/programs/distributed.py, which is like it",
        "serve.md: tests/serve/test_rest.py runs curl, like it",
        "data.md: tests/programs/recorded.py trains so",
        "doctor.md: tests/cluster/test_doctor.py types it",
        "export.md: tests/jobs/test_exports.py exports a run so",
        "export.md: tests/predict/test_predict_command.py and tests/cluster/test_predict.py type it",
        "export.md: what the folder of a model has",
        "horovod.md: builds Horovod, for minutes",
        "install.md: a module file",
        "install.md: downloads TensorFlow",
        "install.md: pipx is another way to do what the lines above do",
        "install.md: tests/cli/test_completion.py runs it in its shell",
        "jobs.md: Dask is not among the packages of the tests",
        "launch.md: a task that was killed",
        "page.md: it runs until it is ended; tests/page runs it",
        "page.md: the port and the link are others each time",
        "sandbox.md: installs packages",
        "serve.md: there is no model here",
        "serve.md: there is no service here",
        "submit.md: beside a training that lives",
        "submit.md: needs jq",
        "usage.md: tests/cli/test_usage_question.py has such jobs",
    }
    fences = sum(page.read_text().count("```") for page in PAGES)
    assert len(snippets.ALL) == fences / 2


def completed(text: str) -> str:
    """Return a part of a job file with what each job file needs."""
    found = tomllib.loads(text)
    needed = {"name": '"a"', "strategy": '"single"', "command": '["x"]'}
    before = [f"{key} = {value}\n" for key, value in needed.items() if key not in found]
    return "".join(before) + text + ("" if "roles" in found else "[roles.worker]\n")


@pytest.mark.parametrize("snippet", snippets.of("toml job"), ids=str)
def test_a_job_file_gives_a_script(snippet: Snippet, fit: Callable[..., Plan]) -> None:
    values = ("data=x",) if "{data}" in snippet.text else ()
    assert render.script(fit(completed(snippet.text), values=values))


def test_a_groups_template_extends_one_of_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
    (tmp_path / "jobs").mkdir()
    for snippet in snippets.of("toml template"):
        name = tomllib.loads(snippet.text)["extends"]
        (tmp_path / "jobs" / f"{name}.toml").write_text(snippet.text)
        job = configuration.load(job_templates.find(name), {}, "generic")
        assert render.script(plan.fit(job, RunFolder("/runs/x")))


def test_a_site_profile_a_user_file_and_prices_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    for snippet in snippets.of("toml config"):
        search_path.user_config().mkdir(exist_ok=True)
        search_path.user_file().write_text(snippet.text)
        assert user_settings.read({}).user != user_settings.UserFile()
    inherited = search_path.user_config() / "site_configs" / "university.toml"
    inherited.parent.mkdir()
    inherited.touch()
    for snippet in snippets.of("toml site"):
        path.write_text(snippet.text)
        site = sites.load(str(path))
        assert site.partitions or site.container.runtime
    for snippet in snippets.of("toml prices"):
        path.write_text(snippet.text)
        assert sites.read_prices(path).gpu_types


def test_a_template_changes_the_script(
    fit: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site.toml"
    site.write_text("template = 'own'\nprologue = 'ulimit -c 0'\n")
    template = tmp_path / "templates" / "site" / "own.sbatch.j2"
    template.parent.mkdir(parents=True)
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
    for snippet in snippets.of("jinja"):
        template.write_text(snippet.text)
        script = render.script(fit(completed(""), site=str(site))).split("\n")
        shell = [line for line in snippet.text.splitlines() if not line.startswith("{")]
        places = [script.index(line) for line in ("ulimit -c 0", *shell, "trap - ERR EXIT")]
        assert places == sorted(places)


@pytest.fixture
def typed(tmp_path: Path) -> Callable[..., str]:
    """Run commands in a shell of somebody who has slurm-tf; return what they print, their errors as well."""
    (tmp_path / "home").mkdir()

    def run(commands: str, check: bool = True) -> str:
        make = f'make() {{ command make --dry-run --directory={shlex.quote(str(ROOT))} "$@"; }}\n'
        done = subprocess.run(
            ["bash", "-ec", make + commands], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=120, check=False,
            env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home"), "PATH": f"{BIN}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{commands}\n{done.stdout}"
        return done.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({snippet.page for snippet in snippets.of("sh")}), ids=lambda page: page.name)
def test_commands_can_be_typed(page: Path, typed: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    for name in ("clicks", "clicks-1") if page.name == "data.md" else ():
        make_data_set(tmp_path / "data" / name, (b"red", b"white"))
    for snippet in snippets.of("sh", page.name):
        typed(snippets.filled(snippet.text, {"/etc/slurm": str(tmp_path / "slurm")}))


def difference(before: Path, after: Path) -> str:
    """Return what changes between two programs, each place with the line before it and the line behind it."""
    old, new = (path.read_text().splitlines(keepends=True) for path in (before, after))
    lines = [line for line in difflib.unified_diff(old, new, n=1) if line[:3] not in ("---", "+++")]
    hunks = "".join("...\n" if line.startswith("@@") else line for line in lines if line != " \n")
    return hunks.removeprefix("...\n")


def test_the_lines_that_distribute_a_keras_script_are_those_of_the_job(request: pytest.FixtureRequest) -> None:
    before, after = (ROOT / "jobs" / f"keras_{name}.py" for name in ("plain", "distributed"))
    changes = difference(before, after)
    for shown in snippets.of("diff"):
        if request.config.getoption("--update-golden"):
            shown.page.write_text(shown.page.read_text().replace(f"```diff\n{shown.text}", f"```diff\n{changes}"))
        else:
            assert shown.text == changes, "pytest --update-golden tests/test_docs.py writes them anew"
    assert snippets.patched(before.read_text(), changes) == after.read_text()
    changed = [line for line in changes.splitlines() if re.match(r"[-+].", line)]
    assert len(changed) <= 5


# Two preempted incarnations of a job, and one that ended well.
SACCT = """\
JobID|JobIDRaw|Cluster|User|Account|State|Submit|Eligible|Start|End|ElapsedRaw|TimelimitRaw|AllocTRES|TotalCPU|MaxRSS|NTasks
4711|4711|c|ann|v|PREEMPTED|{0}T08:00:00|{0}T08:00:00|{0}T08:01:00|{0}T09:01:00|3600|1440|{tres}|02:00:00||
4711|4711|c|ann|v|PREEMPTED|{0}T09:01:00|{0}T09:01:00|{0}T09:02:00|{0}T10:02:00|3600|1440|{tres}|02:00:00||
4711|4711|c|ann|v|COMPLETED|{0}T10:02:00|{0}T10:02:00|{0}T10:04:00|{0}T12:04:00|7200|1440|{tres}|04:00:00||
4711.0|4711.0|c|||COMPLETED|{0}T10:04:00|{0}T10:04:00|{0}T10:04:00|{0}T12:04:00|7200||cpu=8,mem=16G,node=1|04:00:00|4G|1
"""


@pytest.mark.slow
def test_what_is_shown_of_a_command_is_what_it_prints(typed: Callable[..., str], tmp_path: Path) -> None:
    (job,) = (each for each in snippets.of("toml job", "README.md"))
    (tmp_path / "flowers.toml").write_text(job.text.replace("gpus-per-task", "gpu-per-task"))
    (job,) = (each for each in snippets.of("toml job", "jobs.md") if "[params]" in each.text)
    (tmp_path / "train.toml").write_text(completed(job.text))
    tres = "billing=8,cpu=8,gres/gpu:a100=4,gres/gpu=4,mem=16G,node=1"
    (tmp_path / "saved.txt").write_text(SACCT.format("2026-11-02", tres=tres))
    for snippet in snippets.of("console"):
        command, _, shown = snippet.text.removeprefix("$ ").partition("\n")
        printed = typed(snippets.filled(command, {"4711": "4711 --from saved.txt"}), check=False)
        pattern = re.escape(shown.strip()).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, printed.strip()), printed


# what slurm-tf quotes: srun's words, and a line of setup
QUOTED = (
    "Unable to create step for job 2: More processors requested than permitted", "module load cuda/12.4", "to start at",
    "using 4 processors on nodes node[1-4] in partition main",
)  # fmt: skip


def fixed_parts() -> list[str]:
    """Return the fixed parts, of two words or more, of all texts in the source of slurm-tf, the longest first."""
    parsed = [ast.parse(path.read_text()) for path in (ROOT / "slurm_tf").rglob("*.py")]
    texts = [each.value for tree in parsed for each in ast.walk(tree) if isinstance(each, ast.Constant)]
    split = [part for text in texts if isinstance(text, str) for part in re.split(r"\$\w+|\$\{|\n", text)]
    parts = {" ".join(part.split()) for part in split}
    return sorted((part for part in parts if " " in part), key=len, reverse=True)


@pytest.mark.slow
def test_messages_are_those_that_are_printed() -> None:
    """Nothing is left of three words or more when the parts that slurm-tf prints are taken out."""
    known = fixed_parts()
    for snippet in snippets.of("text"):
        rest = " ".join(snippet.text.split())
        for part in (*QUOTED, *known):
            rest = rest.replace(part, "|")
        assert re.findall(r"(?:\b[a-z]+ ){2,}[a-z]+", rest) == [], f"{snippet}: {rest}"


# Options that no verb's click command knows: of sbatch, and of `slurm-tf launch`.
OTHER_OPTIONS = {*sbatch_table.OPTIONS, *(field.replace("_", "-") for field in direct_launch.VARIABLES)}


def test_verbs_and_options_in_the_text_are_known() -> None:
    """Commands outside of snippets, which nobody runs."""
    for page in PAGES:
        for command in re.findall(r"`slurm-tf\s([^`]+)`", prose(page)):
            verb, *words = command.partition(" -- ")[0].split()
            used = {word.partition("=")[0] for word in words if word.startswith("--")}
            found = commands.cli.get_command(click.Context(commands.cli), verb)
            if found is None:
                assert verb in ("-h", "--help", "--version"), f"{page}: {command}"
                continue
            if isinstance(found, click.Group):
                found = found.commands.get("".join(words[:1])) or found.commands["start"]  # of `serve MODEL`
            options = {name for each in found.params for name in each.opts}
            assert used <= options | {f"--{name}" for name in OTHER_OPTIONS}, f"{page}: {command}"
