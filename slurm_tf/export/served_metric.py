"""Whether a new version is worse than the one that is served, by a metric. Standard library, Python 3.9."""

import math
from typing import Mapping

from slurm_tf.models import serving_file
from slurm_tf.run.train_settings import Better, ExportSettings


def problem(settings: ExportSettings, metrics: Mapping[str, float], base: str) -> str:
    """Return why a version with these metrics is not to be served, "" if it may be. Raises ModelError, OSError.

    A version whose metric is not known is not served; it counts as better than one whose metric is not known.
    """
    name = settings.metric
    if not name:
        return ""
    value = metrics.get(name)
    if value is None or not math.isfinite(value):
        known = ", ".join(sorted(metrics)) or "none"
        found = "is not known" if value is None else f"is {value}"
        return f"its {name} {found}; needed a number, as [export] metric says; the program reported {known}"
    current = serving_file.served(base)
    other = current.manifest.metrics.get(name) if current and current.manifest else None
    if current is None or other is None or not math.isfinite(other):
        return ""
    is_worse = value < other if settings.mode is Better.MAX else value > other
    return f"its {name} {value:.6g} is worse than {other:.6g} of version {current.number}" if is_worse else ""
