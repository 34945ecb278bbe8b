"""Times the parts of something long, and prints them: for tests that follow a person from the beginning to the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Times of parts, in their order; each is printed at its end, as a later one may fail."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        began = time.monotonic()
        yield
        self._seconds.append(time.monotonic() - began)
        self.print(name, self._seconds[-1])

    def print_sum(self) -> None:
        """Print the time of all parts together."""
        self.print("in all", sum(self._seconds))

    @staticmethod
    def print(name: str, seconds: float) -> None:
        """Print a line of the table."""
        print(f"{seconds:7.1f} s  {name}", flush=True)
