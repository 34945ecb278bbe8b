"""Writes docs/job_reference.md from the JSON Schema of job files, and from the table of sbatch's options."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from slurm_tf.jobspec.job_file import JobSpec
from slurm_tf.jobspec.sbatch_table import OPTIONS, Use

_HEAD = """\
# Every key of a job file

From the JSON Schema that `slurm-tf schema job` prints, and `slurm-tf explain JOB` shows the value of each key in a job
and where it came from. [jobs.md](jobs.md) explains how they work together. A time is written as for `--time` of sbatch
(`"30"` is minutes), memory as for `--mem` (`"4G"`), GPUs as for `--gpus` (`2`, `"a100:2"`).
"""
_NAMES = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true` or `false`"}
_TABLES = {"Roles": "", "Role": "[roles.NAME]", "Param": "[params.NAME]"}


def page() -> str:
    """Return the page."""
    schema = msgspec.json.schema(JobSpec)
    found: dict[str, Any] = schema["$defs"]
    titles = {"JobSpec": "At the top", **_TABLES}
    for key, value in found["JobSpec"]["properties"].items():
        for part in (value, *value.get("anyOf", ())):
            if "$ref" in part:
                titles.setdefault(part["$ref"].rpartition("/")[2], f"[{key}]")
    sections = [
        "\n".join(
            [
                f"## `{title}`" if title.startswith("[") else f"## {title}",
                "",
                f"{found[name]['description']}",
                "",
                *_table(found[name], titles),
            ]
        )
        for name, title in titles.items()
        if title
    ]
    return "\n\n".join([_HEAD.rstrip(), *sections]) + "\n"


def _table(table: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[str]:
    yield "| key | value | default | what it is | sbatch |"
    yield "|---|---|---|---|---|"
    for key, value in table["properties"].items():
        parts = [value, *value.get("anyOf", ()), *_inner(value)]
        name = next((part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part), "")
        if name == "Roles" or titles.get(name) == f"[{key}]":
            continue
        what = next((part["description"] for part in parts if "description" in part), "")
        assert what, f"{table['title']}.{key} has no description in slurm_tf/jobspec/job_file.py"
        required = key in table.get("required", ())
        cells = [f"`{key}`", _value(key, value), _default(value, required), what, _sbatch(table["title"], key)]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _inner(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(itertools.chain.from_iterable(part.get("anyOf", ()) for part in value.get("anyOf", ())))


def _value(key: str, value: Mapping[str, Any]) -> str:
    """Return what a key may be in words."""
    if "enum" in value:
        return ", ".join(f'`"{each}"`' for each in value["enum"])
    if "$ref" in value:
        return "a table, or a value"
    if value.get("type") == "array":
        return f"list of {_value(key, value['items'])}"
    if value.get("type") == "object":
        return f"table of {_value(key, value['additionalProperties'])}"
    if "anyOf" in value:
        return _one_of(key, [each for each in value["anyOf"] if each != {"type": "null"}])
    return _NAMES[value["type"]] + _limits(value)


def _one_of(key: str, parts: list[Mapping[str, Any]]) -> str:
    """Return the words for one of several types; for text or a number of minutes, MiB or GPUs, what that is."""
    if [part.get("type") for part in parts] == ["string", "integer"] and "minimum" in parts[1]:
        names = {"mem": "memory", "siz": "memory", "gpu": "GPUs"}
        return names.get(key[:3], "time")
    if any("$ref" in part for part in parts):
        return "a table, or a value"
    return " or ".join(dict.fromkeys(_value(key, part) for part in parts))


def _limits(value: Mapping[str, Any]) -> str:
    if "maximum" in value:
        return f", {value['minimum']} to {value['maximum']}"
    if "exclusiveMinimum" in value:
        return f", more than {value['exclusiveMinimum']}"
    return f", at least {value['minimum']}" if "minimum" in value else ""


def _default(value: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = value["default"]
    return "" if default in (None, "", {}) else f"`{json.dumps(default)}`"


def _sbatch(table: str, key: str) -> str:
    """Return the option of sbatch that a key stands for: the one of its name, else the one that is refused for it."""
    if table == "JobSpec":
        options = [option.name for option in OPTIONS.values() if (option.use, option.instead) == (Use.KEY, key)]
    elif table == "Role":
        words = f"`{key}` in a role's table"
        options = [option.name for option in OPTIONS.values() if option.instead == words or option.name == key]
    else:
        return ""
    chosen = key if key in options else next(iter(options), "")
    return chosen and f"`--{chosen}`"
