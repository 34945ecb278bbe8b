"""Job templates: which file a name means, what a job file extends, whose files count."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf import search_path
from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import configuration, job_file, job_templates, plan, resources
from slurm_tf.jobspec.configuration import Job
from slurm_tf.search_path import Scope
from tests.conftest import ROOT

CNN = """
description = "a CNN"
name = "cnn"
strategy = "multi_worker"
command = ["python", "cnn.py", "{epochs}", "--rate={rate}"]
[params]
epochs = {default = 10, min = 1, max = 100, help = "passes over the data"}
rate = 0.1
[roles.worker]
count = 2
gpus-per-task = 1
mem-per-cpu = "2G"
"""
# What a group writes.
OURS = """
extends = "cnn"
time = 60
params.epochs = 20
params.rate.max = 1.0
roles.worker.gpus-per-node = "a100:4"
roles.worker.mem = "8G"
"""
Write = Callable[[str, str, str], Path]
Named = Callable[..., Job]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a template into the folder of a scope; the working directory is in a project with git."""
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path / "group"))
    folders = {"package": tmp_path / "package", "user": search_path.user_config()}
    packaged = search_path.packaged
    monkeypatch.setattr(
        search_path, "packaged", lambda kind: folders["package"] / "jobs" if kind == "jobs" else packaged(kind)
    )
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "project" / "src").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "src")

    def into(scope: str, name: str, text: str) -> Path:
        path = folders.get(scope, tmp_path / scope) / "jobs" / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return into


@pytest.fixture
def named() -> Named:
    """Return the job of a template, as -t NAME."""

    def read(name: str, *values: str, trusted: tuple[str, ...] = ()) -> Job:
        return configuration.load(job_templates.find(name, trusted), {}, "generic", values=values)

    return read


def test_the_order_is_user_project_group_site_package(write: Write, named: Named) -> None:
    for scope in ("package", "group", "project", "user"):
        write(scope, "cnn", CNN.replace("a CNN", scope))
        job = named("cnn")
        assert job.spec.description == scope
        assert job.template
        assert job.template.scope == scope
    assert [each.scope for each in job_templates.template_files()] == [
        Scope.USER, Scope.PROJECT, Scope.GROUP, Scope.PACKAGE,
    ]  # fmt: skip
    assert [each.value for each in Scope] == ["package", "site", "group", "project", "user"]


def test_a_group_changes_five_lines(write: Write, named: Named) -> None:
    package, group = write("package", "cnn", CNN), write("group", "cnn", OURS)
    job = named("cnn")
    rows = {key: (value, origin) for key, value, origin in configuration.explain(job) if origin != "built-in"}
    assert rows["strategy"] == ('"multi_worker"', str(package))
    assert rows["time"] == ("60", str(group))
    # of a param too: a value alone is its default, and limits come from both
    assert (rows["params.epochs.default"], rows["params.epochs.max"]) == (("20", str(group)), ("100", str(package)))
    assert rows["params.rate.max"] == ("1.0", str(group))
    # GPUs and memory under another key replace those under the first
    assert rows["roles.worker.gpus-per-node"] == ('"a100:4"', str(group))
    assert rows["roles.worker.count"] == ("2", str(package))
    assert not {"roles.worker.gpus-per-task", "roles.worker.mem-per-cpu"} & rows.keys()
    # its program is the package's
    assert plan.source_folder(job) == str(package.parent)
    assert job.template
    assert (job.template.name, job.template.path) == ("cnn", str(group))


def test_keys_of_which_a_role_has_one_are_those_that_are_checked() -> None:
    assert job_file.ALTERNATIVES == (resources.MEMORY_KEYS, resources.GPU_KEYS)


