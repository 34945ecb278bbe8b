"""Metrics of a replica for Prometheus, under the names that TensorFlow Serving gives them."""

import bisect
from typing import Dict, List, Tuple

# TensorFlow Serving's buckets of times (servables/tensorflow/util.cc), in microseconds.
_TIMES = tuple(10 * 1.8**power for power in range(33))
# and of numbers of examples
_COUNTS = tuple(float(2**power) for power in range(15))


class Counter:
    """Counts, by the values of its labels."""

    kind = "counter"

    def __init__(self, name: str, *labels: str) -> None:
        self.name, self.labels = name, labels
        self.values: Dict[Tuple[str, ...], float] = {}

    def add(self, *values: str, by: float = 1) -> None:
        """Add to the count for these values of the labels."""
        self.values[values] = self.values.get(values, 0) + by

    def set(self, *values: str, to: float) -> None:
        """Say what the count for these values of the labels is."""
        self.values[values] = to

    def lines(self) -> List[str]:
        """Return the lines of Prometheus' text format."""
        head = [f"# TYPE {self.name} {self.kind}"]
        return head + [f"{self.name}{{{_labels(self.labels, key)}}} {value:g}" for key, value in self.values.items()]


class Gauge(Counter):
    """A number that goes up and down, by the values of its labels."""

    kind = "gauge"


class Histogram:
    """A distribution of times or sizes, by the values of its labels."""

    def __init__(self, name: str, bounds: Tuple[float, ...], *labels: str) -> None:
        self.name, self.bounds, self.labels = name, bounds, labels
        self.counts: Dict[Tuple[str, ...], List[int]] = {}
        self.sums: Dict[Tuple[str, ...], float] = {}

    def add(self, value: float, *values: str) -> None:
        """Add a value for these values of the labels."""
        counts = self.counts.get(values)
        if counts is None:
            counts = self.counts[values] = [0] * (len(self.bounds) + 1)
            self.sums[values] = 0.0
        counts[bisect.bisect_right(self.bounds, value)] += 1
        self.sums[values] += value

    def lines(self) -> List[str]:
        """Return the lines of Prometheus' text format."""
        lines = [f"# TYPE {self.name} histogram"]
        for key, counts in self.counts.items():
            labels, total = _labels(self.labels, key), 0
            for bound, count in zip([*map("{:g}".format, self.bounds), "+Inf"], counts):
                total += count
                lines.append(f'{self.name}_bucket{{{labels},le="{bound}"}} {total}')
            lines.append(f"{self.name}_sum{{{labels}}} {self.sums[key]:g}")
            lines.append(f"{self.name}_count{{{labels}}} {total}")
        return lines


def _labels(names: Tuple[str, ...], values: Tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """All metrics of a replica. Label values are the names of models that it serves, never what a client sent."""

    def __init__(self) -> None:
        prefix = ":tensorflow:serving:"
        self.requests = Counter(prefix + "request_count", "model_name", "status")
        self.latency = Histogram(prefix + "request_latency", _TIMES, "model_name", "API", "entrypoint")
        self.runtime = Histogram(prefix + "runtime_latency", _TIMES, "model_name", "API", "runtime")
        self.examples = Histogram(prefix + "request_example_counts", _COUNTS, "model")
        self.examples_total = Counter(prefix + "request_example_count_total", "model")
        self.warmup = Histogram(prefix + "model_warmup_latency", _TIMES, "model_path", "status")
        self.loads = Counter(":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status")
        self.load_latency = Counter(":tensorflow:cc:saved_model:load_latency", "model_path")
        self.in_flight = Gauge(":slurm_tf:serving:requests_in_flight")
        self.versions = Gauge(":slurm_tf:serving:version_requests", "model_name", "version", "status")

    def page(self) -> str:
        """Return the page /monitoring/prometheus/metrics."""
        return "\n".join(line for each in vars(self).values() for line in each.lines()) + "\n"
