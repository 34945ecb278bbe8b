"""Measure what the tests guard: change one place of slurm_tf at a time, and see whether the tests of its module fail.

`python -m tests.mutants --seed 13 --count 120 --json FILE` draws that many mutants of functions in slurm_tf/launch and
slurm_tf/train. A mutant is one changed place: a comparison, `and` for `or`, a constant plus one, a condition that is
always true, a statement left out, another member of an enum. Each is written into a copy of the tree, where the tests
of its module run: those in the file named after it, those that import it, and those of PROCESS_TESTS. A mutant is
killed when a test fails or the tests take too long; one that survives is a place that no test guards, or a change
without effect. Modules whose tests fail without a mutant are left out, and named.

To compare two states of the tests, draw a sample in the old one and repeat it in the new one:

    git worktree add OLD COMMIT
    python -m tests.mutants --tree OLD --json before.json
    python -m tests.mutants --sample before.json --sample-tree OLD --json after.json

The second makes the same mutants, though their places may have moved to another function or module or got other names.
For a place that is gone another is drawn from the module that its module became.

As root the tests run in namespaces of their own, where only the copy can be written and only their own processes can be
signalled: a mutant may delete or signal anything.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.matching import Matcher
from tests.mutants.places import Mutant, mutants_in
from tests.mutants.trial import Copy, find_tests

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("launch/*", "train/*")
MARKERS = "not slurm and not mpi and not long and not faults"  # `make test` without a cluster
# Tests that start the processes of a job, and so import little of what runs in them, by pattern of modules.
PROCESS_TESTS = {
    "launch/agent/*": ("tests/launch/test_job.py",),
    "launch/coordinator/*": ("tests/launch/test_job.py", "tests/launch/test_interrupted_job.py"),
}


def diff(tree: Path, mutant: Mutant) -> dict[str, object]:
    """Return the number of a mutant's first line, and its lines before and after, each as one."""
    source = (tree / "slurm_tf" / f"{mutant.module}.py").read_bytes()
    first = source.rfind(b"\n", 0, mutant.start) + 1
    last = source.find(b"\n", mutant.end)
    before = source[first:last].decode()
    after = (source[first : mutant.start] + mutant.replacement.encode() + source[mutant.end : last]).decode()
    return {
        "line": source.count(b"\n", 0, first) + 1,
        "before": " ".join(before.split()),
        "after": " ".join(after.split()),
    }


class Measurement:
    """Runs mutants in one tree and keeps their outcomes."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments = arguments
        self.tree: Path = arguments.tree.resolve()
        self.copy = Copy(self.tree, work, arguments.markers)
        self.limits: dict[str, float | None] = {}
        self.results: list[dict[str, object]] = []
        self.processes = PROCESS_TESTS
        if arguments.processes:
            self.processes = {pattern: tuple(files) for pattern, files in json.loads(arguments.processes).items()}

    def limit(self, module: str, tests: Sequence[str]) -> float | None:
        """Return how long a module's tests may take, from a run without a mutant; None if that fails."""
        if module not in self.limits:
            started = time.monotonic()
            code = self.copy.run(tests, 600) if tests else 5
            seconds = time.monotonic() - started
            self.limits[module] = None if code else 60 + 4 * seconds
            what = f"exit code {code}: left out" if code else f"{seconds:.0f} s"
            print(f"{module}: {' '.join(tests) or 'no tests'}: {what}", flush=True)
        return self.limits[module]

    def measure(self, mutant: Mutant, how: str) -> bool:
        """Run one mutant; return whether it counts."""
        tests = find_tests(self.tree, mutant.module, self.processes)
        limit = self.limit(mutant.module, tests)
        if limit is None:
            return False
        started = time.monotonic()
        outcome = self.copy.outcome(mutant, tests, limit)
        result = {
            "module": mutant.module, "function": mutant.function, "operator": mutant.operator,
            "ordinal": mutant.ordinal, "how": how, "outcome": outcome, "seconds": round(time.monotonic() - started, 1),
            **diff(self.tree, mutant),
        }  # fmt: skip
        print(f"{len(self.results) + 1} {outcome}: {mutant.module}:{result['line']} {mutant.operator}", flush=True)
        if outcome == "unviable":
            return False
        self.results.append(result)
        if self.arguments.json:
            self.arguments.json.write_text(json.dumps(self.results, indent=1))
        return True


