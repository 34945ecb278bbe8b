"""What a model answers in words: classes and their names, values of other kinds, refusals, and what no model may do."""

import json
from pathlib import Path

import pytest

from slurm_tf.dataset import assets
from slurm_tf.errors import ServiceError, UsageError
from slurm_tf.page import model_answers
from slurm_tf.page.model_answers import ShownAnswer
from slurm_tf.serve.forwarder.upstream import Answer

NAMES = {2: "rose", 3: "<b>tulip"}


def shown(outputs: object, status: int = 200) -> ShownAnswer:
    return model_answers.read(Answer(status, (), json.dumps({"outputs": outputs}).encode()), NAMES)


def test_probabilities_are_classes_with_their_names() -> None:
    answer = shown([[0.05, 0.05, 0.7, 0.2]])
    assert (answer.best, answer.head) == ("rose (class 2) (70.0%)", "Probability")
    assert answer.classes[1] == ("<b>tulip (class 3)", "20.0%")
    assert shown({"label": [[0.9, 0.1]]}).best == "class 0 (90.0%)"
    assert len(shown([[0.01] * 100]).classes) == 5


def test_scores_that_are_no_probabilities_are_not_called_so() -> None:
    answer = shown([[-1.5, 8.25, 3.0]])
    assert (answer.best, answer.head) == ("class 1 (8.25)", "Score")
    assert answer.classes[0] == ("1", "8.25")
    assert shown([[0.5, 0.6]]).head == "Score"


@pytest.mark.parametrize(
    "outputs",
    [[[3.5]], [3.5], 3.5, [], [["a", "b"]], [[True, False]], {"a": [[0.5, 0.5]], "b": [1]}, [[[0.5, 0.5]]], None],
)
def test_other_outputs_are_shown_as_they_are(outputs: object) -> None:
    answer = shown(outputs)
    assert (answer.best, answer.classes) == ("", ())
    assert answer.values


def test_what_is_not_finite_is_no_score() -> None:
    for text in ("NaN", "Infinity", "1e400"):
        answer = model_answers.read(Answer(200, (), b'{"outputs": [[0.5, %s]]}' % text.encode()), {})
        assert answer.classes == ()


def test_a_long_answer_is_cut_and_a_very_long_one_is_not_read() -> None:
    assert len(shown([[[0.5] * 5000]]).values) < 2100
    with pytest.raises(ServiceError, match="at most"):
        model_answers.read(Answer(200, (), b"[" * (2 << 20)), {})
    for body in (b"[" * 200_000, b"", b"\xff", b"[1]"):
        with pytest.raises(ServiceError):
            model_answers.read(Answer(200, (), body), {})


def test_a_refusal_has_the_first_line_of_the_models_words() -> None:
    error = json.dumps({"error": "Invalid PNG data, size 60\n\t [[{{node map}}]]"}).encode()
    with pytest.raises(UsageError, match=r"the model refused it: Invalid PNG data, size 60; needed"):
        model_answers.read(Answer(400, (), error), {})
    with pytest.raises(ServiceError, match="the replica answered 429"):
        model_answers.read(Answer(429, (), error), {})


def test_a_vocabulary_names_the_classes(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    assets.write_vocabulary(str(tmp_path), "flower", ["rose", "tulip"])
    found = model_answers.class_names(str(tmp_path), ["output_0", "flower"])
    assert found == {0: "no value", 1: "any other value", 2: "rose", 3: "tulip"}
    assert model_answers.class_names(str(tmp_path), ["output_0"]) == {}
