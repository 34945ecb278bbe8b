"""Calls functions in threads while a command does something else."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def meanwhile(function: Callable[..., T], *arguments: object) -> Iterator[Callable[[], T]]:
    """Call a function in a thread; yield what waits for it, and returns what it returned or raises what it raised."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(function, *arguments).result
