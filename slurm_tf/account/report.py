"""A report of usage: its window, its groups, and the diagnostics of its rows."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_tf.account.amounts import Amounts
from slurm_tf.account.diagnostics import Diagnostics, Examples
from slurm_tf.account.usage import Row
from slurm_tf.account.window import Window

_USERS = 8
# Columns without which sums are wrong or incomplete; every release of sacct has them.
_WANTED = ("User", "Account", "Partition", "AllocTRES", "Eligible", "TotalCPU")


@dataclass(frozen=True, slots=True)
class Report:
    """A report. `currency`: "" without prices. `run_problems`: problems with the records of slurm-tf's runs.

    `noticed`: waits for the diagnostics, which are made meanwhile. `left_out`: how many groups are not in `rows`, but
    in `total`.
    """

    window: Window
    by: tuple[str, ...]
    rows: list[Row]
    total: Amounts
    noticed: Callable[[], Diagnostics]
    currency: str = ""
    run_problems: Sequence[str] = ()
    left_out: int = 0

    @property
    def diagnostics(self) -> Diagnostics:
        """What was noticed about the rows."""
        return self.noticed()

    def json(self) -> Iterator[str]:
        """Yield the text of one JSON object in pieces; null: unknown."""
        head = {
            "since": local(self.window.start),
            "until": local(self.window.end),
            "window": list(self.window),
            "running_counted_until": self.diagnostics.until,
            "by": self.by,
            "groups_left_out": self.left_out,
            "currency": self.currency or None,
            "users_seen": sorted(self.diagnostics.users),
            "notes": self.remarks(),
            "total": self.total.as_dict(),
        }
        yield json.dumps(head, indent=1).removesuffix("\n}") + ',\n "groups": ['
        for number, row in enumerate(self.rows):
            text: dict[str, Any] = {**dict(zip(self.by, row.key, strict=True)), **row.amounts.as_dict()}
            yield (",\n" if number else "\n") + json.dumps(text)
        yield "\n ]\n}\n"

    def about(self) -> list[str]:
        """Return lines that name the window and the users whose rows were read."""
        since = f"From {local(self.window.start)}" if self.window.start else "All that there is"
        lines = [f"{since} until {local(self.window.end)}."]
        if self.diagnostics.until is not None:
            lines.append(f"Running jobs are counted until {local(self.diagnostics.until)}.")
        users = sorted(name or "unknown" for name in self.diagnostics.users)
        if users:
            others = f" and {len(users) - _USERS} others" if len(users) > _USERS else ""
            lines.append(f"Rows seen for users: {', '.join(users[:_USERS])}{others}.")
        else:
            lines.append("No rows were seen.")
        return lines

    def remarks(self) -> list[str]:
        """Return a line for each kind of problem with the rows."""
        diagnostics = self.diagnostics
        found = [named(*each) for each in (
            (diagnostics.orphans, "steps have no row of their job and are in no sum"),
            (diagnostics.unreadable, "rows could not be read and are in no sum"),
            (diagnostics.values, "jobs have values that could not be read and are unknown"),
            (diagnostics.values_of_steps, "steps have values that could not be read and are unknown"),
            (diagnostics.unallocated, "jobs have unknown CPUs, GPUs or nodes: hours of these are in no sum"),
            (diagnostics.runaways, "jobs run long after their limit, which cuts them here (sacctmgr show runawayjobs)"),
            (diagnostics.suspended, "jobs were suspended and are cut by the window: that time is taken off their end"),
            (diagnostics.lack_tasks, "jobs lack the NTasks of a step (MaxRSS is of one task): their memory is unknown"),
            (diagnostics.resized, "jobs were made smaller: Slurm has the time before that twice"),
        )]  # fmt: skip
        if diagnostics.unknown_states:
            states = ", ".join(f"{state} ({count})" for state, count in sorted(diagnostics.unknown_states.items()))
            found.append(f"states that are not known here, counted as unknown: {states}")
        if diagnostics.unknown_fields:
            found.append(f"columns that are not known here, left out: {', '.join(diagnostics.unknown_fields)}")
        lacking = [name for name in _WANTED if name in diagnostics.missing_fields]
        if lacking:
            found.append(f"the table lacks {', '.join(lacking)}: what they say is unknown")
        if diagnostics.repeated:
            found.append(f"{diagnostics.repeated} rows came again and count once")
        return [each for each in found if each] + diagnostics.ledger + list(self.run_problems)


def named(examples: Examples, words: str) -> str:
    """Return a line that says how many there are, and the first of them; "" for none."""
    if not examples.total:
        return ""
    more = ", ..." if examples.total > len(examples.first) else ""
    return f"{examples.total} {words}: {', '.join(examples.first)}{more}"


def local(seconds: int) -> str:
    """Return a local time as sacct prints it, followed by its time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
