"""The models of a replica by their names, looked at every few seconds."""

import asyncio
from concurrent.futures import Executor
from typing import Any, Dict, List, Mapping, Optional, Tuple

from slurm_tf.errors import ModelError
from slurm_tf.models.serving_file import PolicyKind, VersionPolicy
from slurm_tf.serve.endpoint import ModelStatus
from slurm_tf.serve.replica.call_process import CallProcess
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.replica_log import say
from slurm_tf.serve.replica.request_error import Code, RequestError, invalid
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.replica.versioned_model import VersionedModel
from slurm_tf.serve.replica_settings import ReplicaSettings, ServedModel, check_name


class ModelTable:
    """The models of a replica; lives on one event loop. `calls`: the process that computes calls of many rows."""

    def __init__(
        self, settings: ReplicaSettings, threads: Executor, metrics: Metrics, calls: Optional[CallProcess] = None
    ) -> None:
        self._settings, self._threads, self._metrics, self._calls = settings, threads, metrics, calls
        self.models: Dict[str, VersionedModel] = {each.name: self._model(each) for each in settings.models}

    def _model(self, settings: ServedModel) -> VersionedModel:
        return VersionedModel(settings, self._settings.retry_seconds, self._threads, self._metrics, self._calls)

    def model(self, name: str) -> VersionedModel:
        """Return a model. Raises RequestError in TensorFlow Serving's words."""
        if not name:
            raise invalid("ModelSpec has no name specified.")
        found = self.models.get(name)
        if found is None:
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Latest({name[:128]})")
        return found

    def find(self, spec: Any) -> ServedVersion:
        """Return the version that answers a request with a ModelSpec. Raises RequestError."""
        name = spec.name
        version = spec.version.value if spec.HasField("version") else None
        if version is not None and name and name not in self.models:
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Specific({name[:128]}, {version})")
        return self.model(name).find(version, spec.version_label)

    async def look(self) -> None:
        """Look at the folder of each model once."""
        for model in tuple(self.models.values()):
            await model.look()

    async def watch(self) -> None:
        """Look at the folders for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.poll_seconds)

    def answers(self) -> bool:
        """Return whether each model has a version that answers."""
        return all(model.default is not None for model in self.models.values())

    def statuses(self) -> Tuple[ModelStatus, ...]:
        """Return the state of each model."""
        return tuple(model.status() for model in self.models.values())

    async def reload(self, config: Any) -> None:
        """Serve the models of a ModelServerConfig, and no others; return once they are loaded. Raises RequestError."""
        if config.WhichOneof("config") != "model_config_list":
            raise invalid("a ModelServerConfig without model_config_list cannot be loaded")
        wanted = [_configured(each) for each in config.model_config_list.config]
        names = [each.name for each, _ in wanted]
        if len(set(names)) < len(names):
            raise invalid("a model is configured twice")
        bases = {name: model.settings.base for name, model in self.models.items()}
        for settings, labels in wanted:
            if bases.get(settings.name) != settings.base:
                await self._remove(settings.name)
                self.models[settings.name] = self._model(settings)
            self.models[settings.name].configure(settings.policy, labels)
        for name in set(self.models) - set(names):
            await self._remove(name)
        await self.look()
        failed = [f"{each.name}: {each.reason}" for each in self.statuses() if each.default is None]
        if failed:
            raise RequestError(Code.FAILED_PRECONDITION, f"no version is loaded of {'; '.join(failed)}")
        say(f"models by a ReloadConfigRequest: {', '.join(names) or 'none'}")

    async def _remove(self, name: str) -> None:
        model = self.models.pop(name, None)
        if model is not None:
            await model.close()

    async def close(self) -> None:
        """Unload all models."""
        for name in tuple(self.models):
            await self._remove(name)


def _configured(config: Any) -> Tuple[ServedModel, Optional[Mapping[str, int]]]:
    """Return the settings that a ModelConfig asks for, and its labels. Raises RequestError."""
    try:
        check_name(config.name)
    except ModelError as error:
        raise invalid(str(error)) from error
    if not config.base_path.startswith("/") or "\0" in config.base_path:
        raise invalid(f"base_path of model {config.name} is no absolute path")
    if config.model_platform not in ("", "tensorflow"):
        raise invalid(f"model_platform {config.model_platform[:64]!r} is not known; needed tensorflow")
    return ServedModel(config.name, config.base_path, policy=_policy(config)), dict(config.version_labels) or None


def _policy(config: Any) -> Optional[VersionPolicy]:
    """Return the version policy of a ModelConfig, None where it has none."""
    if not config.HasField("model_version_policy"):
        return None
    kind = config.model_version_policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(PolicyKind.ALL)
    if kind == "specific":
        versions: List[int] = list(config.model_version_policy.specific.versions)
        return VersionPolicy(PolicyKind.SPECIFIC, 1, tuple(versions))
    return VersionPolicy(count=max(1, config.model_version_policy.latest.num_versions))
