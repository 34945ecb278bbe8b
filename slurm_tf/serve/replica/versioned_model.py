"""A model that a replica serves: which of its versions are loaded, and which one answers.

A new version is loaded and warmed up beside those that answer, then takes over, then the old one is drained and freed.
A version that is torn, cannot be loaded, or whose signatures do not fit those of the version that answers, is left out,
with the reason in its status: what answers goes on to.
"""

import asyncio
import os
import random
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Set, Tuple

from slurm_tf import files
from slurm_tf.errors import ModelError
from slurm_tf.models import model_versions, serving_file
from slurm_tf.models.model_versions import Version
from slurm_tf.models.serving_file import Serving, VersionPolicy
from slurm_tf.serve.endpoint import ModelStatus, VersionState, VersionStatus
from slurm_tf.serve.replica import call_threads, signatures, warmup
from slurm_tf.serve.replica.call_process import CallProcess, VersionBeside
from slurm_tf.serve.replica.loaded_version import LoadedVersion
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.replica_log import say
from slurm_tf.serve.replica.request_error import Code, RequestError
from slurm_tf.serve.replica.served_version import ServedVersion, loaded
from slurm_tf.serve.replica_settings import ServedModel

# How often a version that cannot be loaded is tried again (TensorFlow Serving's max_num_load_retries).
_RETRIES = 5
# How many versions that are no longer served a status names.
_ENDED = 8


@dataclass(frozen=True)
class _Failure:
    """Why a version was left out. `changed`: the change time of its files then; `signatures`: it does not fit."""

    reason: str
    changed: int
    at: float
    attempts: int
    signatures: bool


@dataclass(frozen=True)
class _Base:
    """What is in the folder of a model: its whole versions, why others are none, and serving.json.

    `changed`: when the files of each whole version that is not loaded were last changed.
    """

    whole: Mapping[int, Version]
    broken: Mapping[int, str]
    serving: Serving
    changed: Mapping[int, int]


class _MismatchError(ModelError):
    """The signatures of a version do not fit those of the version that answers."""


