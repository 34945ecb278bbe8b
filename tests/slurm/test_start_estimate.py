"""The answers of sbatch --test-only of Slurm 22.05.8: to a job, a heterogeneous job and an array."""

from slurm_tf.slurm import start_estimate
from tests.conftest import RECORDED

TEXT = (RECORDED / "slurm-22.05.8" / "sbatch-test-only.txt").read_text()


def test_each_answer_has_a_start() -> None:
    found = [start_estimate.parse(line).start for line in TEXT.splitlines()]
    assert [each.isoformat()[:19] if each else None for each in found] == [
        "2026-12-01T03:59:10", "2026-12-01T03:50:22", "2026-12-01T03:50:23",
    ]  # fmt: skip


def test_other_words_have_none_and_are_kept() -> None:
    said = start_estimate.parse("sbatch: something else")
    assert (said.start, said.text) == (None, "sbatch: something else")
