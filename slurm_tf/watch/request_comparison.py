"""Compares two versions of a model by what replicas logged of requests: latency, errors, agreement of outputs."""

from dataclasses import dataclass

from slurm_tf.errors import UsageError
from slurm_tf.serve import request_log
from slurm_tf.serve.request_log import RequestRecord

_OK = "OK"


@dataclass(frozen=True, slots=True)
class VersionRequests:
    """The requests that a version answered: how many, how many with an error, milliseconds that they took.

    `p50`, `p90`, `p99`: so many percent of the good answers took at most this time; None without any.
    """

    version: int
    requests: int
    errors: int
    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions. `same_input`: inputs that were logged of both; `same_output`: of these, with the same output."""

    model: str
    first: VersionRequests
    second: VersionRequests
    same_input: int
    same_output: int


def of_versions(folder: str, model: str, first: int, second: int) -> Comparison:
    """Return the comparison of two versions by the log in `folder`. Raises UsageError where one got no request."""
    records: dict[int, list[RequestRecord]] = {first: [], second: []}
    others = set[int]()
    for version, record in request_log.read(folder, model):
        others.add(version)
        if version in records:
            records[version].append(record)
    for version, found in records.items():
        if not found:
            known = ", ".join(map(str, sorted(others))) or "none"
            raise UsageError(f"no request of version {version} of {model} is logged", f"two versions of: {known}")
    outputs = [_outputs(records[version]) for version in (first, second)]
    shared = outputs[0].keys() & outputs[1].keys()
    same = sum(outputs[0][each] == outputs[1][each] for each in shared)
    return Comparison(model, _of(first, records[first]), _of(second, records[second]), len(shared), same)


def _outputs(records: list[RequestRecord]) -> dict[tuple[str, str, str], str]:
    """Return the outputs that were logged, by what was asked and how."""
    return {
        (each.api, each.entrypoint, each.request): each.response
        for each in records
        if each.request and each.response and each.code == _OK
    }


def _of(version: int, records: list[RequestRecord]) -> VersionRequests:
    times = sorted(each.milliseconds for each in records if each.code == _OK)
    p50, p90, p99 = (times[min(len(times) - 1, int(len(times) * part))] if times else None for part in (0.5, 0.9, 0.99))
    return VersionRequests(version, len(records), len(records) - len(times), p50, p90, p99)
