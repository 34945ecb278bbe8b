"""docs/troubleshooting.md: what it quotes of Slurm is what Slurm says. Its own messages: tests/test_docs.py."""

import re
from pathlib import Path

import pytest

from slurm_tf.slurm import pending_reasons
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = ROOT / "tests" / "recorded" / "messages.tsv"
REFUSALS = ROOT / "tests" / "recorded" / "slurm-22.05.8" / "sbatch-refusals.txt"


def rows(page: Path, head: str) -> list[list[str]]:
    """Return the rows of the table whose first columns have this heading."""
    _, found, rest = page.read_text().partition(f"| {head} |")
    assert found, head
    table = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table]


def test_each_reason_is_there_with_the_words_of_status() -> None:
    shown = {cells[0].strip("`"): cells[1] for cells in rows(PAGE, "reason | meaning")}
    assert shown == pending_reasons.EXPLANATIONS


def test_each_refusal_that_was_recorded_is_there() -> None:
    words = re.findall(r"^sbatch: error: (?:Batch job submission failed: )?(.*)$", REFUSALS.read_text(), re.MULTILINE)
    known = "".join(" ".join(cells) for cells in rows(PAGE, "sbatch prints"))
    assert [each for each in words if re.sub(r": \w+$", ": NAME", each) not in known] == []


def test_what_it_quotes_is_what_slurm_and_tensorflow_print() -> None:
    words = " ".join(PAGE.read_text().split())
    lines = [line.split("\t") for line in MESSAGES.read_text().splitlines() if not line.startswith("#")]
    assert [text for _, text in lines if text not in words] == []


@pytest.mark.parametrize("reason", sorted(pending_reasons.EXPLANATIONS))
def test_of_what_never_goes_away_the_page_does_not_say_wait(reason: str) -> None:
    advice = next(cells[2] for cells in rows(PAGE, "reason | meaning") if cells[0] == f"`{reason}`")
    assert not (pending_reasons.is_permanent(reason) and advice.startswith("wait"))
