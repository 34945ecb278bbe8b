"""The options of `slurm-tf usage` that choose rows and groups: --by, --sort, --top, --name, --state, --group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurm_tf.errors import SlurmError, UsageError
from slurm_tf.slurm.job_states import JobState

if TYPE_CHECKING:
    from slurm_tf.account.usage import Row


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of a report: by which words, in which order, and how many; None: all."""

    by: tuple[str, ...]
    sort: str
    top: int | None

    @classmethod
    def read(cls, by: str | None, sort: str, top: int | None, others: bool) -> "Groups":
        """Return what was typed; `others`: whether --group was typed, which has its own groups. Raises UsageError."""
        if others and (by or sort or top):
            raise UsageError("found --group with --by, --sort or --top", "--group alone, or the others")
        words = tuple(word for each in (by or "user").split(",") if (word := each.strip()))
        if by or sort:
            from slurm_tf.account import row_order, usage

            usage.check_words(words)
            row_order.check(sort, words)
        return cls(words, sort, top)

    def shown(self, rows: "Sequence[Row]") -> "list[Row]":
        """Return the rows that are shown, in their order."""
        from slurm_tf.account import row_order

        return row_order.ordered(rows, self.by, self.sort)[: self.top]


def conditions(names: Sequence[str], states: Sequence[str]) -> list[str]:
    """Return the conditions, in SQL, for jobs whose name matches one of `names` and whose state is one of `states`.

    Raises UsageError.
    """
    from slurm_tf.account.literals import literal, one_of

    found = [" or ".join(f"name glob {literal(each)}" for each in names)] if names else []
    known = [JobState.parse(each) for each in states]
    if JobState.UNKNOWN in known:
        words = ", ".join(state.name for state in JobState if state is not JobState.UNKNOWN)
        raise UsageError(f"found --state {states[known.index(JobState.UNKNOWN)]}", f"one of {words}, or its short name")
    word = "upper(rtrim(split_part(state_text, ' ', 1), '+'))"
    found += one_of([word], [text for state in known for text in (state.name, state.short)])
    return [f"({each})" for each in found]


def own_accounts() -> list[str]:
    """Return the accounts of who asks. Raises UsageError where Slurm does not say them."""
    from slurm_tf.slurm import usage_limits

    try:
        found = usage_limits.accounts()
    except SlurmError as error:
        raise UsageError(f"your accounts are unknown: {error.found}", "--account NAMES") from error
    if not found:
        raise UsageError("found no account of yours", "--account NAMES")
    return list(found)
