"""The reservations of the cluster, and which of them a pending job waits behind (scontrol(1), 22.05.8)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slurm_tf.slurm import client, command_output
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord

_FIELD = re.compile(r"(\w+)=(\S*)")
# What the reason of a job says that would run into a reservation for maintenance.
_RESERVED = "Reserved"
# A job that waits for the end of a reservation is expected then, give or take a pass of the scheduler.
_PASS = timedelta(minutes=2)
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Nodes that are kept free of other jobs from `start` to `end`."""

    name: str
    start: datetime
    end: datetime

    def minutes_until(self, now: datetime) -> int:
        """Return the longest time limit, in minutes, of a job that starts now and ends before it; 0 for none.

        A minute is left for the start of the job.
        """
        return max(0, int((self.start - now).total_seconds() // 60) - 1)


def coming(now: datetime) -> tuple[Reservation, ...]:
    """Ask Slurm for the reservations that have not begun, the next one first. Raises SlurmError."""
    text = client.run(["scontrol", "--oneliner", "show", "reservation"], seconds=_SECONDS).stdout
    return tuple(sorted((each for each in parse(text) if each.start > now), key=lambda each: each.start))


def words() -> tuple[str, ...]:
    """Ask Slurm for all reservations; return each with its times. Raises SlurmError."""
    text = client.run(["scontrol", "--oneliner", "show", "reservation"], seconds=_SECONDS).stdout
    return tuple(f"{each.name} (from {each.start:%Y-%m-%dT%H:%M} to {each.end:%Y-%m-%dT%H:%M})" for each in parse(text))


def parse(text: str) -> tuple[Reservation, ...]:
    """Return the reservations in the output of scontrol; without one it prints a sentence."""
    found = []
    for line in text.splitlines():
        fields = dict(_FIELD.findall(line))
        start, end = (command_output.local_time(fields.get(name, "")) for name in ("StartTime", "EndTime"))
        if start and end and "ReservationName" in fields:
            found.append(Reservation(fields["ReservationName"], start, end))
    return tuple(found)


def in_the_way(records: Iterable[JobRecord], now: datetime) -> Mapping[str, Reservation]:
    """Return for each pending job that would start sooner with a shorter time limit the reservation that it waits for.

    These are known for certain: the job cannot end before the reservation begins, and Slurm expects to start it as soon
    as that is over, or says that its nodes are reserved. Keys are job ids. Raises SlurmError.
    """
    waiting = [record for record in records if record.state is JobState.PENDING and record.time_limit]
    if not waiting:
        return {}
    known = coming(now)
    found = {record.id: _of(record, known, now) for record in waiting}
    return {job: reservation for job, reservation in found.items() if reservation}


def _of(record: JobRecord, known: Sequence[Reservation], now: datetime) -> Reservation | None:
    for each in known:
        minutes, limit, expected = each.minutes_until(now), record.time_limit, record.expected_start
        if minutes and limit and expected and limit > timedelta(minutes=minutes) and expected > each.start:
            is_next = abs(expected - each.end) <= _PASS or _RESERVED in record.reason
            return each if is_next else None
    return None
