"""Checks the SQL of a recipe: it is one SELECT whose rows are the same each time, and which columns may differ.

The sum of floats depends on the order in which they are added, and so on the number of threads. A column of such a sum,
or of what depends on it, is not reproducible: the digest leaves it out. Sums of integers and decimals are exact.
"""

from collections.abc import Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope

from slurm_tf.errors import ConfigError

_DIALECT = "duckdb"
# What sqlglot makes of nothing, and of a comment after a semicolon.
_NOTHING = (type(None), exp.Semicolon)
# Their values differ from one call to the next.
_CHANGING = (
    exp.Rand, exp.Randn, exp.Uuid, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime,
    exp.CurrentUser, exp.TableSample, exp.Localtime, exp.Localtimestamp,
)  # fmt: skip
_CHANGING_NAMES = frozenset((
    "random", "setseed", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "now", "today", "get_current_time",
    "get_current_timestamp", "nextval", "currval", "current_setting", "txid_current", "transaction_timestamp", "rowid",
))  # fmt: skip
# Exact for integers and decimals, not for floats.
_SUMS = (exp.Sum, exp.Avg)
_ALWAYS_EXACT: frozenset[type[exp.Expr]] = frozenset((
    exp.Count, exp.CountIf, exp.Max, exp.Min, exp.LogicalAnd, exp.LogicalOr, exp.BitwiseAndAgg, exp.BitwiseOrAgg,
    exp.BitwiseXorAgg, exp.Quantile, exp.PercentileDisc, exp.PercentileCont, exp.Median, exp.RowNumber, exp.Rank,
    exp.DenseRank, exp.Ntile, exp.Lag, exp.Lead,
))  # fmt: skip
# The same for the same rows in another order only if they have an order of their own.
_ORDERED = (exp.ArrayAgg, exp.GroupConcat, exp.First, exp.Last, exp.FirstValue, exp.LastValue)
_NUMBERINGS = (exp.RowNumber, exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue)
_FLOATING = (exp.DataType.Type.FLOAT, exp.DataType.Type.DOUBLE, exp.DataType.Type.UNKNOWN, exp.DataType.Type.NULL)
_EXACT_NAMES = frozenset(("quantile_disc", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or"))


def unreproducible(sql: str, tables: Mapping[str, Mapping[str, str]], where: str) -> frozenset[str]:
    """Return the columns of the rows of `sql` that may differ from one run to the next, in lower case.

    `tables`: the types of the columns of each. Raises ConfigError where the rows themselves may differ.
    """
    tree = _parsed(sql, where)
    _check_stable(tree, where)
    schema: dict[str, object] = {table: dict(columns) for table, columns in tables.items()}
    try:
        tree = annotate_types(
            qualify(tree, dialect=_DIALECT, schema=schema, validate_qualify_columns=False), schema, dialect=_DIALECT
        )
        scopes = traverse_scope(tree)
    except SqlglotError as error:
        raise _unread(error, where) from error
    found: dict[int, frozenset[str]] = {}
    for scope in scopes:
        found[id(scope.expression)] = _differing(scope, found, where)
    return found[id(tree)]


def for_spark(sql: str) -> str:
    """Return SQL of DuckDB as Spark reads it."""
    return sqlglot.transpile(sql, read=_DIALECT, write="spark")[0]


def _parsed(sql: str, where: str) -> exp.Expr:
    try:
        statements = [each for each in sqlglot.parse(sql, dialect=_DIALECT) if not isinstance(each, _NOTHING)]
    except SqlglotError as error:
        raise _unread(error, where) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        kinds = ", ".join(each.key.upper() for each in statements) or "nothing"
        raise ConfigError(f"found {kinds}", "one SELECT statement", where=where)
    return statements[0]


def _unread(error: SqlglotError, where: str) -> ConfigError:
    lines = str(error).splitlines() or ["it cannot be read"]
    return ConfigError(f"the SQL is not understood: {lines[0]}", "SQL as DuckDB and Spark read it", where=where)


def _check_stable(tree: exp.Expr, where: str) -> None:
    """Raise ConfigError for what gives other rows each time."""
    for node in tree.walk():
        name = _name(node)
        if isinstance(node, _CHANGING) or name in _CHANGING_NAMES:
            found = f"found {node.sql(dialect=_DIALECT)}"
            raise ConfigError(found, "rows that are the same each time", "write the value into the SQL", where)
        if (
            isinstance(node, exp.Query)
            and (node.args.get("limit") or node.args.get("offset"))
            and not node.args.get("order")
        ):
            raise ConfigError("found LIMIT without ORDER BY", "an order, so that the rows are the same", where=where)
        if isinstance(node, exp.Window) and isinstance(node.this, _NUMBERINGS) and not node.args.get("order"):
            found = f"found {node.sql(dialect=_DIALECT)}"
            raise ConfigError(found, "ORDER BY in the window, so that the rows are the same", where=where)


def _differing(scope: Scope, inner: Mapping[int, frozenset[str]], where: str) -> frozenset[str]:
    """Return the columns of one SELECT that may differ; `inner`: those of the SELECTs that it reads."""
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        return _differing_of_union(query, inner)
    if not isinstance(query, exp.Select):
        return frozenset()
    sources = {
        name: inner.get(id(source.expression), frozenset()) if isinstance(source, Scope) else frozenset()
        for name, source in scope.sources.items()
    }
    deciding = [query.args.get(key) for key in ("where", "having", "qualify", "group", "distinct")]
    deciding += [join.args.get("on") for join in query.args.get("joins") or ()]
    for clause in deciding:
        if clause is not None and _may_differ(clause, sources, inner):
            found = f"found {clause.sql(dialect=_DIALECT)}"
            do = "cast the values to DECIMAL before they are added up"
            raise ConfigError(found, "rows that do not depend on the order in which floats are added", do, where)
    return frozenset(each.alias_or_name.lower() for each in query.selects if _may_differ(each, sources, inner))


def _differing_of_union(query: exp.SetOperation, inner: Mapping[int, frozenset[str]]) -> frozenset[str]:
    """Return the columns of a UNION, by their place in its parts."""
    names, places = [each.alias_or_name.lower() for each in query.selects], set[int]()
    for part in (query.left, query.right):
        inside = part.unnest()
        if not isinstance(inside, exp.Query):
            continue
        found = inner.get(id(inside), frozenset())
        places |= {at for at, each in enumerate(inside.selects) if each.alias_or_name.lower() in found}
    return frozenset(name for at, name in enumerate(names) if at in places)


def _may_differ(tree: exp.Expr, sources: Mapping[str, frozenset[str]], inner: Mapping[int, frozenset[str]]) -> bool:
    return any(
        _is_inexact(node)
        or (isinstance(node, exp.Column) and node.name.lower() in sources.get(node.table, frozenset()))
        or bool(inner.get(id(node)))
        for node in tree.walk()
    )


def _is_inexact(node: exp.Expr) -> bool:
    """Whether a function depends on the order of its rows."""
    if isinstance(node, _SUMS):
        return node.this.type is None or node.this.type.this in _FLOATING
    if isinstance(node, _ORDERED):
        within = isinstance(node.parent, exp.WithinGroup)
        return not within and node.find(exp.Order) is None and not isinstance(node.parent, exp.Window)
    if isinstance(node, exp.AggFunc):
        return type(node) not in _ALWAYS_EXACT and _name(node) not in _EXACT_NAMES
    return _name(node) in ("fsum", "favg", "sumkahan", "kahan_sum", "list", "string_agg", "arbitrary", "product")


def _name(node: exp.Expr) -> str:
    """Return the name of a function in lower case, "" of anything else."""
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
        return str(node.this).lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else ""