def test_a_job_file_extends_a_template(write: Write, tmp_path: Path) -> None:
    group = write("group", "resnet", 'extends = "cnn"\nname = "resnet"\n')
    package = write("package", "cnn", CNN)
    path = tmp_path / "mine.toml"
    path.write_text('extends = "resnet"\nname = "mine"\n')
    job = configuration.load(path, {}, "generic")
    assert (job.spec.name, job.spec.strategy, job.typed) == ("mine", "multi_worker", str(path))
    assert job.template
    assert (job.template.name, job.template.path) == ("resnet", str(group))
    assert plan.source_folder(job) == str(package.parent)
    # a command of its own is a program beside it
    path.write_text('extends = "resnet"\ncommand = ["python", "mine.py", "{epochs}", "{rate}"]\n')
    assert plan.source_folder(configuration.load(path, {}, "generic")) == str(tmp_path)
    # and a folder starts at the file that says it
    path.write_text('extends = "resnet"\nchdir = "work"\n')
    assert plan.source_folder(configuration.load(path, {}, "generic")) == str(tmp_path / "work")


def test_a_job_file_extends_the_file_beside_it_before_a_template(write: Write, tmp_path: Path) -> None:
    """As in a folder of copied jobs: that what is changed there counts, whatever the folder is called."""
    write("package", "cnn", CNN)
    write("package", "single", 'extends = "cnn"\n')
    (tmp_path / "copies").mkdir()
    for name, text in (("cnn", CNN.replace("= 10", "= 7")), ("single", 'extends = "cnn"\n')):
        (tmp_path / "copies" / f"{name}.toml").write_text(text)
    job = configuration.load(tmp_path / "copies" / "single.toml", {}, "generic")
    assert job.spec.params["epochs"].default == 7
    assert plan.source_folder(job) == str(tmp_path / "copies")
    # of its own name it is the template
    (tmp_path / "copies" / "cnn.toml").write_text('extends = "cnn"\n')
    assert configuration.load(tmp_path / "copies" / "cnn.toml", {}, "generic").spec.params["epochs"].default == 10


def test_the_digest_changes_with_a_value_of_any_file_and_with_no_comment(write: Write, named: Named) -> None:
    def digest() -> str:
        template = named("cnn").template
        return template.digest if template else ""

    write("package", "cnn", CNN)
    write("group", "cnn", OURS)
    first = digest()
    write("group", "cnn", f"# the group's\n{OURS}")
    assert digest() == first
    write("package", "cnn", CNN.replace("count = 2", "count = 3"))
    assert digest() != first


