"""The verb org: organizations, their users and their quotas."""

import json

import click

from slurm_tf.cli import options


@click.group()
def org() -> None:
    """Show organizations, their users and quotas: Slurm's accounts, associations and QOS."""


@org.command()
@click.argument("name", required=False, default="")
@options.JSON
def show(name: str, as_json: bool) -> None:
    """Show organization NAME, or all: users, limits, and what is allocated, used, waiting and left."""
    from slurm_tf.cli import org_tables
    from slurm_tf.org import organizations

    found = organizations.read()
    shown = (found.named(name),) if name else found.organizations
    if as_json:
        click.echo(json.dumps(org_tables.as_dict(found, shown), indent=2))
        return
    click.echo(org_tables.text(found, shown), nl=False)
    if found.unknown:
        click.echo(f"slurm-tf: what is allocated, used and waiting is unknown: {found.unknown}", err=True)
