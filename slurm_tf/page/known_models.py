"""The models that the page knows: those that the user's runs export, and those that services answer for."""

import hashlib
import os
from collections.abc import Iterator
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request

from slurm_tf.errors import RunError
from slurm_tf.models import model_versions
from slurm_tf.page import known_services
from slurm_tf.page.context import PageContext
from slurm_tf.page.run_cache import KnownRuns
from slurm_tf.run import settings
from slurm_tf.run.folder import RunFolder

# Of so many runs, the newest, it is looked at where they export.
_RUNS = 500


def bases(known: KnownRuns) -> list[str]:
    """Return the folders of models, those of the newest runs first."""
    runs = [points[0].selected.run for points in known.runs.values()][::-1][:_RUNS]
    found = dict.fromkeys(base for run in runs for base in _bases_of(run))
    found.update(
        dict.fromkeys(base for each in known_services.living(known) for base in each.service.settings.models.values())
    )
    return [base for base in found if _has_versions(base)]


def find(context: PageContext, request: Request) -> str:
    """Return the folder of the model that an address names: only one that the list has. Raises HTTPException."""
    key = request.path_params["key"]
    found = next((base for base in bases(context.runs.look()) if key_of(base) == key), None)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such model; the list has all that there are")
    return found


def key_of(base: str) -> str:
    """Return the key of a model in addresses: a path would let an address name any folder."""
    return hashlib.sha256(os.fsencode(base)).hexdigest()[:12]


def name_of(base: str) -> str:
    """Return the name of a model: its folder's, or that of the run whose folder of exports it is."""
    folder, name = os.path.split(base)
    return os.path.basename(folder) if name == "export" else name


def _bases_of(run: RunFolder) -> Iterator[str]:
    """Yield the folders to which a run exports: its own, and that of [export] in its job file."""
    yield run.exports
    submissions = run.submissions
    if not submissions:
        return
    try:
        to = settings.read_settings(submissions[-1]).train.export.to
    except (RunError, OSError):
        return
    if to:
        yield to


def _has_versions(base: str) -> bool:
    try:
        return bool(model_versions.numbered(base) or model_versions.rejected(base))
    except OSError:
        return False
