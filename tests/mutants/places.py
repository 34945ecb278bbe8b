"""Find the places of a module that can be changed, and what each is changed to."""

import ast
import copy
import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip
STATE = re.compile(r"[a-z][a-z_-]+")  # a string that is one word: a state, a key, a name
# removed as a whole; a removed assignment to a name would be a NameError, which shows little
REMOVABLE = (ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)


@dataclass(frozen=True)
class Mutant:
    """One changed place: the bytes from `start` to `end` of a module become `replacement`."""

    module: str
    """Its path in slurm_tf, without suffix."""
    function: str
    operator: str
    ordinal: int
    """Its number among the mutants of this operator in this function."""
    start: int
    end: int
    replacement: str
    statement: str
    nth: int
    """Its number among the mutants of this operator in statements of this text in this function."""
    body: str
    """The function without docstring and annotations."""

    @property
    def name(self) -> tuple[str, str, str, int]:
        """What identifies it in its tree."""
        return self.module, self.function, self.operator, self.ordinal


def enums(trees: Iterable[ast.Module]) -> dict[str, list[str]]:
    """Return the members of each class that derives from Enum or IntEnum, by the class's name."""
    found = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
            targets = [each.targets[0] for each in node.body if isinstance(each, ast.Assign)]
            found[node.name] = [target.id for target in targets if isinstance(target, ast.Name)]
    return found


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, "ast.FunctionDef | ast.AsyncFunctionDef"]]:
    """Yield each function and method with its qualified name; a nested function is a part of its outer one."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt):
            yield from functions(node, prefix)


def is_docstring(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def parts(statement: ast.AST) -> list[ast.AST]:
    """Return what of a statement runs when its function does, without f-strings, whose parts have no positions."""
    unseen: tuple[ast.AST | None, ...] = ()
    if isinstance(statement, ast.AnnAssign):
        unseen = (statement.annotation,)
    elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        unseen = (statement.args, statement.returns, *statement.decorator_list)
    children = [each for each in ast.iter_child_nodes(statement) if each not in unseen]
    return [each for each in children if not isinstance(each, ast.JoinedStr) and not is_docstring(each)]


def places(node: ast.AST, statement: ast.stmt) -> Iterator[tuple[ast.AST, ast.stmt]]:
    """Yield each node inside `node`, in the order of the source, with the statement that it is part of."""
    for part in parts(node):
        inside = part if isinstance(part, ast.stmt) else statement
        yield part, inside
        yield from places(part, inside)


def unparse(node: ast.AST, **fields: object) -> str:
    """Return the source of a node with some of its fields changed."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return ast.unparse(changed)


def constant_changes(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "boolean", repr(not value)
    elif isinstance(value, (int, float)):
        yield "number", repr(value + 1)
    elif isinstance(value, str) and STATE.fullmatch(value):
        yield "state", repr(f"not-{value}")


def can_swap(arguments: list[ast.expr]) -> bool:
    if len(arguments) < 2 or any(isinstance(each, ast.Starred) for each in arguments[:2]):
        return False
    return ast.dump(arguments[0]) != ast.dump(arguments[1])


def expression_changes(node: ast.AST, members: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield the operator and the new source of each change of an expression."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield "comparison", unparse(node, ops=[SWAPPED[type(node.ops[0])]()])
    elif isinstance(node, ast.BoolOp):
        yield "and-or", unparse(node, op=SWAPPED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "negation", ast.unparse(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield "arithmetic", unparse(node, op=SWAPPED[type(node.op)]())
    elif isinstance(node, ast.Constant):
        yield from constant_changes(node.value)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        names = members.get(node.value.id, [])
        if node.attr in names and len(names) > 1:
            yield "state", unparse(node, attr=names[(names.index(node.attr) + 1) % len(names)])
    elif isinstance(node, ast.Call) and can_swap(node.args):
        yield "argument order", unparse(node, args=[node.args[1], node.args[0], *node.args[2:]])


def conditions(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yield each condition of a node with what it is fixed to; a loop without end would only take time."""
    if isinstance(node, (ast.If, ast.IfExp)):
        yield from ((node.test, value) for value in ("True", "False"))
    elif isinstance(node, ast.While) and not isinstance(node.test, ast.Constant):
        yield node.test, "False"
    elif isinstance(node, ast.comprehension):
        yield from ((test, "True") for test in node.ifs)


def statement_changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield "return value", "return None"
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await))
    is_kept = isinstance(node, ast.Assign) and not any(isinstance(each, (ast.Name, ast.Tuple)) for each in node.targets)
    if is_call or is_kept or isinstance(node, REMOVABLE):
        yield "statement", "pass"


def changes(node: ast.AST, members: dict[str, list[str]]) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield each change at a node: the operator, what is replaced, and its new source."""
    for test, value in conditions(node):
        yield "condition", test, value
    for operator, source in statement_changes(node):
        yield operator, node, source
    for operator, source in expression_changes(node, members):
        yield operator, node, f"({source})"


@functools.cache
def bare(function: ast.AST) -> str:
    """Return a function's source without docstrings and annotations, which change nothing."""
    function = copy.deepcopy(function)
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
            node.body = [each for each in node.body if not is_docstring(each)] or [ast.Pass()]
    return ast.unparse(function)


@functools.cache
def head(statement: ast.stmt) -> str:
    """Return a statement's source, without the statements inside it."""
    empty: dict[str, list[ast.stmt]] = {
        name: [] for name in ("orelse", "finalbody", "handlers") if hasattr(statement, name)
    }
    return unparse(statement, body=[ast.Pass()], **empty) if hasattr(statement, "body") else bare(statement)


def mutants_of(module: str, source: str, members: dict[str, list[str]]) -> list[Mutant]:
    """Return all mutants of a module's functions, in the order of the source."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for name, function in functions(ast.parse(source)):
        body = bare(function)
        seen: Counter[tuple[str, ...]] = Counter()
        for node, statement in places(function, function):
            for operator, target, replacement in changes(node, members):
                assert isinstance(target, (ast.stmt, ast.expr)) and target.end_lineno and target.end_col_offset
                start = starts[target.lineno - 1] + target.col_offset
                end = starts[target.end_lineno - 1] + target.end_col_offset
                text = head(statement)
                ordinal, nth = seen[operator,], seen[operator, text]
                seen.update([(operator,), (operator, text)])
                found.append(Mutant(module, name, operator, ordinal, start, end, replacement, text, nth, body))
    return found


def mutants_in(tree: Path, patterns: Sequence[str] = ("*",)) -> list[Mutant]:
    """Return all mutants of the modules of a tree's slurm_tf that match one of `patterns`."""
    package = tree / "slurm_tf"
    sources = {str(path.relative_to(package).with_suffix("")): path.read_text() for path in package.rglob("*.py")}
    members = enums(map(ast.parse, sources.values()))
    chosen = [name for name in sorted(sources) if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    return [mutant for name in chosen for mutant in mutants_of(name, sources[name], members)]
