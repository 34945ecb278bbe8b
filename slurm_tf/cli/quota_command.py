"""The verb quota: what the user may still use."""

import json
from typing import Any

import click

from slurm_tf.cli import options


@click.command()
@options.JSON
def quota(as_json: bool) -> None:
    """Show your limits on every level: what is left, who uses it, and until when.

    The levels are your own associations, the organizations that they are in, and QOS. Limits of partitions are not
    among them.
    """
    from slurm_tf.cli import limit_notes, limits_table, terminal, text_table
    from slurm_tf.org import user_quota

    mine = user_quota.of_user()
    if as_json:
        known: dict[str, Any] = limits_table.as_dict(mine.limits)
        for row, limit in zip(known["limits"], limits_table.ordered(mine.limits), strict=True):
            until = mine.until(limit) if not limit.left else None
            row["until"] = until.timestamp() if until else None
            row["jobs"] = [each.id for each in mine.holders(limit)]
        click.echo(json.dumps({**known, "default_account": mine.default_account or None}, indent=2))
        return
    runs = limit_notes.run_names()
    lines = limits_table.text(mine.limits, terminal.screen(), rows=None)
    click.echo("\n".join(lines))
    click.echo(
        text_table.sentences([f"{line[0].upper()}{line[1:]}." for line in user_quota.in_use_lines(mine, runs)]),
        nl=False,
    )
    if mine.unknown and not mine.limits.unknown:
        click.echo(f"slurm-tf: who uses what is limited is unknown: {mine.unknown}", err=True)
