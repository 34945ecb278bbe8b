"""Reads a recipe and checks it, without a look at its sources; what it is made of is the recipe's hash."""

import ast
import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from slurm_tf import files, units
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import ConfigError, DatasetError, UnitError, UsageError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.layers import Layer
from slurm_tf.prepare import sql_types
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.recipe import FeatureKeys, Recipe, Source
from slurm_tf.run import env, manifest
from slurm_tf.run.folder import RunFolder

FILES, FOLDERS = ("csv", "jsonl", "parquet"), ("images", "arrays")
SERVERS = ("mysql", "postgresql")
DATABASES = ("sqlite", *SERVERS)
# Begins the columns that a preparation adds.
RESERVED = "slurm_tf_"
TRAIN = "train"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SPLIT = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_FILE = re.compile(r"\w[\w.+-]*", re.ASCII)
_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")
# Changes when the same recipe would give other records.
_VERSION = 1
# MiB: Spark does not start with less.
_LEAST_MEM = {"duckdb": 128, "spark": 512}
_FORMS = {"tfrecord": Form.TFRECORD, "csv": Form.CSV, "jsonl": Form.JSON_LINES}


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe that was read from `path`, with the texts that it names; `hash`: of all rows depend on but inputs.

    `data_folder`: what the paths of data are relative to; it is another folder than that of `path` where a job runs a
    copy of the code.
    """

    path: str
    keys: Recipe
    sql: str | None
    python: str | None
    schema: Schema
    hash: str
    data_folder: str

    def located(self) -> "LoadedRecipe":
        """Return the recipe with its path from the root, for processes that run elsewhere."""
        return dataclasses.replace(self, path=os.path.abspath(self.path))

    @property
    def folder(self) -> str:
        """The folder of the data set."""
        return self.data_path(self.keys.output.folder)

    @property
    def form(self) -> Form:
        """What the shards are."""
        return Form.TFRECORD_GZIP if self.keys.output.compression else _FORMS[self.keys.output.form]

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in the order of the file."""
        return tuple(self.keys.split.shares)

    def shards(self, split: str) -> int:
        """Return how many shards a split has."""
        shards = self.keys.output.shards
        return shards if isinstance(shards, int) else shards[split]

    def code_path(self, path: str) -> str:
        """Return the path of code that the recipe names, which is relative to its folder."""
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), files.expand(path))

    def data_path(self, path: str) -> str:
        """Return the path of data that the recipe names."""
        return os.path.join(self.data_folder, files.expand(path))

    @property
    def function(self) -> tuple[str, str] | None:
        """The file and the name of the Python function."""
        match = _FUNCTION.fullmatch(self.keys.transform.python or "")
        return (self.code_path(match["file"]), match["function"]) if match else None


def load(path: Path) -> LoadedRecipe:
    """Return the recipe of a file. Raises ConfigError, which names all that is wrong."""
    keys = layers.resolve([Layer(str(path), layers.read_toml(path))], Recipe).spec
    layers.check_strings(keys, str(path), ())
    errors = ErrorList()
    for check in (_check_sources, _check_split, _check_output, _check_engine):
        check(keys, str(path), errors)
    schema = _schema(keys, str(path), errors)
    errors.raise_all()
    folder = _original(os.path.dirname(os.path.abspath(path)), os.environ.get(env.RUN_FOLDER, ""))
    found = LoadedRecipe(str(path), keys, None, None, schema, "", folder)
    texts = _sql(found), _python(found)
    return LoadedRecipe(str(path), keys, *texts, schema, _hash(keys, *texts), folder)


def _original(folder: str, run: str) -> str:
    """Return the folder of which `folder` is the copy that the run in the folder `run` made; else `folder`.

    Data in a copy of the code would be in the run's folder, where nobody looks for it. Raises RunError.
    """
    for submission in RunFolder(run).submissions if run else ():
        # the copy lies in a folder of its name
        first, *inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(submission.code)).split(os.sep)
        if first not in (os.curdir, os.pardir) and (code := manifest.read(submission.manifest).code):
            return os.path.join(code.root, *inside)
    return folder


def paths_of(source: Source) -> tuple[str, ...]:
    """Return what a source states as its path."""
    return (source.path,) if isinstance(source.path, str) else source.path


def _check_sources(keys: Recipe, path: str, errors: ErrorList) -> None:
    for name, source in keys.sources.items():
        where = f"{path}: sources.{name}"
        if not _NAME.fullmatch(name):
            errors.add(ConfigError(f"found the name {name!r}", "letters, digits and _, no digit first", where=where))
        with errors.collecting():
            _check_source(source, where)
        for column, kind in source.columns.items():
            if not sql_types.is_known(kind):
                found, needed = (
                    f"found the type {kind!r}",
                    f"one of {', '.join(sql_types.NAMES)}, or a list as BIGINT[]",
                )
                do = layers.nearest(kind.upper(), sql_types.NAMES)
                errors.add(ConfigError(found, needed, do, f"{where}.columns.{column}"))
        with errors.collecting():
            _check_columns(tuple(source.columns), f"{where}.columns")
    _check_different(tuple(keys.sources), f"{path}: sources", errors)
    if len(keys.sources) > 1 and keys.transform.sql is None:
        found = f"found {len(keys.sources)} sources"
        errors.add(ConfigError(found, "sql, which says how they are joined", where=f"{path}: transform.sql"))


