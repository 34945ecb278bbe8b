"""What a shell may complete: names of runs, tasks, sites, job files, params and pages. No Slurm is asked.

An error of a function ends the completion, which then offers nothing: see completion_shells.py.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from slurm_tf.cli import terminal
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.job_templates import TemplateFile
    from slurm_tf.run.folder import RunFolder
    from slurm_tf.run.settings import LaunchSettings

Items = list[CompletionItem[str]]


def runs(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the user's runs, the newest first: by name, or by path where several have the name; sweep points too."""
    name, slash, _ = incomplete.rpartition("/")
    if slash and (sweep := _folder(name)):
        return _items((f"{name}/{point}" for point in _points(sweep)), incomplete)
    folders = _folders()
    names = [folder.name for folder in folders]
    return _items((each.name if names.count(each.name) == 1 else each.path for each in folders), incomplete)


def first_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return the runs for a verb that takes one, and options of srun after it."""
    return [] if _plain_words(ctx) else runs(ctx, param, incomplete)


def _folders() -> "list[RunFolder]":
    """Return the folders of the runs in the user's index, the newest first."""
    from slurm_tf.run.folder import RunFolder
    from slurm_tf.submit import run_index

    return [RunFolder(path) for path in reversed(run_index.read() or ())]


def _folder(text: str) -> "RunFolder | None":
    """Return the run of a name, of NAME/POINT or of a path."""
    from slurm_tf.run.folder import RunFolder

    name, _, point = text.rpartition("/")
    wanted = (text, name) if point.isdecimal() else (text,)
    found = next((each for each in _folders() if each.name in wanted), None)
    if found is None:
        paths = map(RunFolder, wanted)
        found = next((each for each in paths if each.path and os.path.isfile(each.manifest)), None)
    return found


def _points(run: "RunFolder") -> list[int]:
    from slurm_tf.run import job_chain

    return [point for point in job_chain.newest(run) if point is not None]


def tasks(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the tasks of the run that the command line names."""
    return _items((f"{role}:{index}" for role, index in _settings(ctx).tasks), incomplete)


def roles(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the roles of the run that the command line names."""
    return _items((each.name for each in _settings(ctx).roles if each.count), incomplete)


def indexes(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the indexes of the tasks of --role."""
    role = ctx.params.get("role")
    return _items((str(index) for name, index in _settings(ctx).tasks if name == role), incomplete)


def _settings(ctx: click.Context) -> "LaunchSettings":
    """Return the settings of the run's newest submission. Raises UsageError, RunError or OSError."""
    from slurm_tf.run.settings import read_settings

    # where an option still needs its value, click leaves the words before it as they are
    run = _folder(ctx.params.get("run") or next(iter(ctx.args), ""))
    if run is None or not run.submissions:
        raise UsageError("found no run", "one that was submitted")
    return read_settings(run.submissions[-1])


def sites(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the site profiles; files where a path is typed."""
    from slurm_tf.jobspec import sites as profiles

    return files_of_shell(incomplete) if "/" in incomplete else _items(sorted(profiles.paths()), incomplete)


def pages(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the pages of the documentation."""
    from slurm_tf import search_path

    return _items(sorted(path.stem for path in search_path.packaged("docs").glob("*.md")), incomplete)


def job_files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the job files of the folder that is typed, and the folders in it."""
    if incomplete.startswith(("~", "$")):
        return files_of_shell(incomplete)
    folder, slash, start = incomplete.rpartition("/")
    with os.scandir(folder + slash or ".") as found:
        entries = sorted(found, key=lambda entry: entry.name)
    hidden = start.startswith(".")
    names = [
        f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if (entry.is_dir() or entry.name.endswith(".toml")) and entry.name.startswith(".") == hidden
    ]
    return _items(names, incomplete)


def files_of_shell(incomplete: str) -> Items:
    """Return what has the shell complete any file."""
    return [CompletionItem(incomplete, type="file")]


def templates(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Return the job templates."""
    from slurm_tf.jobspec import job_templates, user_settings

    found = job_templates.template_files(user_settings.trusted_users(), [])
    names = (each.name for each in found if job_templates.NAME.fullmatch(each.name))
    return _items(dict.fromkeys(names, ""), incomplete)


def job_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return job files, then params of the job file or template, also where options of sbatch stand between them."""
    from slurm_tf.jobspec import sbatch_options

    words = ctx.params.get("words") or ()
    if words[-1:] == ("-t",):
        return templates(ctx, param, incomplete)
    plain, options = sbatch_options.parse(words)
    template = ctx.params.get("template") or options.get(sbatch_options.TEMPLATE)
    if template:
        return _values_of_template(str(template), plain, incomplete)
    return _values(Path(plain[0]), plain[1:], incomplete) if plain else job_files(ctx, param, incomplete)


def _plain_words(ctx: click.Context) -> list[str]:
    """Return the words that are no options of sbatch. Raises UsageError where an option still needs its value."""
    from slurm_tf.jobspec import sbatch_options

    return sbatch_options.parse(ctx.params.get("words") or ())[0]


def sbatch_options(incomplete: str, without: Collection[str]) -> Items:
    """Return the options of sbatch that a job may have, those of `without` left out."""
    from slurm_tf.jobspec import sbatch_options as options

    return _items((f"--{name}" for name in options.USABLE if f"--{name}" not in without), incomplete)


def _values_of_template(name: str, given: Sequence[str], incomplete: str) -> Items:
    from slurm_tf.jobspec import job_templates, user_settings

    return _values(job_templates.find(name, user_settings.trusted_users()), given, incomplete)


def _values(source: "Path | TemplateFile", given: Sequence[str], incomplete: str) -> Items:
    """Return NAME= for each param of a job file, and its values where it has only a few."""
    from slurm_tf.jobspec import job_templates, layers, user_settings

    if isinstance(source, Path) and not source.is_file():  # standard input would be waited for
        return []
    job = layers.merged(job_templates.read(source, user_settings.trusted_users()).layered)
    tables: dict[str, Any] = {**dict.fromkeys(job.get("sweep", {})), **job.get("params", {})}
    name, equals, _ = incomplete.partition("=")
    if equals:
        return _items((f"{name}={each}" for each in _choices(tables.get(name))), incomplete)
    used = {each.partition("=")[0] for each in given}
    return _items({f"{each}=": _help(table) for each, table in tables.items() if each not in used}, incomplete)


def _choices(param: object) -> list[str]:
    """Return the only values of a param, as one types them; none where it has many."""
    table = param if isinstance(param, dict) else {"default": param}
    if isinstance(table.get("default"), bool) or table.get("type") == "bool":
        return ["true", "false"]
    choices = table.get("choices")
    return [str(each) for each in choices] if isinstance(choices, list) else []


def _help(param: object) -> str:
    return str(param.get("help", "")) if isinstance(param, dict) else ""


def _items(found: Iterable[str] | Mapping[str, str], incomplete: str) -> Items:
    """Return the values that begin as typed, in their order; a mapping has their help. None with a control character.

    A shell reads them line by line.
    """
    texts = found if isinstance(found, Mapping) else dict.fromkeys(found, "")
    return [
        CompletionItem(value, help=terminal.printable(text) or None)
        for value, text in texts.items()
        if value.startswith(incomplete) and value.isprintable()
    ]
