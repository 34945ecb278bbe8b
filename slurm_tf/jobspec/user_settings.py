"""Reads the configuration without a job file: the user's file, which site this is, where runs are, whom to trust."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from msgspec import Meta, field

from slurm_tf import files, search_path
from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import layers, sites
from slurm_tf.jobspec.base_table import Base

ClientKind = Literal["commands", "pyslurm"]


class UserFile(Base, frozen=True):
    """$XDG_CONFIG_HOME/slurm-tf/config.toml."""

    site: Annotated[str, Meta(description="the site profile to use")] = ""
    runs: Annotated[str, Meta(description="the folder that holds the folders of all runs")] = ""
    client: Annotated[ClientKind, Meta(description="how to query Slurm: with its commands, or with pyslurm")] = (
        "commands"
    )
    trust: Annotated[
        tuple[str, ...], Meta(description="users whose profiles and templates run in your jobs, with your rights")
    ] = ()
    job: Annotated[dict[str, Any], Meta(description="defaults for all keys of a job file")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class SiteSettings:
    """The configuration without a job file: the user's file, the site, the folder of runs as an absolute path.

    `site_job`: the [job] of the site's profile and of those that it inherits, weakest first. `unusable`: why the site's
    profile cannot be used; `site` is then empty.
    """

    user_path: Path
    user: UserFile
    site_name: str
    site: sites.Site
    runs: str
    site_job: tuple[layers.Layer, ...] = ()
    unusable: ConfigError | None = None


def read(environ: Mapping[str, str], site: str = "") -> SiteSettings:
    """Read the user's file and find the site. Raises ConfigError or UsageError.

    A profile that cannot be used raises nothing yet, unless it is that of `site`: runs can be watched without it.
    """
    user_path, user = _user_file()
    unusable = None
    try:
        name = site or environ.get("SLURM_TF_SITE") or user.site or sites.recognise(environ, user.trust)
        profile = sites.read(name, user.trust)
        loaded, site_job = profile.site, profile.job
    except ConfigError as error:
        if site:
            raise
        name, loaded, site_job, unusable = "", sites.Site(), (), error
    candidates = (
        ("environment: SLURM_TF_RUNS", environ.get("SLURM_TF_RUNS")),
        (f"{user_path}: runs", user.runs),
        (f"site {name}: shared", loaded.shared),
        ("", "runs"),
    )
    where, runs = next((where, text) for where, text in candidates if text)
    return SiteSettings(user_path, user, name, loaded, files.absolute(expand(runs, where)), site_job, unusable)


def expand(path: str, where: str) -> str:
    """Return a path with ~ and variables replaced (files.expand). Raises ConfigError."""
    try:
        return files.expand(path)
    except UsageError as error:
        raise ConfigError(error.found, error.needed, error.do, where) from error


def trusted_users() -> tuple[str, ...]:
    """Return the users whose profiles and templates count, as the user's file says. Raises ConfigError."""
    return _user_file()[1].trust


def client(environ: Mapping[str, str]) -> ClientKind:
    """Return the client to ask Slurm with: $SLURM_TF_CLIENT, else the user file's. Raises ConfigError or UsageError."""
    kind = environ.get("SLURM_TF_CLIENT") or _user_file()[1].client
    if kind not in get_args(ClientKind):
        raise UsageError(f"found SLURM_TF_CLIENT={kind}", "commands or pyslurm")
    return cast(ClientKind, kind)


def _user_file() -> tuple[Path, UserFile]:
    path = search_path.user_file()
    if not path.is_file():
        return path, UserFile()
    # no `trust`: what says whom to trust can be nobody's but the user's
    values = layers.parse_toml(search_path.read(path), path)
    return path, layers.resolve([layers.Layer(str(path), values)], UserFile).spec
