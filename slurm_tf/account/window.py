"""A window of time."""

from typing import NamedTuple


class Window(NamedTuple):
    """A half-open time interval, in seconds since the epoch."""

    start: int
    end: int
