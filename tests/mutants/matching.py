"""Find the mutants of one state of the tree again in another, where code has moved and names have changed."""

import functools
import io
import keyword
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence

from tests.mutants.places import Mutant

LONG = 12  # tokens


@functools.cache
def shape(source: str) -> str:
    """Return source with its names numbered and its strings left out: the same for code with other names."""
    numbers: dict[str, str] = {}
    words = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            words.append("''")
        elif token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            words.append(numbers.setdefault(token.string, f"n{len(numbers)}"))
        else:
            words.append(token.string)
    return " ".join(words)


def long_statement(mutant: Mutant) -> Hashable:
    """Return the shape of a statement and of its change; for a short one the mutant itself, which fits no other.

    Short statements look alike too often: `a.b(c)`.
    """
    statement = shape(mutant.statement)
    return (mutant.operator, statement, shape(mutant.replacement)) if len(statement.split()) >= LONG else mutant


# What finds a mutant again in another state of the tree, the strictest first. Each must fit exactly one there.
KEYS: dict[str, Callable[[Mutant], Hashable]] = {
    "same function": lambda each: (each.function, each.body, each.operator, each.ordinal),
    "function with other names": lambda each: (shape(each.body), each.operator, each.ordinal),
    "same statement in its function": lambda each: (each.function, each.operator, each.statement, each.nth),
    "same statement": lambda each: (each.operator, each.statement, each.nth),
    "statement with other names": lambda each: (
        each.function.rpartition(".")[2], each.operator, shape(each.statement), shape(each.replacement)
    ),
    "long statement with other names": long_statement,
}  # fmt: skip


class Matcher:
    """Finds the mutants of one state of the tree in another."""

    def __init__(self, old: Sequence[Mutant], new: Sequence[Mutant]) -> None:
        self.by_key = []
        for key in KEYS.values():
            index: defaultdict[Hashable, tuple[list[Mutant], list[Mutant]]] = defaultdict(lambda: ([], []))
            for side, mutants in enumerate((old, new)):
                for mutant in mutants:
                    index[key(mutant)][side].append(mutant)
            self.by_key.append(index)
        moves: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for olds, news in (pair for index in self.by_key[:2] for pair in index.values()):
            if len(olds) == len(news) == 1:
                moves[olds[0].module][news[0].module] += 1
        self.becomes = {module: votes.most_common(1)[0][0] for module, votes in moves.items()}
        """The module that most of a module went to."""

    def find(self, mutant: Mutant) -> tuple[str, Mutant] | None:
        """Return how a mutant was found again, and what it is now; None if it is not there or not certain."""
        for how, key, index in zip(KEYS, KEYS.values(), self.by_key, strict=True):
            olds, news = index[key(mutant)]
            home = self.becomes.get(mutant.module)
            olds = [each for each in olds if each.module == mutant.module] if len(olds) > 1 else olds
            news = [each for each in news if each.module == home] if len(news) > 1 else news
            if len(olds) == len(news) == 1:
                return how, news[0]
        return None
