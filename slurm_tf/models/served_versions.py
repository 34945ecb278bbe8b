"""Chooses which versions of a model answer: changes to its serving.json. Standard library, Python 3.9.

Each change raises ModelError for a folder that others can change or a version that there is not, UsageError, OSError.
"""

from dataclasses import replace
from typing import Callable, Optional

from slurm_tf.errors import UsageError
from slurm_tf.models import model_versions, serving_file
from slurm_tf.models.serving_file import Canary, Serving


def promote(base: str, version: int) -> Serving:
    """Have a version answer requests that name no version, also when newer ones come."""
    model_versions.find(base, version)

    def promoted(serving: Serving) -> Serving:
        # the one that was tried with a part of the requests now gets all of them
        is_canary = serving.canary is not None and serving.canary.version == version
        return replace(serving, promoted=version, canary=None if is_canary else serving.canary)

    return _change(base, promoted)


def rollback(base: str) -> Serving:
    """Have the version before the present one answer requests that name no version."""
    numbers = [each.number for each in model_versions.versions(base)]
    present = serving_file.read(base).default(numbers)
    before = max((number for number in numbers if present is not None and number < present), default=None)
    if before is None:
        found = "no version answers" if present is None else f"version {present} answers, and there is none before it"
        raise UsageError(found, "a version before it", f"there are {', '.join(map(str, numbers)) or 'no versions'}")
    return _change(base, lambda serving: replace(serving, promoted=before, canary=None))


def canary(base: str, version: int, percent: float) -> Serving:
    """Have a version answer `percent` of the requests that name no version; 0: none any more."""
    if not 0 <= percent <= 100:
        raise UsageError(f"found {percent:g} percent", "0 to 100")
    if percent:
        model_versions.find(base, version)
    chosen = Canary(version, percent) if percent else None
    return _change(base, lambda serving: replace(serving, canary=chosen))


def label(base: str, name: str, version: Optional[int]) -> Serving:
    """Give a version a name, by which requests can ask for it; None takes the name away."""
    if not name.isidentifier():
        raise UsageError(f"found the label {name!r}", "a name of letters, digits and _, such as stable")
    if version is not None:
        model_versions.find(base, version)

    def named(serving: Serving) -> Serving:
        others = {each: number for each, number in serving.labels.items() if each != name}
        return replace(serving, labels=others if version is None else {**others, name: version})

    return _change(base, named)


def words(base: str, serving: Serving) -> str:
    """Return which versions answer, in words."""
    default = serving.default(each.number for each in model_versions.versions(base))
    parts = [f"version {default} answers" if default is not None else "no version answers"]
    parts += [f"{serving.canary.percent:g}% of the requests go to {serving.canary.version}"] if serving.canary else []
    parts += [f"{name} is {number}" for name, number in sorted(serving.labels.items())]
    return ", ".join(parts)


def _change(base: str, changed: Callable[[Serving], Serving]) -> Serving:
    """Write serving.json anew; return what it says."""
    model_versions.check_own(base)
    serving = changed(serving_file.read(base))
    serving_file.write(base, serving)
    return serving
