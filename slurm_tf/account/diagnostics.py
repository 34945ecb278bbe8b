"""Diagnostics of a report: rows that were left out, repeated or not understood."""

from collections import Counter
from dataclasses import dataclass, field

from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.slurm.job_states import JobState

# All are counted, but only this many of each kind are named: a malicious file must not fill the memory.
_NAMED = 20
_USERS = 100_000
_DAY = 86400
# Slurm never ends a job without a time limit. If one seems to have run for a year, slurmctld has lost it.
_FORGOTTEN = 365 * _DAY


@dataclass
class Examples:
    """The number of occurrences, and the first of them as examples."""

    total: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count one occurrence."""
        self.total += 1
        if len(self.first) < _NAMED:
            self.first.append(text)


@dataclass
class Diagnostics:
    """What was noticed while records were read; complete once all are read.

    `until`: the latest time until which a running incarnation is counted, None if none runs.
    """

    records: int = 0
    until: int | None = None
    users: set[str] = field(default_factory=set)
    unknown_states: Counter[str] = field(default_factory=Counter)
    unknown_fields: list[str] = field(default_factory=list)
    missing_fields: list[str] = field(default_factory=list)
    # steps without a row of their job: they are in no sum
    orphans: Examples = field(default_factory=Examples)
    # rows that could not be parsed, with the reason
    unreadable: Examples = field(default_factory=Examples)
    # records that occurred more than once, because files overlap
    repeated: int = 0
    # incarnations that are recorded as running long after their time limit: sacctmgr show runawayjobs
    runaways: Examples = field(default_factory=Examples)
    # jobs that were shrunk: Slurm records the time before that twice, and so does sreport (22.05.8)
    resized: Examples = field(default_factory=Examples)
    # suspended incarnations that are partly outside the window: Slurm does not record when they were suspended, so
    # their CPU-seconds in the window may be wrong
    suspended: Examples = field(default_factory=Examples)
    _known: set[str] = field(default_factory=set, repr=False, compare=False)

    def add_record(self, record: UsageRecord, start: int, end: int, now: int) -> None:
        """Record what is noticeable about a record that is counted in [start, end)."""
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
        """Add the diagnostics of the source, which read the records before they were selected."""
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
