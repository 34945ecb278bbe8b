"""Brings errors of Spark's workers to the user as they are, and those of Spark in its own words."""

import contextlib
import json
import re
from collections.abc import Iterator

from slurm_tf import errors
from slurm_tf.errors import ConfigError, SlurmTfError, StorageError

# An error travels as the text of another one, within a Java stack trace.
_BEGIN, _END = "slurm-tf error [", "] of slurm-tf"
_TOLD = re.compile(re.escape(_BEGIN) + r"(?P<json>[0-9a-f]*)" + re.escape(_END))


class WorkerError(Exception):
    """An error of a worker, whose text `explained` reads."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise an error for the user as a WorkerError."""
    try:
        yield
    except SlurmTfError as error:
        text = json.dumps([type(error).__name__, error.found, error.needed, error.do, error.where])
        raise WorkerError(f"{_BEGIN}{text.encode().hex()}{_END}") from error


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise an error of a worker, or of Spark, as one for the user. `where`: what Spark was doing."""
    from py4j.protocol import Py4JError
    from pyspark.errors import AnalysisException, ParseException, PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        text = str(error)
        if found := found_in(text):
            raise found from error
        line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        if isinstance(error, AnalysisException | ParseException):
            raise ConfigError(
                f"Spark does not understand the SQL: {line}", "SQL that it can run", where=where
            ) from error
        raise StorageError(
            f"Spark ended: {line}", "workers that run to the end", "their logs say more", where
        ) from error


def found_in(text: str) -> SlurmTfError | None:
    """Return the error for the user that a worker raised, from the text of another one; None if there is none."""
    match = _TOLD.search(text)
    if match is None:
        return None
    name, *parts = json.loads(bytes.fromhex(match["json"]))
    error: SlurmTfError = getattr(errors, name)(*parts)
    return error
