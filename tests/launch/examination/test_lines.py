"""Messages in pieces, with lines of other programs between them."""

import pytest

from slurm_tf.launch.examination import lines
from slurm_tf.run import examination
from slurm_tf.run.examination import Finished, TellTime, TensorFlowFacts

LONG = Finished("node1", TensorFlowFacts(problem="x" * 5000))


def test_a_long_message_comes_in_pieces_that_srun_passes_on_whole() -> None:
    first, second = lines.split(LONG, 0), lines.split(LONG, 1)
    assert len(first) > 6
    assert all(len(line) < 1000 for line in first)
    joiner = lines.Joiner()
    mixed = [line for pair in zip(first, second, strict=True) for line in (pair[1], "a site's prolog", pair[0])]
    found = [joiner.add(line, examination.FROM_NODES) for line in mixed]
    assert [message for _, message in found if message] == [LONG, LONG]
    assert [is_message for is_message, _ in found] == [True, False, True] * len(first)


@pytest.mark.parametrize("line", ["stf-message 0 0/1 {}", f"{lines.split(TellTime(1), 0)[0]}", "stf-message 0 0/1 x"])
def test_what_is_no_message_of_a_node(line: str) -> None:
    with pytest.raises(ValueError, match="came"):
        lines.Joiner().add(line, examination.FROM_NODES)


@pytest.mark.parametrize(("text", "parts"), [("0: a: b", ("0", "a: b")), (" 12: ", ("12", "")), ("srun: x", None)])
def test_labels(text: str, parts: tuple[str, str] | None) -> None:
    match = lines.LABELLED.fullmatch(text)
    assert (match and match.groups()) == parts