def _check_source(source: Source, where: str) -> None:
    """Raise ConfigError for keys that the format of a source needs or does not have."""
    if source.format == "hive":
        do = "export the table as Parquet"
        raise ConfigError("found a Hive table", "another format: neither DuckDB nor Spark reads it here", do, where)
    if source.format == "images" and source.columns:
        raise ConfigError("found columns", "none: images have file, class, label and image", where=f"{where}.columns")
    if source.format != "images" and not source.columns:
        do = f"`slurm-tf prepare --infer {' '.join(paths_of(source)) or 'PATH'}` writes a first one"
        raise ConfigError("found no columns", "the schema of the source", do, f"{where}.columns")
    paths = paths_of(source)
    if source.format in SERVERS:
        _check_server(source, where)
    elif not paths or not all(paths):
        raise ConfigError("found no path", "a file or folder", where=f"{where}.path")
    if source.format in (*FOLDERS, "sqlite") and len(paths) != 1:
        raise ConfigError(f"found {len(paths)} paths", "one", where=f"{where}.path")
    if (source.format in DATABASES) != bool(source.query):
        needed = "the SELECT whose rows are read" if source.format in DATABASES else "none: it is no database"
        raise ConfigError(f"found the query {source.query!r}", needed, where=f"{where}.query")


def _check_server(source: Source, where: str) -> None:
    url = re.fullmatch(
        r"(?P<scheme>\w+)://(?P<user>[^:/@?#\s]+)@[^:/@?#\s]+(:\d{1,5})?/[^/@?#\s]+", source.url or "", re.ASCII
    )
    if url is None or url["scheme"] != source.format:
        needed = f"{source.format}://USER@HOST:PORT/DATABASE, without a password"
        do = "password-file or password-variable says where the password is"
        raise ConfigError("found no such URL" if source.url else "found no URL", needed, do, f"{where}.url")
    if source.password_file and source.password_variable:
        raise ConfigError("found password-file and password-variable", "one of them", where=where)


def _check_columns(names: tuple[str, ...], where: str) -> None:
    for name in names:
        if not name or name.lower().startswith(RESERVED):
            raise ConfigError(f"found the name {name!r}", f"one that does not begin with {RESERVED}", where=where)
    errors = ErrorList()
    _check_different(names, where, errors)
    errors.raise_all()


