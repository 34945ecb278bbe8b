"""SQL that reads a value as the type that a schema states, or ends the query: CAST alone would round it or wrap it.

DuckDB casts the text 1.5 to the integer 2, 0x10 to 16, 1e400 to infinity and 2020/1/2 to a date. Here a text has the
form of its type, and a value of another type is the same value after the cast. Numbers are rounded to FLOAT and DOUBLE
alone, as nearly all texts of numbers are.
"""

import re

from slurm_tf.prepare import sql_types

_FLOATS = frozenset(("FLOAT", "DOUBLE"))
_INTEGER = "[+-]?[0-9]+"
_FLOAT = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_NOT_FINITE = "(?i)[+-]?(nan|inf|infinity)"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?"
_FORMS = {"DATE": _DATE, "TIME": _TIME, "TIMESTAMP": f"{_DATE}([ T]{_TIME}Z?)?"}
# What DECIMAL without numbers is.
_DECIMAL = (18, 3)


def of_text(column: str, kind: str, refusal: str) -> str:
    """Return the value of a column of text, in SQL; that of a list is text as DuckDB writes one: [1, 2].

    `refusal`: the expression that ends the query.
    """
    if not kind.endswith("[]"):
        return _of_text(column, kind, refusal)
    # list by list: a cast to lists of lists makes NULL of what is no list
    lists, value = f"TRY_CAST({column} AS VARCHAR[])", _value(kind)
    values = f"list_transform({lists}, lambda {value}: {of_text(value, kind.removesuffix('[]'), refusal)})"
    return _checked(column, f"{lists} IS NOT NULL", values, refusal)


def of_value(column: str, found: str, kind: str, refusal: str) -> str | None:
    """Return the value of a column of the type `found` as `kind`, in SQL; None if no value of it can be the same.

    `refusal`: the expression that ends the query.
    """
    kind = kind.replace(", ", ",")
    if found == kind:
        return column
    given = found.partition("[")[0]
    if found.count("[") != kind.count("[") or "TIME ZONE" in given:
        return None
    return _of_lists(column, given, kind, refusal)


def _of_lists(value: str, found: str, kind: str, refusal: str) -> str:
    """Return a value, or lists of values each of which has the type `found`."""
    if not kind.endswith("[]"):
        return _of_value(value, found, kind, refusal)
    inner = _of_lists(_value(kind), found, kind.removesuffix("[]"), refusal)
    return f"list_transform({value}, lambda {_value(kind)}: {inner})"


def _value(kind: str) -> str:
    """Return the name of a value in lists of a type; those of inner lists are others."""
    return f"slurm_tf_value_{kind.count('[')}"


def _of_text(text: str, kind: str, refusal: str) -> str:
    if kind == "VARCHAR":
        return text
    value = f"TRY_CAST({text} AS {kind})"
    if kind in _FLOATS:
        is_finite = f"regexp_full_match({text}, '{_FLOAT}') AND isfinite({value})"
        return _checked(text, f"({is_finite}) OR regexp_full_match({text}, '{_NOT_FINITE}')", value, refusal)
    form = _form(kind)
    of_form = f"regexp_full_match({text}, '{form}') AND " if form else ""
    return _checked(text, f"{of_form}{value} IS NOT NULL", value, refusal)


def _form(kind: str) -> str | None:
    """Return the regular expression of the texts of a type; None for those whose texts DuckDB reads exactly."""
    if kind.startswith("DECIMAL"):
        scale = int(numbers[1]) if (numbers := re.findall(r"\d+", kind)) else _DECIMAL[1]
        # zeros at the end change nothing, other digits would be rounded away
        after = rf"[0-9]{{0,{scale}}}0*"
        return rf"[+-]?([0-9]+(\.{after})?|\.[0-9]{after})" if scale else r"[+-]?[0-9]+(\.0*)?"
    return _INTEGER if kind in sql_types.INTEGERS - {"BOOLEAN"} else _FORMS.get(kind)


def _of_value(value: str, found: str, kind: str, refusal: str) -> str:
    if found == "VARCHAR":
        return _of_text(value, kind, refusal)
    if (found, kind) == ("BLOB", "VARCHAR"):
        return _checked(value, f"TRY(decode({value})) IS NOT NULL", f"TRY(decode({value}))", refusal)
    changed = f"TRY_CAST({value} AS {kind})"
    if kind in _FLOATS:
        was_finite = f"isfinite({value})" if found in _FLOATS else "true"
        return _checked(value, f"isfinite({changed}) OR NOT {was_finite}", changed, refusal)
    return _checked(value, f"TRY_CAST({changed} AS {found}) = {value}", changed, refusal)


def _checked(given: str, condition: str, value: str, refusal: str) -> str:
    return f"CASE WHEN {given} IS NULL OR ({condition}) THEN {value} ELSE {refusal} END"