def test_commands_of_files_in_several_folders(write: Write, named: Named) -> None:
    write("package", "two", CNN.replace('"multi_worker"', '"ps"') + "[roles.chief]\n[roles.ps]\n")
    text = 'extends = "two"\nroles.chief.command = ["python", "own.py"]\n'
    write("group", "two", text)
    with pytest.raises(
        ConfigError, match=r"two.toml: chdir: found .*command of .*; needed the commands of all roles in"
    ):
        configuration.explain(named("two"))
    write("group", "two", f'chdir = "/shared"\n{text}')
    assert plan.source_folder(named("two")) == "/shared"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"package/a": 'extends = "b"'}, r"a.toml: extends: no job template 'b'; needed one of cnn\n?"),
        ({"package/a": 'extends = "cn"'}, r"HINT: did you mean 'cnn'\?"),
        ({"package/a": 'extends = "a"'}, r"a.toml: extends: no job template 'a'; needed one of cnn"),
        ({"package/a": 'extends = "../jobs/cnn"'}, r"no job template '../jobs/cnn'"),
        ({"package/a": "extends = 3"}, r"a.toml: extends: found 3; needed the name of a job template"),
        ({"package/a": 'extends = "b"', "group/b": "extends = ['a']"}, r"b.toml: extends: found \['a'\]; needed the "),
        (
            {"package/a": 'extends = "b"', "group/b": 'extends = "a"'},
            r"b.toml: extends: it inherits itself: .*a.toml -> .*b.toml -> .*a.toml; needed files that end in one",
        ),
        ({"package/a": 'extends = "b"', "group/b": "x = ["}, r"group/jobs/b.toml: Invalid value .*; needed TOML"),
        ({"package/a": 'extends = "b"', "group/b": "epoch = 1"}, r"group/jobs/b.toml: epoch: found the key 'epoch'"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended(files: dict[str, str], message: str, write: Write, named: Named) -> None:
    write("package", "cnn", CNN)
    for where, text in files.items():
        scope, _, name = where.partition("/")
        write(scope, name, text)
    with pytest.raises(ConfigError, match=message):
        configuration.explain(named("a"))


def test_only_job_files_extend(write: Write, tmp_path: Path) -> None:
    write("package", "cnn", CNN)
    (search_path.user_config()).mkdir(exist_ok=True)
    search_path.user_file().write_text('[job]\nextends = "cnn"\n')
    path = tmp_path / "mine.toml"
    path.write_text(CNN)
    with pytest.raises(
        ConfigError, match=r"config.toml: job: extends: found 'cnn'; needed `extends` in a job file, or -t"
    ):
        configuration.explain(configuration.load(path, {}, "generic"))


def test_a_project_is_searched_up_to_the_top_of_its_git_work_tree(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("project", "cnn", CNN)
    (tmp_path / "jobs").mkdir()
    assert search_path.project("jobs") == path.parent
    (tmp_path / "project" / "src" / "jobs").mkdir()
    assert search_path.project("jobs") == tmp_path / "project" / "src" / "jobs"
    # without git, the working directory alone
    (tmp_path / "project" / ".git").rmdir()
    (tmp_path / "project" / "src" / "jobs").rmdir()
    assert search_path.project("jobs") is None
    monkeypatch.chdir(tmp_path / "project")
    assert search_path.project("jobs") == path.parent


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")
def test_a_project_of_others_counts_only_if_they_are_trusted(write: Write, named: Named) -> None:
    package, project = write("package", "cnn", CNN), write("project", "cnn", CNN.replace("a CNN", "theirs"))
    write("project", "only", CNN)
    os.chown(project.parent, 1, -1)
    os.chown(project, 1, -1)
    assert named("cnn").path == package
    with pytest.raises(
        UsageError, match=r"no job template 'only'; needed one of cnn; a folder is left out: .*project/jobs: .*daemon"
    ):
        named("only")
    search_path.user_config().mkdir(exist_ok=True)
    search_path.user_file().write_text("trust = ['daemon']")
    assert named("cnn", trusted=("daemon",)).path == project


def test_a_template_that_others_can_change_is_refused(write: Write, named: Named, tmp_path: Path) -> None:
    write("package", "cnn", CNN)
    path = write("group", "cnn", OURS)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match=f"{path}: it has mode 666: others can change it"):
        named("cnn")
    # also one that a job file extends
    (tmp_path / "mine.toml").write_text('extends = "cnn"')
    with pytest.raises(ConfigError, match=f"{path}: it has mode 666: others can change it"):
        configuration.load(tmp_path / "mine.toml", {}, "generic")


@pytest.mark.parametrize("name", ["30", "Unlimited", "a b", "é", "-x", "a\nb"])
def test_a_name_that_cannot_be_typed_after_t(name: str, write: Write, named: Named) -> None:
    write("group", name, CNN)
    with pytest.raises(ConfigError, match=rf"found the name {re.escape(repr(name))}; needed letters, digits"):
        named(name)


def test_a_name_that_nothing_has(write: Write, named: Named) -> None:
    write("package", "cnn", CNN)
    with pytest.raises(UsageError, match=r"^no job template 'cn'; needed one of cnn\nHINT: did you mean 'cnn'\?$"):
        named("cn")


def test_in_a_checkout_the_jobs_that_come_with_it_are_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {each.scope for each in job_templates.template_files()} == {Scope.PACKAGE}
    (path, *_) = sorted((ROOT / "jobs").glob("*.toml"))
    job = configuration.load(Path("jobs", path.name), {}, "generic")
    assert job.template
    assert (job.template.name, job.template.scope) == (path.stem, "package")
    assert not job.runs_template