def draw(measurement: Measurement, arguments: argparse.Namespace) -> None:
    """Measure `count` mutants of the chosen modules, drawn with the seed."""
    mutants = mutants_in(measurement.tree, arguments.modules)
    random.Random(arguments.seed).shuffle(mutants)
    for mutant in mutants:
        if len(measurement.results) == arguments.count or time.monotonic() > arguments.until:
            return
        measurement.measure(mutant, "drawn")


def repeat(measurement: Measurement, arguments: argparse.Namespace) -> None:
    """Measure the mutants of a sample that was drawn in another tree."""
    old, new = mutants_in(arguments.sample_tree), mutants_in(measurement.tree)
    by_name = {mutant.name: mutant for mutant in old}
    matcher = Matcher(old, new)
    spares = list(new)
    random.Random(arguments.seed).shuffle(spares)
    wanted = [
        by_name[each["module"], each["function"], each["operator"], each["ordinal"]]
        for each in json.loads(arguments.sample.read_text())
    ]
    matched = [matcher.find(mutant) for mutant in wanted]
    used = {found[1].name for found in matched if found}
    print(f"{len(used)} of {len(wanted)} found again; the others are drawn anew from the same modules", flush=True)
    for mutant, found in zip(wanted, matched, strict=True):
        if time.monotonic() > arguments.until:
            return
        if found and measurement.measure(found[1], found[0]):
            continue
        home = matcher.becomes.get(mutant.module)
        for spare in (each for each in spares if each.module == home and each.name not in used):
            used.add(spare.name)
            if measurement.measure(spare, "drawn anew"):
                break


def report(results: Sequence[dict[str, object]]) -> None:
    """Print what was killed, by module, and each survivor with its line before and after."""
    by_module: defaultdict[object, Counter[object]] = defaultdict(Counter)
    for result in results:
        by_module[result["module"]][result["outcome"]] += 1
    total = sum(by_module.values(), Counter[object]())
    for module, outcomes in [*sorted(by_module.items(), key=str), ("all", total)]:
        killed = outcomes["killed"] + outcomes["timeout"]
        print(f"{module}: {killed} of {outcomes.total()} killed, {outcomes['timeout']} of them by the time")
    print("mutants:", ", ".join(f"{count} {how}" for how, count in Counter(each["how"] for each in results).items()))
    for each in results:
        if each["outcome"] == "survived":
            print(f"survived: {each['module']}.py:{each['line']} {each['function']}, {each['operator']}")
            print(f"  - {each['before']}\n  + {each['after']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--modules", nargs="+", default=MODULES, help="patterns of paths in slurm_tf, without suffix")
    parser.add_argument("--markers", default=MARKERS, help="pytest's -m")
    parser.add_argument("--minutes", type=float, default=180.0, help="no mutant is begun after that")
    parser.add_argument("--json", type=Path, help="where the results are written, after each mutant")
    parser.add_argument("--tree", type=Path, default=ROOT)
    parser.add_argument("--sample", type=Path, help="what --json wrote: make these mutants")
    parser.add_argument("--sample-tree", type=Path, help="the tree in which that sample was drawn")
    parser.add_argument("--processes", help="JSON: test files beside those that import a module, by pattern of modules")
    arguments = parser.parse_args()
    if (arguments.sample is None) != (arguments.sample_tree is None):
        parser.error("--sample and --sample-tree belong together")
    arguments.until = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as work:
        measurement = Measurement(arguments, Path(work))
        (repeat if arguments.sample else draw)(measurement, arguments)
    report(measurement.results)


if __name__ == "__main__":
    main()
