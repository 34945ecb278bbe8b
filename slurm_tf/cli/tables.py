"""What verbs print of runs, as text for people."""

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slurm_tf.cli.words import printable
from slurm_tf.watch import report
from slurm_tf.watch.state import PointState

# So many attempts are shown; --json has all that are kept.
_ATTEMPTS = 10


def status(points: Sequence[PointState]) -> str:
    """Return one run in full, or the points of several in a table."""
    if len(points) > 1:
        return listing(points)
    state = points[0]
    lines = [*_head(state), ""]
    rows = [
        [
            row["role"],
            f"{row['registered']}/{row['tasks']}",
            f"{row['running']}/{row['tasks']}",
            report.amount(row["step"]),
            report.amount(row["rate"]),
            report.amount(row["loss"]),
            str(row["restarts"]),
        ]
        for row in report.roles(state)
    ]
    if rows:
        lines.append(table(["ROLE", "REGISTERED", "RUNNING", "STEP", "STEPS/S", "LOSS", "RESTARTS"], rows))
    if state.attempts:
        *former, last = state.attempts[-_ATTEMPTS:]
        cells = [*(report.attempt(each, True) for each in former), report.attempt(last, report.is_between(state))]
        lines += ["", table(["ATTEMPT", "STARTED", "TIME", "CHECKPOINTS", "MEANING", "REASON"], cells)]
    return "\n".join(lines).rstrip() + "\n"


def listing(points: Sequence[PointState]) -> str:
    """Return one line a run or point."""
    rows = []
    for state in points:
        known = report.point(state)
        rows.append(
            [
                state.target.name,
                state.job or "-",
                report.state_words(state),
                report.elapsed(state) or "-",
                report.amount(known["step"]),
                report.amount((known["values"] or {}).get("loss")),
                str(state.checkpoint.step) if state.checkpoint else "-",
                report.nodes(state.records) or "-",
                report.why(state),
            ]
        )
    return table(["RUN", "JOB", "STATE", "TIME", "STEP", "LOSS", "CHECKPOINT", "NODES", "REASON"], rows)


def checkpoint(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of one checkpoint: step, when it was written, its size, whether it is whole."""
    size = "-" if row["size"] is None else f"{row['size'] / 1e6:.1f} MB"
    return [str(row["step"]), report.ago(row["written"]), size, row["problem"] or "whole"]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table without lines; as wide as it must be where nobody looks at it on a screen."""
    drawn = Table(box=None, pad_edge=False, header_style="")
    for head in heads:
        drawn.add_column(head, overflow="fold", no_wrap=head != "REASON")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 400
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _head(state: PointState) -> list[str]:
    attempt = state.attempt or {}
    rows = [("Run", state.target.name), ("Job", f"{state.job or '-'}  {report.state_words(state)}")]
    if why := report.why(state):
        rows.append(("Why", why))
    if time := report.elapsed(state):
        rows.append(("Time", time))
    if nodes := report.nodes(state.records):
        rows.append(("Nodes", nodes))
    if attempt:
        restarts = attempt.get("restarts") or 0
        said = f"{attempt.get('state')}, {restarts} restarts, as of {report.ago(attempt.get('written'))}"
        rows.append(("Attempt", said))
    kept = state.checkpoint
    rows.append(("Checkpoint", f"step {kept.step}, {report.ago(kept.written)}" if kept else report.UNKNOWN))
    rows += [("Slow", line) for line in report.slow(state)]
    if state.attempts is None:
        rows.append(("Attempts", report.UNKNOWN))
    rows += [("Bad node", line) for line in report.bad_nodes(state)]
    if state.exit_code is not None:
        rows.append(("Exit code", str(state.exit_code)))
    rows += [("Note", note) for note in state.notes]
    return [f"{name:11} {printable(value)}" for name, value in rows]
