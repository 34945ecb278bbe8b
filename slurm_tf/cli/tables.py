"""Tables of runs, attempts and checkpoints, as text for the terminal."""

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slurm_tf.cli.terminal import printable
from slurm_tf.watch import status_rows
from slurm_tf.watch.run_overview import RunOverview

# Number of attempts that are shown; --json has all that are kept.
_ATTEMPTS = 10


def status(points: Sequence[RunOverview]) -> str:
    """Return the full status of one run or sweep point, or a table of several."""
    if len(points) > 1:
        return run_list(points)
    state = points[0]
    lines = [*_summary_lines(state), ""]
    rows = [
        [
            row["role"],
            f"{row['registered']}/{row['tasks']}",
            f"{row['running']}/{row['tasks']}",
            status_rows.number_text(row["step"]),
            status_rows.number_text(row["rate"]),
            status_rows.number_text(row["loss"]),
            str(row["restarts"]),
        ]
        for row in status_rows.roles(state)
    ]
    if rows:
        lines.append(table(["ROLE", "REGISTERED", "RUNNING", "STEP", "STEPS/S", "LOSS", "RESTARTS"], rows))
    if state.attempts:
        *former, last = state.attempts[-_ATTEMPTS:]
        cells = [
            *(status_rows.attempt_cells(each, True) for each in former),
            status_rows.attempt_cells(last, status_rows.has_no_running_attempt(state)),
        ]
        lines += ["", table(["ATTEMPT", "STARTED", "TIME", "CHECKPOINTS", "MEANING", "REASON"], cells)]
    return "\n".join(lines).rstrip() + "\n"


def run_list(points: Sequence[RunOverview]) -> str:
    """Return a table with one line for each run or sweep point."""
    rows = []
    for state in points:
        known = status_rows.as_dict(state)
        rows.append(
            [
                state.selected.name,
                state.job or "-",
                status_rows.state_text(state),
                status_rows.elapsed_text(state) or "-",
                status_rows.number_text(known["step"]),
                status_rows.number_text((known["values"] or {}).get("loss")),
                str(state.checkpoint.step) if state.checkpoint else "-",
                status_rows.node_lists(state.records) or "-",
                status_rows.reason_words(state),
            ]
        )
    return table(["RUN", "JOB", "STATE", "TIME", "STEP", "LOSS", "CHECKPOINT", "NODES", "REASON"], rows)


def checkpoint_cells(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of one checkpoint: step, time since it was written, size, and "whole" or what is wrong."""
    size = "-" if row["size"] is None else f"{row['size'] / 1e6:.1f} MB"
    return [str(row["step"]), status_rows.age_text(row["written"]), size, row["problem"] or "whole"]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table without borders; it is folded to the terminal's width, and not folded where there is none."""
    drawn = Table(box=None, pad_edge=False, header_style="")
    for head in heads:
        drawn.add_column(head, overflow="fold", no_wrap=head != "REASON")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 400
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _summary_lines(state: RunOverview) -> list[str]:
    attempt = state.attempt
    rows = [("Run", state.selected.name), ("Job", f"{state.job or '-'}  {status_rows.state_text(state)}")]
    if why := status_rows.reason_words(state):
        rows.append(("Why", why))
    if time := status_rows.elapsed_text(state):
        rows.append(("Time", time))
    if nodes := status_rows.node_lists(state.records):
        rows.append(("Nodes", nodes))
    if attempt:
        said = f"{attempt.state.value}, {attempt.restarts} restarts, as of {status_rows.age_text(attempt.written)}"
        rows.append(("Attempt", said))
    newest = state.checkpoint
    age = status_rows.age_text(newest.written if newest else None)
    rows.append(("Checkpoint", f"step {newest.step}, {age}" if newest else status_rows.UNKNOWN))
    rows += [("Slow", line) for line in status_rows.straggler_lines(state)]
    if state.attempts is None:
        rows.append(("Attempts", status_rows.UNKNOWN))
    rows += [("Bad node", line) for line in status_rows.bad_node_lines(state)]
    if state.exit_code is not None:
        rows.append(("Exit code", str(state.exit_code)))
    rows += [("Note", note) for note in state.notes]
    return [f"{name:11} {printable(value)}" for name, value in rows]
