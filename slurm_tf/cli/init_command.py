"""The verb init, which starts a folder from a job template, or writes a first job file for a program."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from slurm_tf import files
from slurm_tf.cli import completion, options
from slurm_tf.cli.terminal import print_next_commands, printable, short_path
from slurm_tf.errors import SlurmError, UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.first_job_file import Surroundings


def _files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    return completion.files_of_shell(incomplete)


@click.command()
@click.argument("words", nargs=-1, metavar="[PROGRAM] [FOLDER]", shell_complete=_files)
@click.option(
    "--template", "-t", default="", metavar="NAME", help="The job template to copy, with its programs.",
    shell_complete=completion.templates,
)  # fmt: skip
@options.JSON
def init(words: tuple[str, ...], template: str, as_json: bool) -> None:
    """Start a folder from a job template, or write a first job file for PROGRAM.

    With -t, what is copied into FOLDER (default: the template's name) is yours: later changes of the template do not
    reach it. Of PROGRAM, which is read and not run, the job file goes into FOLDER (default: that of PROGRAM); if it is
    a plain Keras script, the lines that distribute it are printed as a diff. No file is replaced.
    """
    most = 1 if template else 2
    if len(words) > most or not (template or words):
        usage = "slurm-tf init train.py, or slurm-tf init -t TEMPLATE [FOLDER]: `slurm-tf templates list` shows them"
        raise UsageError(f"found {shlex.join(words) or 'nothing'}", "a program, or a job template", usage)
    if template:
        _copy(template, Path(words[0]) if words else Path(template), as_json)
    else:
        _of_program(Path(words[0]), Path(words[1]) if words[1:] else Path(words[0]).parent, as_json)


def _copy(name: str, folder: Path, as_json: bool) -> None:
    """Copy a template into a folder, and print the files."""
    from slurm_tf.jobspec import job_templates, user_settings
    from slurm_tf.submit import template_copy

    trusted = user_settings.trusted_users()
    copied = template_copy.of(job_templates.find(name, trusted), trusted)
    paths = _write(folder, {copied.name: copied.text, **copied.programs})
    if as_json:
        click.echo(json.dumps({"files": paths, "programs": copied.chdir or str(folder)}, indent=2))
    else:
        click.echo("\n".join(paths))
    if copied.chdir:
        click.echo(f"slurm-tf: its programs stay in {printable(copied.chdir)}, as its chdir says", err=True)
    _print_next(paths[0])


def _of_program(program: Path, folder: Path, as_json: bool) -> None:
    """Write the job file of a program, and print the lines that the program lacks."""
    from slurm_tf.jobspec import first_job_file, program_outline, train_lines
    from slurm_tf.jobspec.program_outline import ProgramKind

    if program.suffix != ".py":
        raise UsageError(f"found {program}", "a program in Python, such as train.py")
    text, tree = program_outline.read(program)
    outline = program_outline.outline(tree)
    chdir = "" if files.identity(str(folder)) == files.identity(str(program.parent)) else str(program.parent)
    around = _surroundings()
    job_file = first_job_file.of_program(program, outline, around, files.absolute(chdir) if chdir else "")
    paths = _write(folder, {f"{program.stem}.toml": job_file.encode()})
    difference, left = "", tuple[str, ...]()
    if outline.kind is ProgramKind.KERAS_FIT:
        change = train_lines.change(text, tree, outline)
        difference, left = train_lines.diff(text, change.text, str(program)), change.left
    if as_json:
        found = {"files": paths, "program": outline.kind.value, "diff": difference, "left": left}
        click.echo(json.dumps(found, indent=2))
    else:
        _print_lines(program, outline.kind.value, paths[0], difference, left)
    _print_next(paths[0])


def _print_lines(program: Path, kind: str, path: str, difference: str, left: Sequence[str]) -> None:
    click.echo(f"slurm-tf: {printable(str(program))}: {kind}; wrote {path}", err=True)
    if difference:
        click.echo("slurm-tf: these lines make it distributed; `patch -p1` puts them in:", err=True)
        click.echo(difference, nl=False)
    for each in left:
        click.echo(f"slurm-tf: to do: {printable(each)}", err=True)


def _surroundings() -> "Surroundings":
    """Return what the cluster of this machine says of itself, and what is stated for all jobs."""
    from slurm_tf.jobspec import user_settings
    from slurm_tf.jobspec.first_job_file import Surroundings
    from slurm_tf.slurm import live_cluster

    settings = user_settings.read(os.environ)
    stated = {key for layer in settings.site_job for key in layer.values} | settings.user.job.keys()
    try:
        return Surroundings(live_cluster.ask(), stated=stated)
    except SlurmError as error:
        return Surroundings(None, error.found.partition("\n")[0], stated)


def _write(folder: Path, texts: Mapping[str, bytes]) -> list[str]:
    """Write files into a folder, none over another one; return their paths. Raises UsageError or StorageError."""
    there = [name for name in texts if os.path.lexists(folder / name)]
    if there:
        raise UsageError(f"{folder} has {', '.join(there)}", "a folder without files of these names")

    written: list[Path] = []
    with files.explained("write the files", str(folder)):
        try:
            for name, data in texts.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_whole(str(path), data, 0o644, partial(_check_free, path))
                written.append(path)
        except BaseException:  # all or none of them
            for path in written:
                path.unlink(missing_ok=True)
            raise
    return [short_path(str(folder / name)) for name in texts]


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise UsageError(f"there is {path}", "a folder without a file of this name")


def _print_next(path: str) -> None:
    """Print the next commands; without Slurm a sweep runs as one of its points, and nothing starts MPI's processes."""
    from slurm_tf.jobspec import configuration, params, user_settings
    from slurm_tf.run.placeholders import value_text

    job = configuration.alone(Path(path), user_settings.trusted_users())
    forms = params.forms(job)
    file, required = shlex.quote(path), "".join(f" {form.name}=VALUE" for form in forms if form.required)
    point = "".join(f" {shlex.quote(f'{form.name}={value_text(form.swept[0])}')}" for form in forms if form.swept)
    here = [(f"run {file}{required}{point}", "try it on this machine")] if job.spec.horovod.controller != "mpi" else []
    print_next_commands(
        (f"explain {file}", "each value of the job file"),
        *here,
        (f"submit {file}{required} --dry-run", "the script, and when it would start"),
    )
