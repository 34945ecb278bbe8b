"""Removes old versions of a model, but none that answers or is named in serving.json. Standard library, Python 3.9.

A version is renamed to `.removed-N` first, so that nobody finds half of it.
"""

import os
import re
import shutil
from dataclasses import dataclass
from typing import List, Set, Tuple

from slurm_tf.errors import ModelError
from slurm_tf.models import model_versions, serving_file
from slurm_tf.models.model_versions import Version

_REMOVED = ".removed-"
_LEFT = re.compile(rf"{re.escape(_REMOVED)}[0-9]+", re.ASCII)


@dataclass(frozen=True)
class Removal:
    """What was removed: the numbers of versions, also of those that were kept aside; `problems`: why not more."""

    removed: Tuple[int, ...] = ()
    problems: Tuple[str, ...] = ()


def remove(base: str, keep: int) -> Removal:
    """Remove all but the newest `keep` versions of the model in the folder `base`, and of those that are kept aside.

    Versions stay that are promoted, have a label, are a canary or are loaded by the policy of serving.json; so does the
    one before that which answers, to which `rollback` goes and which a replica may still serve. So does what slurm-tf
    has not exported, and a folder that is no whole version.
    """
    try:
        model_versions.check_own(base)
        versions = model_versions.versions(base)
        numbers = [each.number for each in versions]
        needed = {*numbers[:keep]} | _needed(base, numbers)
        aside = model_versions.rejected(base)[keep:]
        left = [name for name in os.listdir(base) if _LEFT.fullmatch(name)]
    except ModelError as error:
        return Removal(problems=(str(error),))
    except OSError as error:
        return Removal(problems=(f"{base}: {error.strerror}",))
    problems: List[str] = []
    for path in (os.path.join(base, name) for name in left):
        problems += _remove_folder(path)
    old = [each for each in versions if each.number not in needed and each.manifest]
    removed = [each.number for each in old if _take_away(base, each, numbers, problems)]
    for number, path in aside:
        found = _remove_folder(path)
        problems += found
        removed += [] if found else [number]
    return Removal(tuple(sorted(removed)), tuple(problems))


def _needed(base: str, numbers: List[int]) -> Set[int]:
    """Return which versions replicas load, and the one before that which answers. Raises ModelError, OSError."""
    serving = serving_file.read(base)
    present = serving.default(numbers)
    before = [number for number in numbers if present is not None and number < present]
    return serving.loaded(numbers) | {*before[:1]}


def _take_away(base: str, version: Version, numbers: List[int], problems: List[str]) -> bool:
    """Remove a version; return whether it is gone: not where serving.json names it by now."""
    aside = os.path.join(base, f"{_REMOVED}{version.number}")
    try:
        os.rename(version.path, aside)
        if version.number in _needed(base, numbers):
            os.rename(aside, version.path)
            return False
    except FileNotFoundError:  # another exporter has removed it
        return False
    except ModelError as error:
        os.rename(aside, version.path)
        problems.append(str(error))
        return False
    except OSError as error:
        problems.append(f"{version.path}: {error.strerror}")
        return False
    problems += _remove_folder(aside)
    return True


def _remove_folder(path: str) -> List[str]:
    """Remove a folder; return what went wrong."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:  # another exporter removes it too
        return []
    except OSError as error:
        return [f"{error.filename or path}: {error.strerror}"]
    return []