class VersionedModel:
    """A model by its settings; lives on one event loop. `calls`: the process that computes calls of many rows."""

    def __init__(
        self,
        settings: ServedModel,
        retry_seconds: float,
        threads: Executor,
        metrics: Metrics,
        calls: Optional[CallProcess] = None,
    ) -> None:
        self.settings = settings
        self.available: Dict[int, ServedVersion] = {}
        self.serving = Serving()
        self.default: Optional[int] = None
        self.reason = ""
        self._statuses: Dict[int, VersionStatus] = {}
        self._failures: Dict[int, _Failure] = {}
        self._retry_seconds, self._threads, self._metrics, self._calls = retry_seconds, threads, metrics, calls
        self._looking = asyncio.Lock()
        self._draining: Set[asyncio.Task[None]] = set()
        self._labels: Optional[Mapping[str, int]] = None

    def configure(self, policy: Optional[VersionPolicy], labels: Optional[Mapping[str, int]]) -> None:
        """Load versions by a policy, and name them, instead of as serving.json says; None: as that says."""
        self.settings = replace(self.settings, policy=policy)
        self._labels = labels

    def find(self, version: Optional[int], label: str) -> ServedVersion:
        """Return the version that answers a request, which names a version, a label or neither. Raises RequestError."""
        name = self.settings.name
        if label:
            version = self.serving.labels.get(label)
            if version is None:
                raise RequestError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        if version is not None:
            if version not in self.available:
                raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Specific({name}, {version})")
            return self.available[version]
        canary = self.serving.canary
        if canary and canary.version in self.available and random.random() * 100 < canary.percent:
            return self.available[canary.version]
        if self.default is None:
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Latest({name})")
        return self.available[self.default]

    def status(self) -> ModelStatus:
        """Return the state of each version, newest first."""
        versions = sorted(self._statuses.values(), key=lambda each: -each.version)
        return ModelStatus(self.settings.name, self.default, tuple(versions), self.reason)

    async def look(self) -> None:
        """Look at the folder of the model once, and do what has to be done."""
        async with self._looking:
            loop = asyncio.get_running_loop()
            try:
                base = await loop.run_in_executor(self._threads, self._base)
            except (ModelError, OSError) as error:
                self._note(str(error))
                return
            self._note("" if base.whole else f"{self.settings.base} has no version")
            for number, why in base.broken.items():
                if number not in self.available:
                    self._set(number, VersionState.END, why)
            wanted = await self._load_wanted(base)
            self._move(base.serving)
            if wanted:
                for number in set(self.available) - wanted - {self.default}:
                    self._unload(number)
            self._forget(base)

    async def close(self) -> None:
        """Unload all versions."""
        self.default = None
        for number in tuple(self.available):
            self._unload(number)
        if self._draining:
            await asyncio.wait(self._draining)

    def _note(self, reason: str) -> None:
        if reason and reason != self.reason:
            say(f"model {self.settings.name}: {reason}")
        self.reason = reason

    def _base(self) -> _Base:
        """Return what is in the folder. Raises ModelError, OSError."""
        path = self.settings.base
        model_versions.check_own(path)
        serving = serving_file.read(path)
        if self.settings.policy is not None:
            serving = replace(serving, policy=self.settings.policy)
        if self._labels is not None:
            serving = replace(serving, labels=self._labels)
        whole: Dict[int, Version] = {}
        broken: Dict[int, str] = {}
        for number, _, each in model_versions.listed(path):
            if isinstance(each, Version):
                whole[number] = each
            else:
                broken.setdefault(number, each)
        broken = {number: why for number, why in broken.items() if number not in whole}
        changed = {number: _changed(each.path) for number, each in whole.items() if number not in self.available}
        return _Base(whole, broken, serving, changed)

    async def _load_wanted(self, base: _Base) -> Set[int]:
        """Load what is wanted and can be; return which versions are wanted of those that are loaded."""
        while True:
            numbers = {number for number, each in base.whole.items() if not self._blocked(each, base)}
            wanted = base.serving.loaded(numbers | set(self.available))
            missing = sorted(wanted - set(self.available))
            if not missing:
                return wanted
            await self._load(base.whole[missing[-1]], base)

    def _blocked(self, version: Version, base: _Base) -> bool:
        """Return whether a version failed, and need not be tried again now."""
        failure = self._failures.get(version.number)
        if failure is None or base.changed.get(version.number) != failure.changed:
            return False
        if failure.signatures:
            return version.number not in _named(base.serving)
        return failure.attempts > _RETRIES or time.monotonic() < failure.at + self._retry_seconds

    async def _load(self, version: Version, base: _Base) -> None:
        """Load a version and warm it up; what it lacks becomes its reason."""
        loop = asyncio.get_running_loop()
        self._set(version.number, VersionState.LOADING)
        begin, changed = time.perf_counter(), base.changed.get(version.number, 0)
        try:
            current = None if version.number in _named(base.serving) else self.available.get(self.default or -1)
            found = await loop.run_in_executor(self._threads, self._loaded, version, current)
        except (ModelError, OSError) as error:
            self._fail(version, changed, error)
            return
        found.beside = await self._beside(found, version.path, changed)
        self.available[version.number] = found
        self._failures.pop(version.number, None)
        self._set(version.number, VersionState.AVAILABLE)
        say(f"model {self.settings.name}: version {version.number} loaded in {time.perf_counter() - begin:.1f} s")

    async def _beside(self, version: ServedVersion, path: str, changed: int) -> Optional[VersionBeside]:
        """Return the version of a folder as the process beside has it.

        None where there is no process, or one thread does not do, or the files have changed since `changed`.
        """
        if self._calls is None or not version.loaded.one_thread:
            return None
        found = await self._calls.load(path)
        if found is None or await asyncio.get_running_loop().run_in_executor(self._threads, _changed, path) == changed:
            return found
        await found.unload()
        return None

    def _loaded(self, version: Version, current: Optional[ServedVersion]) -> ServedVersion:
        """Return a version that is ready to answer. Raises ModelError, OSError."""
        model_versions.check_own(self.settings.base, version.path)
        damages = model_versions.damages(version) if version.manifest else []
        if damages:
            raise ModelError(damages[0], "the files that were exported", where=version.path)
        found = loaded(version.number, version.path, self._metrics, call_threads.is_small(version.path))
        served, row_seconds = self._warmed_up(version, found, current)
        if not found.one_thread or call_threads.one_suffices(row_seconds):
            return served
        found.close()
        # not counted in the metrics again: it is one version that is loaded
        found = LoadedVersion(version.number, version.path, one_thread=False)
        return self._warmed_up(version, found, current)[0]

    def _warmed_up(
        self, version: Version, found: LoadedVersion, current: Optional[ServedVersion]
    ) -> Tuple[ServedVersion, float]:
        """Return a loaded version that is ready to answer, and how long a row takes. Raises ModelError, OSError."""
        try:
            self._check_signatures(found, current)
            served = ServedVersion(self.settings.name, found, self.settings.batching, self._threads)
            row_seconds = warmup.warm_up(served, version.path)
        except RequestError as error:
            found.close()
            raise ModelError(f"its warm-up fails: {error.message}", where=version.path) from error
        except (ModelError, OSError):
            found.close()
            raise
        return served, row_seconds

    def _check_signatures(self, found: LoadedVersion, current: Optional[ServedVersion]) -> None:
        if not found.signatures:
            raise ModelError("it has no signature that can be called", "a SavedModel with signatures")
        lines = signatures.differences(current.loaded.signatures, found.signatures) if current else []
        if current and lines:
            do = f"slurm-tf serve promote, if version {found.number} is to answer all the same"
            raise _MismatchError("; ".join(lines), f"the signatures of version {current.number}, which answers", do)

    def _fail(self, version: Version, changed: int, error: "ModelError | OSError") -> None:
        before = self._failures.get(version.number)
        attempts = before.attempts + 1 if before and before.changed == changed else 1
        mismatch = isinstance(error, _MismatchError)
        self._failures[version.number] = _Failure(str(error), changed, time.monotonic(), attempts, mismatch)
        self._set(version.number, VersionState.END, str(error))
        say(f"model {self.settings.name}: version {version.number} is left out: {error}")

    def _move(self, serving: Serving) -> None:
        """Let requests that name no version go to the one that serving.json wants, if it is loaded."""
        self.serving = serving
        wanted = serving.default(self.available)
        if wanted is not None:
            self.default = wanted
        if self.default not in self.available:
            self.default = None

    def _unload(self, number: int) -> None:
        """Take a version away from new requests; free it once the others are answered."""
        version = self.available.pop(number)
        self._set(number, VersionState.UNLOADING)
        task = asyncio.get_running_loop().create_task(self._drain(version))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, version: ServedVersion) -> None:
        await version.drain()
        if version.number not in self.available:
            self._set(version.number, VersionState.END)
        say(f"model {self.settings.name}: version {version.number} unloaded")

    def _set(self, number: int, state: VersionState, reason: str = "") -> None:
        self._statuses[number] = VersionStatus(number, state, reason)

    def _forget(self, base: _Base) -> None:
        """Forget versions that are neither served nor there, and all but the newest of those that are over."""
        over = [number for number, each in self._statuses.items() if each.state is VersionState.END]
        there = {*base.whole, *base.broken}
        kept = sorted((number for number in over if number in there), reverse=True)[:_ENDED]
        for number in set(over) - set(kept):
            del self._statuses[number]
        for number in set(self._failures) - there:
            del self._failures[number]


def _named(serving: Serving) -> Set[int]:
    """Return the versions that somebody has named: they are loaded whatever their signatures are."""
    named: List[Optional[int]] = [serving.promoted, *serving.labels.values()]
    named.append(serving.canary.version if serving.canary else None)
    return {each for each in named if each is not None}


def _changed(path: str) -> int:
    """Return when anything in a version's folder was last changed; 0 if it has gone."""
    try:
        return max(os.stat(path).st_mtime_ns, files.newest(path))
    except OSError:
        return 0
