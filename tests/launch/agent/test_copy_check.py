"""Programs that fail in the copy of their code: which paths lead out of it."""

from pathlib import Path

import pytest

from slurm_tf.launch.agent import copy_check


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return the folder of a submission with a copy, whose original has `data` beside it."""
    (tmp_path / "original" / "data").mkdir(parents=True)
    folder = tmp_path / "run" / "submission-1" / "code"
    (folder / "proj" / "sub").mkdir(parents=True)
    (folder / "data").symlink_to(tmp_path / "original" / "data")
    (tmp_path / "log").touch()
    return folder


def hint(code: Path, said: str, folder: str = "proj") -> str | None:
    log = code.parents[2] / "log"
    log.write_text(f"step 1\nTraceback\n{said}\n")
    return copy_check.explain(str(log), str(code / folder), str(code))


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '../../data/x.csv'", "../../data/x.csv"),
        ("cat: ../other: No such file or directory", "../other"),
        ("cannot open ../../../../x (really)", "../../../../x"),
        ("no files in {submission}/data/*.tfrecord", "{submission}/data/*.tfrecord"),
    ],
)
def test_a_path_out_of_the_copy_is_named(said: str, path: str, code: Path) -> None:
    found = hint(code, said.format(submission=code.parent))
    assert found is not None
    assert found.startswith(
        f"{path.format(submission=code.parent)} is not there: the program ran in {code}/proj, a copy"
    )
    assert "--set snapshot=false" in found


@pytest.mark.parametrize(
    "said",
    ["'../data/gone' is beside the original neither", "'../proj/x'", "'/nowhere/data'", "x/../y", "{code}/proj/gone",
     "'../../code'", "{run}/checkpoints/1", ""],
)  # fmt: skip
def test_other_paths_are_not(said: str, code: Path) -> None:
    assert hint(code, said.format(code=code, run=code.parents[1])) is None


def test_deeper_in_the_copy_and_outside_of_it(code: Path) -> None:
    assert hint(code, "'../../other/x'", "proj/sub") is not None
    assert hint(code, "'../other/x'", "proj/sub") is None
    assert hint(code, "'../../../x'", "../../../original") is None
    assert copy_check.explain(str(code / "no log"), str(code / "proj"), str(code)) is None
