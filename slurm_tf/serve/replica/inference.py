"""What a replica answers: the calls of PredictionService and ModelService, from message to message.

Each takes a request of serving_messages and what is known of it, and raises RequestError.
"""

from functools import lru_cache
from typing import Any, Callable, Dict, Tuple

import numpy as np

from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica import classify_regress, tensors
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.model_table import ModelTable
from slurm_tf.serve.replica.recorder import Asked
from slurm_tf.serve.replica.request_error import Code, RequestError, invalid
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.replica.signatures import DEFAULT

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_SIGNATURES = "signature_def"


class Inference:
    """The calls of a replica. `reload_allowed`: whether a client may change which models there are."""

    def __init__(self, models: ModelTable, metrics: Metrics, max_bytes: int, reload_allowed: bool) -> None:
        self.models, self._metrics, self.max_bytes = models, metrics, max_bytes
        self._reload_allowed = reload_allowed

    def version(self, spec: Any, asked: Asked) -> ServedVersion:
        """Return the version that answers a ModelSpec, and note it. Raises RequestError."""
        version = self.models.find(spec)
        asked.answered_by(version)
        return version

    async def predict(self, request: Any, asked: Asked) -> Any:
        """Return the outputs of a signature."""
        version = self.version(request.model_spec, asked)
        with version:
            signature, names, inputs = version.predict_call(request, self.max_bytes)
            outputs = await version.run(signature, names, inputs, asked.deadline, asked.alone)
        response = protocol.PredictResponse()
        _fill_spec(response.model_spec, version, signature.name)
        for name, array in zip(names, outputs):
            tensors.fill(response.outputs[name], array)
        return response

    async def classify(self, request: Any, asked: Asked) -> Any:
        """Return classes and scores of examples."""
        response = protocol.ClassificationResponse()
        await self._examples(request, asked, response, classify_regress.fill_classifications)
        return response

    async def regress(self, request: Any, asked: Asked) -> Any:
        """Return a value for each example."""
        response = protocol.RegressionResponse()
        await self._examples(request, asked, response, classify_regress.fill_regressions)
        return response

    async def _examples(self, request: Any, asked: Asked, response: Any, fill: Callable[..., None]) -> None:
        version = self.version(request.model_spec, asked)
        with version:
            name, outputs, number = await self._run_examples(version, request.model_spec, request.input, asked)
        fill(response.result, outputs, number)
        _fill_spec(response.model_spec, version, name)

    async def _run_examples(
        self, version: ServedVersion, spec: Any, given: Any, asked: Asked
    ) -> Tuple[str, Dict[str, np.ndarray], int]:
        signature, names, inputs = classify_regress.call(version.signature(spec.signature_name), given)
        number = len(inputs[0])
        self._metrics.examples.add(number, version.model)
        self._metrics.examples_total.add(version.model, by=number)
        outputs = await version.run(signature, names, inputs, asked.deadline, asked.alone)
        return signature.name, dict(zip(names, outputs)), number

    async def multi_inference(self, request: Any, asked: Asked) -> Any:
        """Return what several signatures of one version make of the same examples."""
        names = {task.model_spec.name for task in request.tasks}
        if len(names) != 1:
            raise invalid(f"found tasks for {len(names)} models; needed one or more tasks, all for one model")
        response = protocol.MultiInferenceResponse()
        version = self.version(request.tasks[0].model_spec, asked)
        with version:
            for task in request.tasks:
                await self._task(version, task, request.input, asked, response.results.add())
        return response

    async def _task(self, version: ServedVersion, task: Any, given: Any, asked: Asked, result: Any) -> None:
        if task.method_name not in (CLASSIFY, REGRESS):
            raise RequestError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name[:128]}")
        name, outputs, number = await self._run_examples(version, task.model_spec, given, asked)
        if task.method_name == CLASSIFY:
            classify_regress.fill_classifications(result.classification_result, outputs, number)
        else:
            classify_regress.fill_regressions(result.regression_result, outputs, number)
        _fill_spec(result.model_spec, version, name)

    async def metadata(self, request: Any, asked: Asked) -> Any:
        """Return the signatures of a version."""
        fields = list(request.metadata_field)
        if not fields:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in fields:
            if field != _SIGNATURES:
                raise invalid(f"Metadata field {field[:128]} is not supported")
        version = self.version(request.model_spec, asked)
        response = protocol.GetModelMetadataResponse()
        response.model_spec.name = version.model
        response.model_spec.version.value = version.number
        response.metadata[_SIGNATURES].Pack(signature_map(version))
        return response

    async def status(self, request: Any, asked: Asked) -> Any:  # noqa: ARG002 - it takes no time
        """Return the state of each version of a model."""
        spec = request.model_spec
        if not spec.name:
            raise invalid("Missing ModelSpec")
        model = self.models.models.get(spec.name)
        versions = list(model.status().versions) if model else []
        if spec.HasField("version"):
            versions = [each for each in versions if each.version == spec.version.value]
        elif model and spec.version_label:
            labelled = model.find(None, spec.version_label).number
            versions = [each for each in versions if each.version == labelled]
        if not versions:
            which = f"version {spec.version.value}" if spec.HasField("version") else "any versions"
            raise RequestError(Code.NOT_FOUND, f"Could not find {which} of model {spec.name[:128]}")
        response = protocol.GetModelStatusResponse()
        for each in versions:
            found = response.model_version_status.add()
            found.version, found.state = each.version, found.State.Value(each.state.value)
            found.status.error_code = int(Code.UNKNOWN if each.reason else Code.OK)
            found.status.error_message = each.reason
        return response

    async def reload(self, request: Any, asked: Asked) -> Any:  # noqa: ARG002 - it takes as long as it takes
        """Serve the models of a configuration, and no others."""
        if not self._reload_allowed:
            raise RequestError(Code.PERMISSION_DENIED, "an open replica does not load models that a client names")
        await self.models.reload(request.config)
        return protocol.ReloadConfigResponse()


def signature_map(version: ServedVersion) -> Any:
    """Return the SignatureDefMap of a version."""
    found = protocol.SignatureDefMap()
    for name, definition in version.loaded.signature_defs.items():
        found.signature_def[name].CopyFrom(definition)
    return found


def _fill_spec(spec: Any, version: ServedVersion, signature: str) -> None:
    spec.MergeFromString(_spec(version.model, version.number, signature or DEFAULT))


@lru_cache(256)
def _spec(model: str, version: int, signature: str) -> bytes:
    """Return a ModelSpec; each answer has the same one again."""
    spec = protocol.ModelSpec(name=model, signature_name=signature)
    spec.version.value = version
    found: bytes = spec.SerializeToString()
    return found
