"""Parses options of sbatch as sbatch does: those that a user types behind `slurm-tf submit JOB`.

Source: sbatch(1) of Slurm 22.05 and 25.11. An option that is in none of the lists takes a value, as new ones do.
"""

from collections.abc import Sequence

from slurm_tf.errors import UsageError

_SHORT = {
    "A": "account", "a": "array", "b": "begin", "C": "constraint", "c": "cpus-per-task", "D": "chdir",
    "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "i": "input", "J": "job-name",
    "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks",
    "O": "overcommit", "o": "output", "p": "partition", "q": "qos", "S": "core-spec", "s": "oversubscribe",
    "t": "time", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_FLAGS = frozenset({
    "contiguous", "hold", "no-requeue", "overcommit", "reboot", "requeue", "spread-job", "use-min-nodes", "wait",
    "wait-all-nodes-ready",
})  # fmt: skip
# With a value only in the form --name=value.
_OPTIONAL = frozenset({"exclusive", "get-user-env", "nice", "no-kill", "oversubscribe", "propagate"})


def parse(arguments: Sequence[str]) -> tuple[list[str], dict[str, str | bool]]:
    """Return the arguments that are no options, and each option's value by its long name; True for a flag.

    Raises UsageError. The last of several equal options counts.
    """
    plain: list[str] = []
    options: dict[str, str | bool] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return plain + rest, options
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            options[name] = value if equals else _value(name, argument, rest)
        elif argument.startswith("-") and len(argument) > 1:
            _short(argument, rest, options)
        else:
            plain.append(argument)
    return plain, options


def _short(argument: str, rest: list[str], options: dict[str, str | bool]) -> None:
    """Parse -p gpu, -pgpu, or flags together as in -HW into `options`. Raises UsageError."""
    letters = argument[1:]
    while letters:
        name = _SHORT.get(letters[0])
        if name is None:
            raise UsageError(f"found the option -{letters[0]} in {argument!r}", "an option of sbatch")
        letters = letters[1:]
        if name in _FLAGS or name in _OPTIONAL:
            options[name] = True
            continue
        options[name] = letters or _value(name, f"-{argument[1]}", rest)
        return


def _value(name: str, argument: str, rest: list[str]) -> str | bool:
    if name in _FLAGS or name in _OPTIONAL:
        return True
    if not rest:
        raise UsageError(f"option {argument} has no value", f"--{name}=VALUE")
    return rest.pop(0)
