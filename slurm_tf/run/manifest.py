"""Where a submission came from: manifest.json in its folder, and that of the newest one in the run's folder.

Standard library, Python 3.9.
"""

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from slurm_tf.errors import RunError
from slurm_tf.run import json_file


@dataclass(frozen=True)
class ArrayShape:
    """How sweep points are submitted: `one_job`: as tasks of one job array, of which `limit` run at once.

    `points`: by index, the values of the params in which the points differ.
    """

    limit: Optional[int]
    one_job: bool
    points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeOrigin:
    """The code that was copied: `files` files of `size` bytes from the folder `root`.

    `commit` is "" and `dirty` None where git does not know it. `checkpoints`: its folders whose checkpoints are linked,
    `continued`: those whose checkpoints are of the run's submission before.
    """

    root: str
    commit: str
    dirty: Optional[bool]
    files: int
    size: int
    checkpoints: Tuple[str, ...]
    continued: Tuple[str, ...]

    @property
    def words(self) -> str:
        """What was copied and from where, in one line."""
        changes = " with changes" if self.dirty else ""
        known = f", git {self.commit[:8]}{changes}" if self.commit else ""
        size = f"{self.size / 1e6:.1f} MB" if self.size >= 1e6 else f"{self.size / 1e3:.1f} kB"
        return f"a copy of {self.root}: {self.files} file{'s' * (self.files != 1)} of {size}{known}"


@dataclass(frozen=True)
class TemplateOrigin:
    """The job template of a submission, the file that was typed or the nearest one that it extends.

    `scope`: whose it is, as search_path.Scope; `digest`: SHA-256 of its statements, those that it extends merged in.
    """

    name: str
    scope: str
    path: str
    digest: str


@dataclass(frozen=True)
class Manifest:
    """One submission: its job file, resolved, without the values of [env], and the versions of what it was made with.

    `run`: the run's name; `written`: when, in ISO 8601; `array`: None without sweep points; `code`: None if not copied.
    `nodes`: how many nodes the roles need and why, in words; "" where all ask for the same. `params`: the values of the
    job's params, without those of `array`. `cpus`, `gpus`: what one job or array task has of them, None if the job file
    does not say. `template`: None if the job file is no template and extends none.
    """

    run: str
    written: str
    job_file: str
    job: Mapping[str, Any]
    site: str
    array: Optional[ArrayShape]
    code: Optional[CodeOrigin]
    nodes: str
    versions: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    cpus: Optional[int] = None
    gpus: Optional[int] = None
    template: Optional[TemplateOrigin] = None

    def params_of(self, point: Optional[int]) -> Mapping[str, Any]:
        """Return the values of all params of one point, those in which points differ first; None for the whole run."""
        own = self.array.points.get(str(point), {}) if self.array else {}
        return {**own, **self.params}

    @property
    def template_name(self) -> str:
        """The template's name, for accounting; a job file without one is its own, by its `name`."""
        return self.template.name if self.template else self.job_name

    @property
    def job_name(self) -> str:
        """The `name` of the job file."""
        return str(self.job["name"])


def read(path: str) -> Manifest:
    """Return the manifest in the file `path`. Raises RunError."""
    try:
        return json_file.read(path, Manifest)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})", "the manifest that submit wrote") from error


def write(path: str, manifest: Manifest) -> None:
    """Write a manifest. Raises OSError."""
    json_file.write(path, manifest)
