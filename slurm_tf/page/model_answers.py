"""What a model answered of one instance, for a person: classes with their probabilities and names, or its values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from slurm_tf.dataset import assets
from slurm_tf.errors import ServiceError, UsageError
from slurm_tf.serve.forwarder.upstream import Answer

# So many classes are shown, the most probable first; a longer answer is not read, and longer values are cut.
_CLASSES, _MOST_BYTES, _MOST_TEXT, _MOST_ERROR = 5, 1 << 20, 2000, 300
_SUM_ERROR = 0.01


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer. `best`: the most probable class in words, "" where the outputs are no classes.

    `head`: what the numbers of `classes` are; `values`: the outputs as JSON.
    """

    best: str
    head: str
    classes: tuple[tuple[str, str], ...]
    values: str


def read(answer: Answer, names: Mapping[int, str]) -> ShownAnswer:
    """Return what a replica answered; `names`: of classes. Raises UsageError for a refusal, ServiceError for no answer.

    A refusal is about the instance: an input that does not fit, or a file that the model cannot decode.
    """
    if len(answer.body) > _MOST_BYTES:
        raise ServiceError(f"found an answer of {len(answer.body)} bytes", f"at most {_MOST_BYTES}, to be shown")
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise ServiceError(f"the replica answered {answer.status} and no JSON", "an answer") from error
    if not isinstance(value, dict):
        raise ServiceError("the replica answered JSON of another kind", "an object")
    if answer.status == HTTPStatus.BAD_REQUEST:
        raise UsageError(f"the model refused it: {_first_line(value)}", "what its signature takes")
    if answer.status != HTTPStatus.OK:
        raise ServiceError(f"the replica answered {answer.status}: {_first_line(value)}", "an answer")
    return _shown(value.get("outputs", value.get("predictions")), names)


def class_names(data_set: str, targets: Sequence[str]) -> Mapping[int, str]:
    """Return the names of classes: the vocabulary of the first of the features `targets` that has one, none without.

    `data_set`: the folder of a data set, or of what a version has of it.
    """
    for target in targets:
        try:
            words = assets.read_vocabulary(data_set, target)
        except (OSError, ValueError):
            continue
        known = {assets.PADDING: "no value", assets.UNKNOWN: "any other value"}
        return {**known, **dict(enumerate(words, assets.FIRST))}
    return {}


def _shown(outputs: object, names: Mapping[int, str]) -> ShownAnswer:
    row = _only_row(outputs)
    text = json.dumps(row, indent=None)
    values = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."
    scores = _only_output(row)
    if scores is None:
        return ShownAnswer("", "", (), values)
    is_probable = min(scores) >= 0 and abs(sum(scores) - 1) < _SUM_ERROR
    order = sorted(range(len(scores)), key=lambda number: -scores[number])[:_CLASSES]
    cells = [
        (_class(number, names), f"{scores[number]:.1%}" if is_probable else f"{scores[number]:.5g}") for number in order
    ]
    best = f"{'' if order[0] in names else 'class '}{cells[0][0]} ({cells[0][1]})"
    return ShownAnswer(best, "Probability" if is_probable else "Score", tuple(cells), values)


def _class(number: int, names: Mapping[int, str]) -> str:
    return f"{names[number]} (class {number})" if number in names else str(number)


def _only_row(outputs: object) -> Any:  # noqa: ANN401 - JSON
    """Return the first row of the outputs: of the only one, or of each by its name."""
    if isinstance(outputs, dict):
        return {name: _only_row(each) for name, each in outputs.items()}
    return outputs[0] if isinstance(outputs, list) and outputs else outputs


def _only_output(row: object) -> list[float] | None:
    """Return the scores of classes, where a row has them and nothing else: two finite numbers or more."""
    if isinstance(row, dict) and len(row) == 1:
        row = next(iter(row.values()))
    if not isinstance(row, list) or len(row) < 2:
        return None
    numbers = [
        each for each in row if isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e300
    ]
    return [float(each) for each in numbers] if len(numbers) == len(row) else None


def _first_line(value: Mapping[str, Any]) -> str:
    """Return the first line of an error: those of TensorFlow go on with a graph."""
    lines = str(value.get("error", value)).splitlines() or [""]
    return lines[0][:_MOST_ERROR]
