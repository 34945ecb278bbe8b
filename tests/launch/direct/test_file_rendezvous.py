"""Exchanges through a folder: several processes, stale files, missing ranks."""

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


def collect(messages: Messages) -> file_rendezvous.Message:
    return {"messages": list(messages)}


def refuse(_: Messages) -> file_rendezvous.Message:
    raise TopologyError("no", "yes")


def exchange(
    path: Path,
    rank: int,
    tasks: int,
    limit: float = 30.0,
    rounds: int = 1,
    decide: Callable[[Messages], file_rendezvous.Message] = collect,
) -> list[file_rendezvous.Message]:
    """Exchange as `rank` once in each round, with its number; return the answers."""
    return [
        file_rendezvous.exchange(str(path), rank, tasks, {"said": [rank, turn]}, decide, limit)
        for turn in range(rounds)
    ]


def in_processes(
    path: Path, ranks: Sequence[int], tasks: int, **more: Any
) -> list["Future[list[file_rendezvous.Message]]"]:
    with ProcessPoolExecutor(len(ranks), multiprocessing.get_context("fork")) as pool:
        return [pool.submit(exchange, path, rank, tasks, **more) for rank in ranks]


def collected(tasks: int, turn: int = 0) -> file_rendezvous.Message:
    return {"messages": [{"said": [rank, turn]} for rank in range(tasks)]}


def put(path: Path, rank: int, message: file_rendezvous.Message) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    file_rendezvous._RankFiles(str(path)).write(rank, message)


def test_all_ranks_get_the_messages_of_all_and_no_file_is_left(tmp_path: Path) -> None:
    answers = [future.result() for future in in_processes(tmp_path / "x", range(8), 8)]
    assert answers == [[collected(8)]] * 8
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_step_may_exchange_any_number_of_times(tmp_path: Path) -> None:
    answers = [future.result() for future in in_processes(tmp_path / "x", range(4), 4, rounds=30)]
    assert answers == [[collected(4, turn) for turn in range(30)]] * 4
    assert os.listdir(tmp_path) == []


def test_one_task_needs_no_folder(tmp_path: Path) -> None:
    assert exchange(tmp_path / "x", 0, 1) == [collected(1)]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("answered", [False, True])
def test_files_of_an_earlier_step_are_ignored(tmp_path: Path, answered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_rendezvous, "_READERS_SECONDS", 0.2)
    path = tmp_path / "x"
    answers = {"answer": {"messages": "old"}, "nonces": {"1": "a", "2": "b"}} if answered else {}
    put(path, 0, {"leader_nonce": "old", **answers})
    put(path, 1, {"nonce": "a", "leader_nonce": "old", "message": {"said": "old"}})
    put(path, 2, {"nonce": "b", "leader_nonce": "old", "message": {"said": "old"}})
    assert [future.result() for future in in_processes(path, range(3), 3)] == [[collected(3)]] * 3
    assert os.listdir(tmp_path) == []


def test_an_answer_stays_until_all_have_read_it(tmp_path: Path) -> None:
    """Rank 0 starts another exchange while rank 1 has not yet read the answer of the first."""
    path = tmp_path / "x"
    put(path, 1, {"nonce": "slow", "leader_nonce": "first", "message": {}})
    put(path, 0, {"leader_nonce": "first", "answer": {"for": "slow"}, "nonces": {"1": "slow"}})
    leader = threading.Thread(target=exchange, args=(path, 0, 2, 10.0))
    leader.start()
    time.sleep(0.5)
    rank_files = file_rendezvous._RankFiles(str(path))
    assert rank_files.read(0)["answer"] == {"for": "slow"}
    rank_files.remove([1])
    assert exchange(path, 1, 2) == [collected(2)]
    leader.join(20)
    assert not leader.is_alive()


def test_an_incomplete_file_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, 1, {"message": "a" * 1000})
    rank_files = file_rendezvous._RankFiles(str(tmp_path))
    whole = (tmp_path / "rank-1.json").read_bytes()
    assert rank_files.read(1) == {"message": "a" * 1000}
    for size in (0, 1, 64, 65, 66, len(whole) - 1):
        (tmp_path / "rank-1.json").write_bytes(whole[:size])
        assert rank_files.read(1) == {}
    # a shorter text over a longer one, before it is cut
    other = tmp_path / "other"
    put(other, 1, {"message": "b"})
    short = (other / "rank-1.json").read_bytes()
    (tmp_path / "rank-1.json").write_bytes(short + whole[len(short) :])
    assert rank_files.read(1) == {}
    rank_files.write(1, {"message": "c"})
    assert rank_files.read(1) == {"message": "c"}


def outcomes(
    futures: Sequence["Future[list[file_rendezvous.Message]]"],
) -> tuple[list[Exception], list[file_rendezvous.Message]]:
    errors, answers = [], []
    for future in futures:
        error = future.exception()
        if isinstance(error, Exception):
            errors.append(error)
        else:
            answers += future.result()
    return errors, answers


@pytest.mark.parametrize(
    ("present", "missing"), [((0, 1, 4), ("2", "3")), ((1, 2, 4), ("0", "3")), ((0,), ("1", "2", "3", "4"))]
)
@pytest.mark.slow
def test_one_error_names_the_missing_ranks(tmp_path: Path, present: tuple[int, ...], missing: tuple[str, ...]) -> None:
    errors, answers = outcomes(in_processes(tmp_path / "x", present, 5, limit=1.0))
    (error,) = errors
    assert isinstance(error, RegistrationError)
    assert error.missing == missing
    assert f"{len(present)}/5 tasks met in {tmp_path}/x in 1 s; missing: rank {', '.join(missing)};" in str(error)
    assert answers == [{"failed": 75}] * (len(present) - 1)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_late_leader_is_waited_for(tmp_path: Path) -> None:
    answers: list[list[file_rendezvous.Message]] = []
    follower = threading.Thread(target=lambda: answers.append(exchange(tmp_path / "x", 1, 3, 3.0)))
    follower.start()
    time.sleep(2)
    leader = threading.Thread(target=lambda: answers.append(exchange(tmp_path / "x", 0, 3, 5.0)))
    leader.start()
    # by now the follower alone would have given up
    time.sleep(2)
    answers.append(exchange(tmp_path / "x", 2, 3))
    for thread in (leader, follower):
        thread.join(20)
    assert answers == [[collected(3)]] * 3


def test_an_error_of_the_decision_is_raised_in_rank_0_alone(tmp_path: Path) -> None:
    errors, answers = outcomes(in_processes(tmp_path / "x", range(3), 3, decide=refuse))
    assert [type(error) for error in errors] == [TopologyError]
    assert answers == [{"failed": 65}] * 2
    assert os.listdir(tmp_path) == []


def test_files_are_private(tmp_path: Path) -> None:
    put(tmp_path / "x", 1, {})
    assert (tmp_path / "x" / "rank-1.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(RunError, match="others can change it"):
        exchange(path, 1, 2)
    assert os.listdir(path) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir(mode=0o700)
    (tmp_path / "target").write_text(json.dumps({}))
    (path / "rank-1.json").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        exchange(path, 1, 2)
