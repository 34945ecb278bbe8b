"""Tasks that meet in a folder: real processes, stale files, ranks that do not come."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import RegistrationError, RunError, TopologyError
from slurm_tf.launch.direct import file_rendezvous

Messages = Sequence[file_rendezvous.Message]


def collect(words: Messages) -> file_rendezvous.Message:
    return {"words": list(words)}


def refuse(_: Messages) -> file_rendezvous.Message:
    raise TopologyError("no", "yes")


def meet(
    path: Path,
    rank: int,
    tasks: int,
    limit: float = 30.0,
    rounds: int = 1,
    decide: Callable[[Messages], file_rendezvous.Message] = collect,
) -> list[file_rendezvous.Message]:
    """Take part as `rank`; in each round say its number, and return what was told in each."""
    return [
        file_rendezvous.meet(str(path), rank, tasks, {"say": [rank, turn]}, decide, limit) for turn in range(rounds)
    ]


def in_processes(
    path: Path, ranks: Sequence[int], tasks: int, **more: Any
) -> list["Future[list[file_rendezvous.Message]]"]:
    with ProcessPoolExecutor(len(ranks), multiprocessing.get_context("fork")) as pool:
        return [pool.submit(meet, path, rank, tasks, **more) for rank in ranks]


def words(tasks: int, turn: int = 0) -> file_rendezvous.Message:
    return {"words": [{"say": [rank, turn]} for rank in range(tasks)]}


def put(path: Path, rank: int, message: file_rendezvous.Message) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    file_rendezvous._Table(str(path)).write(rank, message)


def test_all_are_told_what_all_said_and_nothing_is_left(tmp_path: Path) -> None:
    told = [future.result() for future in in_processes(tmp_path / "x", range(8), 8)]
    assert told == [[words(8)]] * 8
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_step_may_meet_as_often_as_it_likes(tmp_path: Path) -> None:
    told = [future.result() for future in in_processes(tmp_path / "x", range(4), 4, rounds=30)]
    assert told == [[words(4, turn) for turn in range(30)]] * 4
    assert os.listdir(tmp_path) == []


def test_one_task_needs_no_folder(tmp_path: Path) -> None:
    assert meet(tmp_path / "x", 0, 1) == [words(1)]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("answered", [False, True])
def test_what_an_earlier_step_left_is_not_taken_for_an_answer(
    tmp_path: Path, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_rendezvous, "_READERS_SECONDS", 0.2)
    path = tmp_path / "x"
    told = {"told": {"words": "old"}, "nonces": {"1": "a", "2": "b"}} if answered else {}
    put(path, 0, {"call": "old", **told})
    put(path, 1, {"nonce": "a", "call": "old", "word": {"say": "old"}})
    put(path, 2, {"nonce": "b", "call": "old", "word": {"say": "old"}})
    assert [future.result() for future in in_processes(path, range(3), 3)] == [[words(3)]] * 3
    assert os.listdir(tmp_path) == []


def test_what_was_told_stays_until_all_have_read_it(tmp_path: Path) -> None:
    """Rank 0 comes again while rank 1 has not yet read what the first exchange told."""
    path = tmp_path / "x"
    put(path, 1, {"nonce": "slow", "call": "first", "word": {}})
    put(path, 0, {"call": "first", "told": {"for": "slow"}, "nonces": {"1": "slow"}})
    leader = threading.Thread(target=meet, args=(path, 0, 2, 10.0))
    leader.start()
    time.sleep(0.5)
    table = file_rendezvous._Table(str(path))
    assert table.read(0)["told"] == {"for": "slow"}
    table.leave([1])
    assert meet(path, 1, 2) == [words(2)]
    leader.join(20)
    assert not leader.is_alive()


def test_a_file_that_is_half_there_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, 1, {"word": "a" * 1000})
    table = file_rendezvous._Table(str(tmp_path))
    whole = (tmp_path / "rank-1.json").read_bytes()
    assert table.read(1) == {"word": "a" * 1000}
    for size in (0, 1, 64, 65, 66, len(whole) - 1):
        (tmp_path / "rank-1.json").write_bytes(whole[:size])
        assert table.read(1) == {}
    # a shorter text over a longer one, before it is cut
    other = tmp_path / "other"
    put(other, 1, {"word": "b"})
    short = (other / "rank-1.json").read_bytes()
    (tmp_path / "rank-1.json").write_bytes(short + whole[len(short) :])
    assert table.read(1) == {}
    table.write(1, {"word": "c"})
    assert table.read(1) == {"word": "c"}


def outcomes(
    futures: Sequence["Future[list[file_rendezvous.Message]]"],
) -> tuple[list[Exception], list[file_rendezvous.Message]]:
    errors, told = [], []
    for future in futures:
        error = future.exception()
        if isinstance(error, Exception):
            errors.append(error)
        else:
            told += future.result()
    return errors, told


@pytest.mark.parametrize(
    ("came", "missing"), [((0, 1, 4), ("2", "3")), ((1, 2, 4), ("0", "3")), ((0,), ("1", "2", "3", "4"))]
)
@pytest.mark.slow
def test_one_error_names_the_ranks_that_do_not_come(
    tmp_path: Path, came: tuple[int, ...], missing: tuple[str, ...]
) -> None:
    errors, told = outcomes(in_processes(tmp_path / "x", came, 5, limit=1.0))
    (error,) = errors
    assert isinstance(error, RegistrationError)
    assert error.missing == missing
    assert f"{len(came)}/5 tasks met in {tmp_path}/x in 1 s; missing: rank {', '.join(missing)};" in str(error)
    assert told == [{"failed": 75}] * (len(came) - 1)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_late_leader_is_waited_for(tmp_path: Path) -> None:
    told: list[list[file_rendezvous.Message]] = []
    follower = threading.Thread(target=lambda: told.append(meet(tmp_path / "x", 1, 3, 3.0)))
    follower.start()
    time.sleep(2)
    leader = threading.Thread(target=lambda: told.append(meet(tmp_path / "x", 0, 3, 5.0)))
    leader.start()
    # by now the follower alone would have given up
    time.sleep(2)
    told.append(meet(tmp_path / "x", 2, 3))
    for thread in (leader, follower):
        thread.join(20)
    assert told == [[words(3)]] * 3


def test_what_rank_0_cannot_decide_it_alone_says(tmp_path: Path) -> None:
    errors, told = outcomes(in_processes(tmp_path / "x", range(3), 3, decide=refuse))
    assert [type(error) for error in errors] == [TopologyError]
    assert told == [{"failed": 65}] * 2
    assert os.listdir(tmp_path) == []


def test_files_are_private(tmp_path: Path) -> None:
    put(tmp_path / "x", 1, {})
    assert (tmp_path / "x" / "rank-1.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(RunError, match="others can change it"):
        meet(path, 1, 2)
    assert os.listdir(path) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir(mode=0o700)
    (tmp_path / "target").write_text(json.dumps({}))
    (path / "rank-1.json").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        meet(path, 1, 2)
