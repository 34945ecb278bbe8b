"""Writes the man page slurm-tf(1) from the command line: one page with every verb, as that of sacctmgr."""

import re
from collections.abc import Iterable, Iterator

import click

from slurm_tf import __version__
from slurm_tf.cli import commands
from slurm_tf.launch.direct import direct_launch

# What the command line does not say of itself.
_REST = """\
.SH EXIT STATUS
.TP
0
The command did what it was to do; of
.BR run ,
.B wait
and
.BR "submit \\-\\-wait" :
the run has succeeded. Otherwise they exit with the exit code of the run.
.TP
1
Slurm refused something, in its own words, or a check found a difference.
.TP
2
The command line, a job file or a site profile is wrong. Nothing was done.
.TP
64 to 78
As in sysexits.h: 65 the tasks cannot form the cluster, 69 Slurm does not answer, 70 an error in slurm\\-tf, 73 the
folder of the run cannot be used, 74 a file or checkpoint cannot be read or written, 75 try again, 76 a node is not fit,
78 the run makes no progress.
.TP
124
.B wait \\-\\-timeout
was over.
.TP
130, 141
Ctrl\\-C; the reader of the output has ended.
.SH ENVIRONMENT
.TP
SLURM_TF_SITE
The site profile to use, as \\-\\-site.
.TP
SLURM_TF_RUNS
The folder of runs, by default runs/.
.TP
SLURM_TF_PATH
More folders of job templates, script templates and site profiles, with colons between them.
.TP
SLURM_TF_CLIENT
How Slurm is asked: commands or pyslurm.
.TP
SBATCH_*, SLURM_CLUSTERS
Options of sbatch, as sbatch reads them; they override the job file, and the command line overrides them.
.TP
NO_COLOR, FORCE_COLOR
No colours; colours also where the output is no terminal.
.TP
SLURM_TF_DEBUG
Show the traceback of an error that should not have happened.
.SH FILES
.TP
.I ~/.config/slurm\\-tf/config.toml
Your own defaults: site, runs, trust, client, [job].
.TP
.IR ~/.config/slurm\\-tf/ ", " /etc/slurm\\-tf/
Site profiles in site_configs/, job templates in jobs/, script templates in templates/.
.TP
.I runs/NAME/
A run: submissions, logs, checkpoints, exported models.
.TP
.I ~/.local/state/slurm\\-tf/
Where your runs are, and what accounting said of past days.
.SH EXAMPLES
.EX
slurm\\-tf submit train.toml \\-\\-dry\\-run
slurm\\-tf submit train.toml epochs=20 \\-\\-time=4:00:00
slurm\\-tf status train\\-1
slurm\\-tf logs train\\-1 \\-\\-follow
slurm\\-tf results train\\-1
.EE
.SH SEE ALSO
.BR sbatch (1),
.BR srun (1),
.BR squeue (1),
.BR sacct (1),
.BR slurm.conf (5)
.PP
.B slurm\\-tf docs
lists the pages of the documentation, and prints one of them; troubleshooting goes by what one sees.
"""


def page() -> str:
    """Return the page, as roff."""
    context = click.Context(commands.cli, info_name="slurm-tf")
    lines = [
        f'.TH SLURM\\-TF 1 "" "slurm\\-tf {__version__}" "User Commands"',
        ".SH NAME",
        "slurm\\-tf \\- distributed TensorFlow under Slurm",
        ".SH SYNOPSIS",
        ".B slurm\\-tf",
        ".I VERB",
        ".RI [ ARGUMENTS ]",
        ".SH DESCRIPTION",
        *_paragraphs(commands.cli.help or ""),
        ".SH OPTIONS",
        *_options(_records(commands.cli, context)),
        ".SH VERBS",
    ]
    for title, verbs in commands.GROUPS.items():
        lines.append(f".SS {_text(title)}")
        for name in verbs:
            command = commands.cli.get_command(context, name)
            assert command is not None
            lines += _verb(command, click.Context(command, info_name=name, parent=context))
    return "\n".join(lines) + "\n" + _REST


def _verb(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield what the page says of a verb, and of the verbs of a group of them."""
    path = context.command_path.removeprefix("slurm-tf ")
    is_launch = path == "launch"
    usage = "" if is_launch else " ".join(command.collect_usage_pieces(context))
    # of its own, behind the words that srun starts it with
    words = direct_launch.option_parser().usage if is_launch else f"{path} {usage}"
    yield ".TP"
    yield f".B {_text(words or '')}"
    first, *others = _paragraphs(command.help or "")
    yield first
    if others:
        yield from (line.replace(".PP", ".IP") for line in others)
    records = _launch_records() if is_launch else _records(command, context)
    if records:
        yield ".RS"
        yield from _options(records)
        yield ".RE"
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from _verb(each, click.Context(each, info_name=name, parent=context))


def _records(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """Return each option of a verb with its help; all have --help."""
    options = (param for param in command.get_params(context) if isinstance(param, click.Option))
    found = [option.get_help_record(context) for option in options if "--help" not in option.opts]
    return [record for record in found if record]


def _launch_records() -> list[tuple[str, str]]:
    """Return the options of `slurm-tf launch`, which click does not read."""
    found = []
    for action in direct_launch.option_parser()._actions:
        name = action.option_strings[-1]
        metavar = "" if action.nargs == 0 else f" {action.dest.upper()}"
        if name != "--help":
            found.append((name + metavar, action.help or ""))
    return found


def _options(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    for names, text in records:
        yield ".TP"
        yield f".B {_text(names)}"
        yield _text(text)


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a help text, with a .PP between two of them."""
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.replace("\b", "").strip())]
    lines: list[str] = []
    for part in found:
        lines += [".PP"] if lines else []
        lines.append(_text(part))
    return lines


def _text(text: str) -> str:
    """Return text as roff shows it: nothing in it is a request, and a dash can be copied into a shell."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace('"', "\\(dq").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
