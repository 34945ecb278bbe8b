"""The types of SQL that a recipe may state for a column, and how names and texts are written in SQL."""

import re

from slurm_tf.dataset.schema import Kind

_TYPE = re.compile(r"(?P<name>[A-Z]+)(?:\((?P<width>\d{1,2}), ?(?P<scale>\d{1,2})\))?(?P<lists>(?:\[\])*)", re.ASCII)
INTEGERS = frozenset(
    ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
)
_FLOATS, _TEXTS = frozenset(("FLOAT", "DOUBLE", "DECIMAL")), frozenset(("VARCHAR", "BLOB"))
_TIMES = frozenset(("DATE", "TIME", "TIMESTAMP"))
NAMES = tuple(sorted(INTEGERS | _FLOATS | _TEXTS | _TIMES))


def is_known(text: str) -> bool:
    """Whether `text` is a type of SQL that a column may have, such as DECIMAL(10,2) or VARCHAR[]."""
    match = _TYPE.fullmatch(text)
    if match is None or match["name"] not in NAMES:
        return False
    if match["name"] == "DECIMAL":
        return match["width"] is None or 0 <= int(match["scale"]) <= int(match["width"]) <= 38
    return match["width"] is None


def element(text: str) -> str:
    """Return the name of a type without its lists and numbers: VARCHAR of VARCHAR[]."""
    return re.sub(r"\[\d*\]|\(.*\)", "", text)


def kind_of(text: str) -> Kind | None:
    """Return the kind of feature that holds values of a type, in lists or not; None for times and the like."""
    name = element(text)
    if name in INTEGERS or name == "UHUGEINT":
        return Kind.INT64
    if name in _FLOATS:
        return Kind.FLOAT
    return Kind.BYTES if name in _TEXTS or name.startswith("ENUM") else None


def name(text: str) -> str:
    """Return a name as SQL has it."""
    return '"' + text.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: tuple[str, ...] | list[str]) -> str:
    """Return a list of texts as SQL has it."""
    return "[" + ", ".join(map(text, values)) + "]"