def _check_different(names: tuple[str, ...], where: str, errors: ErrorList) -> None:
    """Add an error for two names that SQL takes as one."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name.lower(), name)
        if other != name:
            errors.add(ConfigError(f"found {other} and {name}", "names that differ not only by case", where=where))


def _check_split(keys: Recipe, path: str, errors: ErrorList) -> None:
    shares, where = keys.split.shares, f"{path}: split.shares"
    for name, share in shares.items():
        if not _SPLIT.fullmatch(name):
            errors.add(ConfigError(f"found the name {name!r}", "letters, digits and _, a letter first", where=where))
        if not 0 < share <= 1:
            errors.add(ConfigError(f"found {share}", "a share above 0", where=f"{where}.{name}"))
            return
    if abs(sum(map(exact, shares.values()), Fraction(-1))) > Fraction(1, 10**6):
        found = f"found {' + '.join(map(str, shares.values()))} = {float(sum(map(exact, shares.values())))}"
        errors.add(ConfigError(found, "shares that are 1 together", where=where))
    learned = [name for name, each in keys.features.items() if is_learned(each)]
    if learned and TRAIN not in shares:
        found = f"found the splits {', '.join(shares)}"
        errors.add(ConfigError(found, f"{TRAIN}, from whose rows {learned[0]} is learned", where=where))
    with errors.collecting():
        _check_columns(keys.split.key, f"{path}: split.key")


def _check_output(keys: Recipe, path: str, errors: ErrorList) -> None:
    output, where = keys.output, f"{path}: output"
    if output.compression and output.form != "tfrecord":
        found = f"found gzip of {output.form}"
        errors.add(ConfigError(found, "none, or the form tfrecord", where=f"{where}.compression"))
    if isinstance(output.shards, dict) and output.shards.keys() != keys.split.shares.keys():
        found, needed = ", ".join(output.shards) or "none", ", ".join(keys.split.shares)
        errors.add(ConfigError(f"found shards of {found}", f"those of {needed}", where=f"{where}.shards"))


def _check_engine(keys: Recipe, path: str, errors: ErrorList) -> None:
    if keys.engine == "spark" and keys.transform.python is not None:
        found = "found a Python function and the engine Spark"
        errors.add(ConfigError(found, "SQL, or the engine DuckDB", where=f"{path}: transform.python"))
    try:
        enough = units.parse_memory(str(keys.mem)) >= _LEAST_MEM[keys.engine]
    except UnitError as error:
        errors.add(ConfigError(error.found, error.needed, where=f"{path}: mem"))
        return
    if not enough:
        errors.add(
            ConfigError(
                f"found {keys.mem}", f"{_LEAST_MEM[keys.engine]}M or more for {keys.engine}", where=f"{path}: mem"
            )
        )


def is_learned(feature: FeatureKeys) -> bool:
    """Whether the values of a feature depend on the rows of train."""
    return bool(feature.vocabulary or isinstance(feature.buckets, int) or feature.normalized)


def exact(share: int | float) -> Fraction:
    """Return a share as it is written: 0.1 is one tenth."""
    return Fraction(str(share))


def _schema(keys: Recipe, path: str, errors: ErrorList) -> Schema:
    found = [Feature("none", Kind.INT64)] if not keys.features else []
    _check_different(tuple(keys.features), f"{path}: features", errors)
    for name, each in keys.features.items():
        where = f"{path}: features.{name}"
        with errors.collecting():
            found.append(_feature(name, each, where))
    return Schema(tuple(found) or (Feature("none", Kind.INT64),))


def _feature(name: str, keys: FeatureKeys, where: str) -> Feature:
    """Return the feature of a record. Raises ConfigError."""
    changes = [key for key in ("vocabulary", "buckets", "normalized") if getattr(keys, key) not in (None, False)]
    if len(changes) > 1:
        raise ConfigError(f"found {' and '.join(changes)}", "one of them", where=where)
    kind = keys.kind or _kind_of_change(changes, where)
    if changes and kind != _kind_of_change(changes, where):
        raise ConfigError(
            f"found the kind {kind}", f"{_kind_of_change(changes, where)}, as it has {changes[0]}", where=where
        )
    if changes and keys.allow_nan:
        raise ConfigError("found allow-nan", f"finite numbers, as it has {changes[0]}", where=where)
    _check_buckets(keys, where)
    if changes and not _FILE.fullmatch(name):
        needed = f"letters, digits, _ . + -, as it names a file with its {changes[0]}"
        raise ConfigError(f"found the name {name!r}", needed, "rename the column in the SQL", where)
    shape = tuple(None if size == -1 else size for size in keys.shape)
    try:
        return Feature(name, Kind(kind), shape, keys.sequence, keys.default, keys.allow_nan)
    except DatasetError as error:
        raise ConfigError(error.found, error.needed, error.do, where) from error


def _kind_of_change(changes: list[str], where: str) -> str:
    if not changes:
        raise ConfigError("found no kind", "int64, float or bytes", where=f"{where}.kind")
    return "float" if changes == ["normalized"] else "int64"


def _check_buckets(keys: FeatureKeys, where: str) -> None:
    buckets = keys.buckets
    if isinstance(buckets, int) and buckets < 2:
        raise ConfigError(f"found {buckets} buckets", "2 or more", where=f"{where}.buckets")
    if isinstance(buckets, tuple) and (not buckets or any(a >= b for a, b in zip(buckets, buckets[1:], strict=False))):
        raise ConfigError(
            f"found the edges {list(buckets)}", "numbers, each above the one before", where=f"{where}.buckets"
        )


def _sql(recipe: LoadedRecipe) -> str | None:
    return _text(recipe, recipe.keys.transform.sql, "sql") if recipe.keys.transform.sql is not None else None


def _python(recipe: LoadedRecipe) -> str | None:
    """Return the source of the module of the Python function. Raises ConfigError."""
    where = f"{recipe.path}: transform.python"
    if recipe.keys.transform.python is None:
        return None
    if recipe.function is None:
        raise ConfigError(f"found {recipe.keys.transform.python!r}", "FILE.py:FUNCTION", where=where)
    path, function = recipe.function
    text = _text(recipe, path, "python")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is no Python ({error})", "a module", where=where) from error
    if function not in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]:
        raise ConfigError(f"{path} has no function {function}", "one, at the top level", where=where)
    return text


def _text(recipe: LoadedRecipe, path: str, key: str) -> str:
    where = f"{recipe.path}: transform.{key}"
    try:
        return Path(recipe.code_path(path)).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})", "a file that can be", where=where) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} has a byte {error.start} that is no UTF-8", "UTF-8 text", where=where) from error
    except UsageError as error:
        raise ConfigError(error.found, error.needed, error.do, where) from error


def _hash(keys: Recipe, sql: str | None, python: str | None) -> str:
    """Return the SHA-256 of all that rows depend on but the inputs: not where they are, or how much memory there is."""
    values: dict[str, Any] = msgspec.to_builtins(keys)
    for place in ("engine", "mem", "cpus", "scratch"):
        del values[place]
    del values["output"]["folder"]
    for source in values["sources"].values():
        for place in ("path", "url", "password-file", "password-variable"):
            del source[place]
    function = (keys.transform.python or "").rpartition(":")[2]
    values["transform"] = {"sql": sql, "python": python, "function": function}
    return hashlib.sha256(json.dumps([_VERSION, values]).encode()).hexdigest()
