"""The verb sites: lists and shows site profiles, compares one with the live cluster, and writes a first one."""

import dataclasses
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf import files, search_path
from slurm_tf.cli import completion
from slurm_tf.cli.options import ExpandedPath
from slurm_tf.cli.terminal import print_next_commands, printable, short_path
from slurm_tf.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.sites import Profile
    from slurm_tf.slurm.live_cluster import LiveCluster

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
NAME = click.argument("name", default="", shell_complete=completion.sites)
_SHOWN = ("KEY", "VALUE", "FROM")
_LISTED = ("SITE", "INHERITS", "DESCRIPTION", "FILE")
_COMPARED = ("KEY", "PROFILE", "CLUSTER", "FILE")


@dataclass(frozen=True, slots=True)
class _Listed:
    """One profile of the list. `description`: of one that cannot be used, why."""

    name: str
    file: str
    inherits: str
    description: str
    is_here: bool


@click.group()
def sites() -> None:
    """List, show, check or detect site profiles, which describe clusters.

    NAME is a profile, or a path to a .toml file; without NAME, that of this machine.
    """


@sites.command(name="list")
@JSON
def list_sites(as_json: bool) -> None:
    """List all profiles, and which one is for this machine."""
    rows = _listed()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    from slurm_tf.cli import text_table

    cells = [
        [f"{row.name}{' (this machine)' if row.is_here else ''}", row.inherits or "-", row.description,
         short_path(row.file)]
        for row in rows
    ]  # fmt: skip
    click.echo(text_table.table(_LISTED, cells, names=_LISTED), nl=False)


def _listed() -> list[_Listed]:
    """Return what is known of each profile."""
    from slurm_tf.jobspec import sites, user_settings

    settings = user_settings.read(os.environ)
    rows = []
    for name, path in sorted(sites.paths().items()):
        try:
            site = sites.load(name, settings.user.trust)
            said, inherits = site.description, site.inherit
        except ConfigError as error:
            said, inherits = f"cannot be used: {error.where}: {error.found}", ""
        rows.append(_Listed(name, str(path), inherits, said, name == settings.site_name))
    return rows


@sites.command()
@NAME
@JSON
def show(name: str, as_json: bool) -> None:
    """Print each value of a profile, and the file that it comes from."""
    from slurm_tf.jobspec import configuration

    profile = _profile(name)
    rows = configuration.leaves(profile.site)
    if as_json:
        found = [{"key": key, "value": value, "file": profile.origins.get(key, "")} for key, value in rows]
        click.echo(json.dumps(found, indent=2))
        return
    from slurm_tf.cli import text_table

    cells = [
        [key, json.dumps(value, ensure_ascii=False), short_path(profile.origins[key]) if key in profile.origins else
         "built-in"]
        for key, value in rows
    ]  # fmt: skip
    click.echo(text_table.table(_SHOWN, cells, names=_SHOWN), nl=False)


@sites.command()
@NAME
@JSON
def check(name: str, as_json: bool) -> None:
    """Compare a profile with the live cluster. Exit with 1 if they differ."""
    from slurm_tf.jobspec import site_comparison
    from slurm_tf.slurm import live_cluster

    profile = _profile(name)
    if profile.site.scheduler == "local":
        raise UsageError(f"{profile.path} is a site without Slurm", "a site with Slurm, whose cluster can be asked")
    cluster = live_cluster.ask()
    found = site_comparison.compare(profile, cluster)
    if as_json:
        rows = [{"key": e.key, "profile": e.profile, "cluster": e.cluster, "file": e.where} for e in found]
        click.echo(json.dumps(rows, indent=2))
    elif found:
        from slurm_tf.cli import text_table

        cells = [[each.key, each.profile, each.cluster, short_path(each.where)] for each in found]
        click.echo(text_table.table(_COMPARED, cells, names=_COMPARED), nl=False)
    for what in dict.fromkeys(cluster.unknown.values()):
        click.echo(f"slurm-tf: not all is compared: {printable(what)}", err=True)
    if not as_json:
        many = f"{len(found)} difference{'' if len(found) == 1 else 's'}"
        click.echo(f"slurm-tf: {many} between {profile.path} and cluster {printable(cluster.name)}", err=True)
    sys.exit(1 if found else 0)


