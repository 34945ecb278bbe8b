"""What a person asks a model, as a request of TensorFlow Serving's REST: a file, JSON, or a row of a data set."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import UsageError
from slurm_tf.models.model_manifest import IMAGE_BYTES, ModelManifest, Signature
from slurm_tf.page import data_samples
from slurm_tf.page.data_samples import Values
from slurm_tf.page.multipart_form import Upload

DEFAULT = "serving_default"


@dataclass(frozen=True, slots=True)
class Question:
    """The body of a request. `words`: what is asked, for a person."""

    words: str
    body: bytes


def of_file(upload: Upload | None) -> Question:
    """Return the question that is a file of an image. It is not decoded here. Raises UsageError."""
    needed = "a file of PNG or JPEG"
    if upload is None:
        raise UsageError("found no file", needed)
    if not data_samples.image_kind(upload.content):
        raise UsageError(f"found {upload.name!r}, which does not begin as an image does", needed)
    # a form that is filled in: json.dumps would make three copies more of what may be 8 MB
    head, tail = _question("", IMAGE_BYTES, {"inputs": {IMAGE_BYTES: [{"b64": ""}]}}).body.rsplit(b'""', 1)
    return Question(upload.name, b"".join((head, b'"', base64.b64encode(upload.content), b'"', tail)))


def of_json(text: str, signature: str) -> Question:
    """Return the question that is an instance in JSON, for a signature. Raises UsageError."""
    try:
        instance = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"found no JSON: {error}", "an instance, such as [1.0, 2.0] or {NAME: VALUE}") from error
    return _question("the instance", signature, {"instances": [instance]})


def of_row(words: str, row: Mapping[str, Values], schema: Schema, manifest: ModelManifest) -> Question:
    """Return the question that is a row of a data set, with its values as they are stored. Raises UsageError."""
    features = {feature.name: feature for feature in schema.features}
    name, sources = row_inputs(features, manifest)
    inputs = {
        tensor: [_value(row.get(feature.name, ()), feature, manifest.signatures[name].inputs[tensor].shape)]
        for tensor, feature in sources.items()
    }
    return _question(words, name, {"inputs": inputs})


def row_inputs(features: Mapping[str, Feature], manifest: ModelManifest) -> tuple[str, Mapping[str, Feature]]:
    """Return a signature that takes a row of these features, and which one is each of its inputs. Raises UsageError."""
    files = [feature for feature in features.values() if feature.kind is Kind.BYTES and not feature.shape]
    if IMAGE_BYTES in manifest.signatures and len(files) == 1:
        return IMAGE_BYTES, {IMAGE_BYTES: files[0]}
    signature = manifest.signatures.get(DEFAULT, Signature({}, {}))
    found = {name: features[name] for name in signature.inputs if name in features}
    if not found or len(found) < len(signature.inputs):
        needed = f"features that are the inputs of {DEFAULT}: {', '.join(signature.inputs) or 'there is none'}"
        raise UsageError(f"found the features {', '.join(features)}", needed)
    return DEFAULT, found


def _question(words: str, signature: str, values: Mapping[str, object]) -> Question:
    return Question(words, json.dumps({"signature_name": signature, **values}).encode())


def _encoded(content: bytes) -> dict[str, str]:
    """Return bytes as TensorFlow Serving's JSON has them."""
    return {"b64": base64.b64encode(content).decode()}


def _value(values: Values, feature: Feature, shape: "Sequence[int | None] | None") -> Any:  # noqa: ANN401 - JSON
    """Return the values of a feature in the shape of one row of an input, whose first size is that of rows."""
    plain = [_encoded(each) if isinstance(each, bytes) else each for each in values]
    sizes = [*(feature.shape if shape is None else shape[1:])]
    if None in sizes:
        sizes = [*feature.shape]
    whole = [len(plain) if size is None else size for size in sizes]
    if math.prod(whole) != len(plain):
        raise UsageError(f"found {len(plain)} values of {feature.name}", f"those of the shape {tuple(whole)}")
    return _nested(plain, whole)


def _nested(values: Sequence[object], sizes: Sequence[int]) -> Any:  # noqa: ANN401 - JSON
    if not sizes:
        return values[0]
    step = len(values) // sizes[0] if sizes[0] else 0
    return [_nested(values[n * step : (n + 1) * step], sizes[1:]) for n in range(sizes[0])]
