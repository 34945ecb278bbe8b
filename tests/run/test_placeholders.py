"""Placeholders: what is filled into text, and what stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.run import placeholders

VALUES = {"n": "7", "lr": "{n}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("--lr={lr} {n}", "--lr={n} 7"),
        ("{other}", "{other}"),
        ("{{n}}", "{n}"),
        ("{{{n}}}", "{{n}}"),
        ('{"n": {n}, "a": {"n":{n}}}', '{"n": 7, "a": {"n":7}}'),
        ("${n} $${n} {n-1} {n:d} {} { n } {1..5} {print $1}", "${n} $${n} {n-1} {n:d} {} { n } {1..5} {print $1}"),
        ("{{ n }} {{n} {n}}", "{{ n }} {7 7}"),
    ],
)
def test_only_names_in_braces_are_filled(text: str, filled: str) -> None:
    assert placeholders.fill(text, VALUES) == filled


def test_the_names_that_need_a_value() -> None:
    assert placeholders.names("{a} {{b}} ${c} {d}} {a}") == ["a", "d", "a"]


@given(st.text(alphabet="{}$n1 ", max_size=12))
def test_literal_text_stays_as_it_is(text: str) -> None:
    assert placeholders.fill(placeholders.literal(text), VALUES) == text
    assert placeholders.names(placeholders.literal(text)) == []