@sites.command()
@NAME
@click.option("--output", "-o", type=ExpandedPath(), help="The file to write; default: NAME.toml of your own profiles.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option(
    "--gpus", multiple=True, metavar="PARTITION=GPUS",
    help="The GPUs of each node of a partition, such as gpu=a100:4, where Slurm does not know of them.",
)  # fmt: skip
@JSON
def detect(name: str, output: Path | None, force: bool, gpus: tuple[str, ...], as_json: bool) -> None:
    """Write a first profile of the live cluster.

    NAME is its ClusterName if none is given. What the cluster does not say stands in the profile as a comment.
    """
    from slurm_tf.jobspec import site_detection
    from slurm_tf.slurm import live_cluster, slurm_conf

    cluster = live_cluster.ask()
    path = output or _own_path(name or cluster.name)
    host = "" if slurm_conf.cluster_name(os.environ) == cluster.name else socket.getfqdn()
    text = site_detection.profile(cluster, _gpus(gpus, cluster), host)
    _write(path, text, force)
    site = shlex.quote(str(path)) if output else path.stem
    if as_json:
        unknown = list(dict.fromkeys(cluster.unknown.values()))
        found = {"site": path.stem, "file": files.absolute(str(path)), "cluster": cluster.name, "unknown": unknown}
        click.echo(json.dumps({**found, "text": text}, indent=2))
        return
    use = "use it" if output else "use it; on this cluster it is used without --site as well"
    click.echo(str(path))
    print_next_commands(
        (f"sites show {site}", "what it says"),
        (f"sites check {site}", "compare it with the cluster"),
        (f"submit JOB --site {site}", use),
    )


def _own_path(name: str) -> Path:
    """Return the file of the user's own profile `name`. Raises UsageError."""
    if not _NAME.fullmatch(name) or name in ("local", "generic"):
        hint = "slurm-tf sites detect NAME"
        raise UsageError(f"found the name {name!r}", "letters, digits and ._- for a profile of its own", hint)
    return search_path.user_config() / "site_configs" / f"{name}.toml"


def _gpus(words: Sequence[str], cluster: "LiveCluster") -> Mapping[str, str]:
    """Return the GPUs of --gpus by partition. Raises UsageError or UnitError."""
    from slurm_tf import units

    names, found = [each.name for each in cluster.partitions], {}
    for word in words:
        partition, equals, text = word.partition("=")
        if not equals or partition not in names:
            raise UsageError(f"found --gpus {word!r}", f"PARTITION=GPUS, PARTITION one of {', '.join(names)}")
        units.parse_gpus(text)
        found[partition] = text
    if found and cluster.has_gpus:
        raise UsageError("found --gpus", "none: GPUs are a gres here, and Slurm says which nodes have them")
    return found


def _write(path: Path, text: str, force: bool) -> None:
    """Write a profile whole, which others may read. Raises UsageError if there is one, and StorageError."""

    def check() -> None:
        if not force and os.path.lexists(path):
            raise UsageError(f"there is {path}", "another NAME or --output", "--force replaces it")

    check()
    with files.explained("write the profile", str(path)):
        for folder in reversed(path.absolute().parents):
            if not folder.exists():
                folder.mkdir(0o755, exist_ok=True)  # a folder that a group may write is refused
        files.write_whole(str(path), text.encode(), 0o644, check)


def _profile(name: str) -> "Profile":
    """Return the profile that is meant. Raises ConfigError or UsageError."""
    from slurm_tf.jobspec import sites, user_settings

    settings = user_settings.read(os.environ, name)
    if settings.unusable:
        raise settings.unusable
    return sites.read(settings.site_name, settings.user.trust)
