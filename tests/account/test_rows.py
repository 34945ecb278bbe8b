"""Whatever is printed is read back; totals depend neither on the order of rows nor on how they are cut."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from slurm_tf.account import database, sacct_stream, text_part
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.fields import ASKED
from slurm_tf.account.saved import FileSource
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.slurm.sacct import Printed
from tests.account import printed, stored

SEPARATOR = "\x1f0123ab"
ALL = Window(0, 2**32)
ANY = some.text(some.characters(codec="utf-8"), max_size=12)
HOSTILE = some.text("ab |\n\x1f,'\"12", max_size=12)
PLAIN = some.text("ab ,/=-", max_size=8)
RECORDS = some.lists(printed.any_record(ANY | HOSTILE, ANY | HOSTILE), max_size=4)
# without digits: a saved table's name that holds the rest of a row after a newline is a row
SAVED = some.lists(printed.any_record(PLAIN, some.text("ab |\n\x1fé\x00\t,'\"", max_size=12)), max_size=4)


def streamed(records: list[UsageRecord], cuts: list[int]) -> Iterator[bytes]:
    """Yield what sacct prints live, in pieces."""
    lines = [row for record in records for row in printed.rows(record)]
    data = "".join("".join(line.get(name, "") + SEPARATOR for name in ASKED) + "\n" for line in lines).encode()
    for start, end in pairwise([0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]):
        yield data[start:end]


@given(RECORDS, some.lists(some.integers(0, 10**6), max_size=20), some.sampled_from([1, 100, 24 << 20]))
@settings(max_examples=8)
@pytest.mark.slow
def test_what_sacct_streams_is_read_back_however_it_is_cut(
    records: list[UsageRecord], cuts: list[int], part: int
) -> None:
    with mock.patch.object(text_part, "SIZE", part), database.opened() as found:
        sacct_stream.read(found, Printed(SEPARATOR.encode(), streamed(records, cuts)), ASKED)
        found.complete()
        found.select(ALL)
        assert by_key(list(found.records())) == by_key(records)
        assert (found.diagnostics.orphans.total, found.diagnostics.unreadable.total) == (0, 0)


def read(text: str, window: Window = ALL) -> tuple[list[UsageRecord], Diagnostics]:
    """Return what a file holds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "saved"
        path.write_bytes(text.encode())
        source = FileSource(str(path))
        return list(source.records(window)), source.diagnostics


def by_key(records: list[UsageRecord]) -> list[UsageRecord]:
    return sorted(records, key=repr)


def without_repeats(records: list[UsageRecord]) -> list[UsageRecord]:
    """Return the records that differ in their key; a waiting one is in no window, so that none is here."""
    return list({record.key: record for record in records if record.started or record.ended}.values())


FIRST = (*printed.COLUMNS[:1], "JobName", *printed.COLUMNS[1:-1])


@pytest.mark.slow
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("columns", [printed.COLUMNS, FIRST], ids=["name last", "name second"])
@given(records=SAVED)
@settings(max_examples=4)
def test_what_was_saved_is_read_back(records: list[UsageRecord], columns: tuple[str, ...], closed: bool) -> None:
    records = without_repeats(records)
    found, diagnostics = read(printed.table(records, columns=columns, closed=closed))
    assert by_key(found) == by_key(records)
    assert (diagnostics.orphans.total, diagnostics.unreadable.total, diagnostics.repeated) == (0, 0, 0)


def total(records: list[UsageRecord], window: Window) -> tuple[int, int]:
    lengths = [(record.elapsed(*window, window.end), record) for record in records]
    return sum(length * record.gpus for length, record in lengths), sum(
        length * record.cpus for length, record in lengths
    )


@pytest.mark.slow
@given(SAVED, some.integers(0, 2**32), some.randoms())
@settings(max_examples=4)
def test_totals_depend_neither_on_the_order_nor_on_the_cuts(
    records: list[UsageRecord], cut: int, order: random.Random
) -> None:
    records = without_repeats(records)
    found, _ = read(printed.table(records))
    order.shuffle(records)
    shuffled, diagnostics = read(printed.table(records))
    assert total(found, ALL) == total(shuffled, ALL)
    assert diagnostics.orphans.total == 0
    windows = (Window(0, cut), Window(cut, ALL.end))
    text = printed.table(records)
    parts = [total(read(text, window)[0], window) for window in windows if window.start < window.end]
    assert tuple(map(sum, zip(*parts, strict=True))) == total(found, ALL)


def test_memory_of_steps_that_run_at_the_same_time_adds_up() -> None:
    names = ("JobID", "State", "Start", "End", "AllocTRES", "TRESUsageInTot")
    steps = [
        # batch script, chief and worker side by side, then a step in their place
        ("1.batch", 0, 100, "50M"), ("1.0", 10, 50, "100M"), ("1.1", 11, 50, "200M"), ("1.2", 50, 90, "250M"),
        ("1.3", 95, 95, "260M"), ("1.4", 95, 96, "270M"),
    ]  # fmt: skip
    table = [["1", "COMPLETED", "1000", "1100", "cpu=1,mem=1G,node=1", ""]]
    table += [
        [name, "COMPLETED", str(1000 + start), str(1000 + end), "", f"mem={used}"] for name, start, end, used in steps
    ]
    ((record,), _) = stored.read(table, names)
    assert record.used_memory == 300 * 1024**2
