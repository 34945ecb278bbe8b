"""Diagnostics of a report: which rows were left out, repeated or not understood, so that nothing is hidden."""

from collections import Counter
from dataclasses import dataclass, field

from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.slurm.job_states import JobState

# All are counted, but only so many of each kind are named: a hostile file must not fill the memory.
_NAMED = 20
_USERS = 100_000
_DAY = 86400
# Slurm never ends a job that has no time limit; a job that has run for a year has been forgotten by slurmctld.
_FORGOTTEN = 365 * _DAY


@dataclass
class Examples:
    """A number of occurrences, and the first of them as examples."""

    total: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count one."""
        self.total += 1
        if len(self.first) < _NAMED:
            self.first.append(text)


@dataclass
class Diagnostics:
    """What was found while records were read; complete once all are read.

    `until`: the latest second until which a running incarnation is counted, None if none runs.
    """

    records: int = 0
    until: int | None = None
    users: set[str] = field(default_factory=set)
    unknown_states: Counter[str] = field(default_factory=Counter)
    unknown_fields: list[str] = field(default_factory=list)
    missing_fields: list[str] = field(default_factory=list)
    # steps whose job is not there: their jobs are not in any sum
    orphans: Examples = field(default_factory=Examples)
    # rows that could not be read, with the reason
    unreadable: Examples = field(default_factory=Examples)
    # records that came again: files that overlap
    repeated: int = 0
    # incarnations that Slurm takes for running long after their limit: sacctmgr show runawayjobs
    runaways: Examples = field(default_factory=Examples)
    # jobs that were made smaller: Slurm has the time before twice, sreport too (22.05.8)
    resized: Examples = field(default_factory=Examples)
    # suspended ones that the window cuts: Slurm does not say when they were, so their CPU seconds may be others
    suspended: Examples = field(default_factory=Examples)
    _known: set[str] = field(default_factory=set, repr=False, compare=False)

    def add_record(self, record: UsageRecord, start: int, end: int, now: int) -> None:
        """Record what a report must say about a record that is counted in [start, end)."""
        self.records += 1
        if record.user not in self.users and len(self.users) < _USERS:
            self.users.add(record.user)
        if record.state_text not in self._known:
            self._unknown(record)
        started = record.started
        if started is None:
            return
        if record.ended is None:
            self._running(record, started, now)
        if record.submitted is not None and record.submitted > started:
            self.resized.add(record.id)
        if record.suspended:
            stop = now if record.ended is None else record.ended
            if started < start or stop > end:
                self.suspended.add(record.id)

    def add_reading(self, read: "Diagnostics") -> None:
        """Add the diagnostics of the source that read the records, before they were selected."""
        self.unknown_fields, self.missing_fields = read.unknown_fields, read.missing_fields
        self.orphans, self.unreadable, self.repeated = read.orphans, read.unreadable, read.repeated

    def _unknown(self, record: UsageRecord) -> None:
        state = record.state_text
        if record.state is not JobState.UNKNOWN:
            if len(self._known) < _USERS:
                self._known.add(state)
        elif state in self.unknown_states or len(self.unknown_states) < _NAMED:
            self.unknown_states[state] += 1

    def _running(self, record: UsageRecord, started: int, now: int) -> None:
        until = now if record.counted_until is None else record.counted_until
        self.until = until if self.until is None else max(self.until, until)
        allowed = _FORGOTTEN if record.limit is None else record.limit * 60 + _DAY
        if until - started > allowed:
            self.runaways.add(record.id)
