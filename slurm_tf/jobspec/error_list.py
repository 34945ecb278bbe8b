"""Collects the errors of a configuration, so that one message names all of them; each may say what to write."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slurm_tf.errors import ConfigError, ConfigGroupError


@dataclass(frozen=True, slots=True)
class Advice:
    """What is needed in the place of a word, and what to write."""

    needed: str
    example: str


class ErrorList:
    """Errors that were found, each once."""

    def __init__(self, errors: Iterable[ConfigError] = ()) -> None:
        self.errors: list[ConfigError] = []
        for error in errors:
            self.add(error)

    def add(self, error: ConfigError) -> None:
        """Add an error, or the errors that it consists of."""
        for each in error.errors if isinstance(error, ConfigGroupError) else (error,):
            if str(each) not in map(str, self.errors):
                self.errors.append(each)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Go on after a ConfigError in the body, and add it."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def raise_all(self) -> None:
        """Raise the error, or one ConfigGroupError for several; nothing if there is none."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigGroupError(self.errors)
