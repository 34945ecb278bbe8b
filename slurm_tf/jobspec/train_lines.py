"""Says which lines make a plain Keras program distributed: those of docs/train.md, at the places where they go."""

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_tf.jobspec.program_outline import Outline

# The parameters of Keras' Model.fit that may be given by their places.
_PLACES = ("x", "y", "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data")
_BATCH_SIZE = "32"  # Keras' own
_OURS = frozenset({"x", "y", "sample_weight", "batch_size", "callbacks", "validation_split"})
_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Change:
    """A program with the lines in it, and in words what is left to do by hand."""

    text: str
    left: tuple[str, ...]


def diff(before: str, after: str, name: str) -> str:
    """Return the difference as git prints it, for `patch -p1` as well."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def change(text: str, tree: ast.Module, outline: Outline) -> Change:
    """Return `text` with slurm_tf.train, and with model.fit on this task's part of each batch."""
    names = _Names(tree)
    lines, left = text.splitlines(keepends=True), list[str]()
    first, *others = outline.fits
    left += [f"line {call.lineno}: another fit: it needs the same" for call in others]
    statement = _statement(tree, first, lines)
    if statement is None:
        left.insert(0, f"line {first.lineno}: fit stands within another statement: {_by_hand(names)}")
    else:
        new, more = _fit(text, statement, first, names)
        left = [*more, *left]
        indent = lines[statement.lineno - 1][: statement.col_offset]
        lines[statement.lineno - 1 : statement.end_lineno] = [f"{indent}{line}\n" for line in new]
    at = _after_imports(tree)
    begin = [f"import slurm_tf.train as {names.train}\n", "\n", f"{names.run} = {names.train}.init()\n"]
    lines[at:at] = ["\n", *begin] if at else [*begin, "\n"]
    return Change("".join(lines), tuple(left))


class _Names:
    """Names for the new lines that the program does not use."""

    def __init__(self, tree: ast.Module) -> None:
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        used |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        self.train, self.run, self.data = (
            next(name for name in (wanted, f"slurm_{wanted}", f"slurm_tf_{wanted}_") if name not in used)
            for wanted in ("train", "run", "data")
        )


def _after_imports(tree: ast.Module) -> int:
    """Return the number of lines up to the end of the imports at the top."""
    end = 0
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            end = node.end_lineno or end
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            break
        elif not end:  # the docstring
            end = node.end_lineno or end
    return end


def _statement(tree: ast.Module, call: ast.Call, lines: Sequence[str]) -> ast.Expr | ast.Assign | None:
    """Return the statement that is this call, or assigns it, and has its lines for itself; None if there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr | ast.Assign) and node.value is call:
            before = lines[node.lineno - 1].encode()[: node.col_offset]
            after = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset or 0 :]
            return node if not before.strip() and not after.strip() else None
    return None


def _fit(text: str, statement: ast.Expr | ast.Assign, call: ast.Call, names: _Names) -> tuple[list[str], list[str]]:
    """Return the lines in place of a call of fit, and what is left to do by hand."""
    given = dict(zip(_PLACES, (_source(text, each) for each in call.args), strict=False))
    given |= {each.arg: _source(text, each.value) for each in call.keywords if each.arg}
    model = _source(text, call.func).removesuffix(".fit")
    left = []
    if "validation_split" in given:
        left.append(f"line {call.lineno}: in place of validation_split give the data for it: validation_data=(x, y)")
    is_starred = any(isinstance(each, ast.Starred) for each in call.args) or any(not each.arg for each in call.keywords)
    if "y" not in given or is_starred:
        left.append(f"line {call.lineno}: fit reads a data set: {_by_hand(names)}")
        return _source(text, statement).splitlines(), left
    arrays = ", ".join(given[key] for key in ("x", "y", "sample_weight") if key in given)
    size = given.get("batch_size", _BATCH_SIZE)
    callbacks = f"{names.run}.callbacks({model})"
    callbacks = _with_own(callbacks, given.get("callbacks", "[]"))
    kept = [f"{key}={value}" for key, value in given.items() if key not in _OURS]
    words = [names.data, *kept, f"callbacks={callbacks}"]
    target = ""
    if isinstance(statement, ast.Assign):
        target = "".join(f"{_source(text, each)} = " for each in statement.targets)
    data = f"{names.data} = {names.run}.batches(({arrays}), batch_size={size})"
    return [data, *_call(f"{target}{model}.fit", words)], left


def _with_own(callbacks: str, own: str) -> str:
    """Return the callbacks of slurm_tf.train, with those of the program after them."""
    is_list = own.startswith("[") and own.endswith("]")
    inner = own[1:-1].strip().rstrip(",") if is_list else f"*{own}"
    return callbacks if inner in ("", "*None") else f"[*{callbacks}, {inner}]"


def _call(function: str, words: Sequence[str]) -> list[str]:
    """Return a call, in one line if it fits."""
    line = f"{function}({', '.join(words)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return [line]
    return [f"{function}(", *(f"    {word}," for word in words), ")"]


def _source(text: str, node: ast.AST) -> str:
    return ast.get_source_segment(text, node) or ""


def _by_hand(names: _Names) -> str:
    return f"give it {names.run}.dataset(make) and callbacks={names.run}.callbacks(model), see slurm-tf docs train"
