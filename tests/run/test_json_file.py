"""JSON files of a run: what was written comes back, and what another release wrote is refused in words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional, Union

import pytest

from slurm_tf.errors import RunError
from slurm_tf.run import json_file
from slurm_tf.run.attempts import Attempt
from slurm_tf.run.json_file import read, write
from slurm_tf.run.lease import Lease
from slurm_tf.run.settings import LaunchSettings, RoleSettings
from slurm_tf.run.train_settings import TrainSettings
from slurm_tf.run.version import VERSION


class Color(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    name: str
    color: Color = Color.RED


@dataclass(frozen=True)
class File:
    inner: Inner
    number: float
    flag: bool = False
    count: Optional[int] = None
    pair: Optional[tuple[str, float]] = None
    rows: tuple[Inner, ...] = ()
    table: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    anything: Any = None


FULL = File(
    Inner("a"), 1.5, True, 3, ("b", 2.0), (Inner("c"), Inner("é")), {"d": {"e": 4}}, [{"f": None}]
)  # fmt: skip


@pytest.mark.parametrize("value", [FULL, File(Inner(""), 2), File(Inner("x"), float("inf"))])
def test_what_was_written_comes_back(value: File, tmp_path: Path) -> None:
    path = str(tmp_path / "file.json")
    write(path, value)
    found = read(path, File)
    assert found == value
    assert isinstance(found.inner.color, Color)
    assert json_file.parse(json_file.dumps(value), File, "text") == value


def test_the_version_stands_beside_the_fields() -> None:
    assert json.loads(json_file.dumps(Inner("a"))) == {"contract": VERSION, "name": "a", "color": "red"}


def changed(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json_file.dumps(FULL))
    return {key: value for key, value in {**values, **changes}.items() if value != "gone"}


OTHER = r"file.json was written by another release of slurm-tf \({}\); needed contract version 1"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (changed(contract=99), "found contract version 99"),
        (changed(contract="1"), "found contract version 1"),
        (changed(contract="gone"), "found contract version none"),
        (changed(more=1), "unknown: more"),
        (changed(number="gone", count="gone"), "missing: count, number"),
        (changed(inner={"name": "a", "color": "red", "size": 1}), r"unknown: inner\.size"),
        (changed(inner={"name": "a"}), r"missing: inner\.color"),
        (changed(inner=None), "inner is null"),
        (changed(inner={"name": 7, "color": "red"}), r"inner\.name is 7"),
        (changed(rows=[{"name": "a", "color": "blue"}]), r'rows\.0\.color is "blue"'),
        (changed(rows={}), "rows is {}"),
        (changed(number="1.5"), 'number is "1.5"'),
        (changed(number=True), "number is true"),
        (changed(flag=1), "flag is 1"),
        (changed(count=1.5), r"count is 1\.5"),
        (changed(pair=["b"]), "pair has 1 members, not 2"),
        (changed(pair=["b", "c"]), r'pair\.1 is "c"'),
        (changed(table={"d": {"e": "f"}}), r'table\.d\.e is "f"'),
        (changed(table=[]), r"table is \[\]"),
        ([], r"found \[\]"),
        (None, "found null"),
    ],
)
def test_what_another_release_wrote_is_refused(values: object, found: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match=OTHER.format(found)):
        read(str(path), File)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"contract": 1} x'])
def test_what_is_torn_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(RunError, match=r"file.json is not JSON \(.*\nHINT: remove it"):
        read(str(path), File, "remove it")


def test_a_file_that_is_not_there_is_another_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "file.json"), File)


def test_a_union_that_nobody_reads_back_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Unclear:
        value: Union[int, str]

    with pytest.raises(TypeError, match="only Optional"):
        json_file.parse(json_file.dumps(Unclear(1)), Unclear, "text")


SETTINGS = LaunchSettings(
    run="r", local=False, strategy="ps", env={"A": "b"}, cluster_flags=False, gpu_sharing="split",
    roles=(RoleSettings("worker", 2, None),), max_restarts=0, register_timeout=30.0, wait=20.0, kill_wait=2.0,
    ports=(20000, 20999), coordinator_ports=None, interface="", train=TrainSettings(mtbf=float("inf")),
    points={"0": {"rate": "0.1"}}, warning=("USR1", 60.0),
)  # fmt: skip


@pytest.mark.parametrize("value", [SETTINGS, Lease("7.0", "7", "n", "1-1", 0.0), Attempt("7.0", "7", 0.0)])
def test_the_files_of_a_run_come_back(value: object) -> None:
    assert json_file.parse(json_file.dumps(value, indent=1), type(value), "text") == value
