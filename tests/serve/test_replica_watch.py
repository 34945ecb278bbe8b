"""Which replicas live: those whose files change, whatever their clocks say."""

import os
import time
from pathlib import Path

import pytest

from slurm_tf.errors import ModelError
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import STALE_SECONDS, Endpoint, ModelStatus, VersionState, VersionStatus
from slurm_tf.serve.replica_watch import ReplicaWatch


def replica(name: str, written: float, started: float = 1.0) -> Endpoint:
    models = (ModelStatus("digits", 1, (VersionStatus(1, VersionState.AVAILABLE),)),)
    return Endpoint(name, "7", "127.0.0.1", 1, 2, "", "", False, models, started, written, None)


class Watched:
    """A folder of endpoints, looked at by a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = str(folder), 100.0
        folder.chmod(0o700)
        self.watch = ReplicaWatch(self.folder, lambda: self.now)

    def write(self, name: str, written: float) -> None:
        endpoint.write(self.folder, replica(name, written))

    def living(self) -> list[str]:
        self.now += 1.0
        return [each.replica for each in self.watch.living()]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_replica_lives_while_it_renews_its_file(watched: Watched) -> None:
    assert watched.living() == []
    watched.write("a", time.time())
    assert watched.living() == ["a"]
    watched.now += STALE_SECONDS
    assert watched.living() == []
    assert [each.replica for each in watched.watch.gone()] == ["a"]
    assert watched.watch.gone() == ()
    watched.write("a", time.time() + 1)
    assert watched.living() == ["a"]
    endpoint.remove(watched.folder, "a")  # it ends, and has answered all: nobody has to ask again
    assert watched.living() == []
    assert watched.watch.gone() == ()


def test_a_clock_that_is_wrong_counts_only_until_the_file_changes(watched: Watched) -> None:
    watched.write("late", time.time() - 3600)
    watched.write("early", time.time() + 3600)
    assert watched.living() == []  # they may be what a killed replica left
    watched.write("late", time.time() - 3598)
    watched.write("early", time.time() + 3602)
    assert sorted(watched.living()) == ["early", "late"]


def test_one_that_cannot_be_reached_gets_no_request_for_a_while(watched: Watched) -> None:
    watched.write("a", time.time())
    watched.write("b", time.time())
    (first, second) = watched.watch.living()
    watched.watch.lost(first)
    assert watched.watch.usable() == (second,)
    watched.now += 5.0
    assert watched.watch.usable() == (first, second)


def test_a_folder_that_others_can_change_is_refused(watched: Watched) -> None:
    os.chmod(watched.folder, 0o777)
    with pytest.raises(ModelError, match="others can change it"):
        watched.living()
