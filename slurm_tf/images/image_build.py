"""Has the site's runtime build an image on this machine: aside, so that jobs see all of it or nothing."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from slurm_tf import files
from slurm_tf.errors import ImageError, UsageError
from slurm_tf.images import image_recipe
from slurm_tf.images.image_recipe import Recipe
from slurm_tf.run import image_kind, process_end
from slurm_tf.run.container_settings import Runtime
from slurm_tf.run.image_kind import ImageKind

# Names with a dot at their beginning are no images.
_ASIDE = ".build-"
# As stdout is for the path of the image alone.
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Builder:
    """What makes a site's images: the `program` of its runtime, which `modules` bring; `folder`: where they are."""

    runtime: Runtime
    program: str
    modules: tuple[str, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class Order:
    """An image to make: its `name` below the folder, and what from, a definition file or an address (`source`).

    `kind`: None for the runtime's usual one; `options`: more words for the runtime's command that builds or pulls;
    `replace`: in the place of an image of this name.
    """

    name: str
    source: str
    kind: ImageKind | None = None
    options: tuple[str, ...] = ()
    replace: bool = False


def build(builder: Builder, order: Order, say: Callable[[str], None]) -> str:
    """Make an image, and return its path. `say` is told what is run; its output goes to stderr.

    Raises UsageError, ImageError and StorageError.
    """
    runtime = builder.runtime
    source = image_recipe.read_source(order.source, runtime)
    name, kind = image_recipe.read_name(order.name, runtime, order.kind)
    path = os.path.join(builder.folder, name)
    _check_free(path, order.replace)
    with files.explained("build an image", builder.folder), _aside(os.path.dirname(path)) as aside:
        target = os.path.join(aside, os.path.basename(path))
        tag = f"slurm-tf-{secrets.token_hex(4)}"
        recipe = image_recipe.recipe(runtime, builder.program, source, kind, target, tag, order.options)
        _check_programs(recipe, builder.modules)
        _make(recipe, lambda argv: say(f"{_words(argv)} for {path}"))
        if not os.path.lexists(target) or image_kind.of(target) is None:
            found = f"{recipe.steps[-1][0]} ended without an error, and has made no {kind.value}"
            raise ImageError(found, "an image", "its output above may say why", 1)
        os.utime(target)  # the date of a folder would be that of the image's root
        _check_free(path, order.replace)
        _put(target, path, aside)
    return path


def _check_free(path: str, replace: bool) -> None:
    if not os.path.lexists(path):
        return
    if not replace:
        do = "--replace takes it from the jobs that run in it; another name does not"
        raise UsageError(f"there is an image {path}", "a name that is not used", do)
    with files.explained("build an image", path):
        if image_kind.of(path) is None:
            raise UsageError(f"{path} is no image", "a name that is not used")


@contextmanager
def _aside(parent: str) -> Iterator[str]:
    """Make a folder in `parent`, on the same file system as the image to be; it is removed at the end."""
    os.makedirs(parent, exist_ok=True)
    path = tempfile.mkdtemp(prefix=_ASIDE, dir=parent)
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: str) -> None:
    """Remove a folder, in which an image may have folders that even its owner cannot write."""
    for folder, names, _ in os.walk(path):
        for each in (os.path.join(folder, name) for name in names):
            if not os.path.islink(each):
                os.chmod(each, 0o700)
    shutil.rmtree(path)


def _put(target: str, path: str, aside: str) -> None:
    """Give an image its name. A folder takes no other's place by a rename: the old one is first moved aside."""
    if os.path.isdir(target) or os.path.isdir(path):
        old = os.path.join(aside, "old")
        if os.path.lexists(path):
            os.rename(path, old)
        os.rename(target, path)
    else:
        files.sync(target)
        os.replace(target, path)
    files.sync(os.path.dirname(path))


def _check_programs(recipe: Recipe, modules: Sequence[str]) -> None:
    for program in dict.fromkeys(step[0] for step in recipe.steps):
        if shutil.which(program) is None:
            load = f"module load {' '.join(modules)}" if modules else "do it where the site's runtime is installed"
            raise UsageError(f"there is no program {program} here", "it, to make an image", load)


def _make(recipe: Recipe, before: Callable[[Sequence[str]], None]) -> None:
    """Run the commands of a recipe. Raises ImageError at the first that fails."""
    try:
        for step in recipe.steps:
            before(step)
            code = _run(step, _STDERR)
            if code:
                raise _failed(step, code)
    finally:
        if recipe.clearing:
            _run(recipe.clearing, subprocess.DEVNULL)


def _run(argv: Sequence[str], output: int) -> int:
    """Return the exit code of a command, negative for a signal; it may ask for a password at the terminal."""
    return subprocess.run(argv, env=_environ(os.environ), stdout=output, stderr=output, check=False).returncode


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a builder: Charliecloud's refuses to work without USER."""
    user = environ.get("USER") or pwd.getpwuid(os.geteuid()).pw_name
    return {**environ, "USER": user}


def _failed(argv: Sequence[str], code: int) -> ImageError:
    do = "it says why above; nothing is left of the image"
    return ImageError(f"{_words(argv)} {process_end.words(code)}", "an image", do, code if code > 0 else 128 - code)


def _words(argv: Sequence[str]) -> str:
    """Return the words of a command that say what it does, without its options."""
    return " ".join(argv[:1] if argv[1].startswith("-") else argv[:2])
