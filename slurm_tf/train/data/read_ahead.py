"""Reads parts of a data set in a thread, in large pieces, before they are asked for."""

import queue
import threading
import weakref
from typing import Dict, Hashable, Iterable, List, Optional, Tuple

from slurm_tf.errors import StorageError
from slurm_tf.train.data.record_files import RecordFiles

_Ranges = Iterable[Tuple[int, int]]
# What is read next, and what is set then; None: nobody asks any more.
_Asked = Optional[Tuple[RecordFiles, _Ranges, threading.Event]]


class ReadAhead:
    """Reads ranges of records into the page cache, one after another. The thread ends with this object."""

    def __init__(self, files: RecordFiles) -> None:
        self._files = files
        self._queue: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._asked: Dict[Hashable, threading.Event] = {}
        self._errors: List[StorageError] = []
        self._thread: Optional[threading.Thread] = None

    def ask(self, key: Hashable, ranges: _Ranges, keep: int = 3) -> None:
        """Have ranges of records, from the first one to before the last one, read after those asked for before.

        Nothing is done for a key that is among the last `keep` ones that were asked for.
        """
        if key in self._asked:
            return
        done = self._asked[key] = threading.Event()
        for old in list(self._asked)[:-keep]:
            del self._asked[old]
        self._queue.put((self._files, ranges, done))
        if self._thread is None:
            self._thread = threading.Thread(
                target=_read, args=(self._queue, self._errors), name="read ahead", daemon=True
            )
            self._thread.start()
            weakref.finalize(self, self._queue.put, None)

    def wait(self, key: Hashable) -> None:
        """Wait until what was asked for under `key` is read. Raises StorageError if reading has failed."""
        self._asked[key].wait()
        if self._errors:
            raise self._errors[0]


def _read(asked: "queue.SimpleQueue[_Asked]", errors: List[StorageError]) -> None:
    """Read what is asked for; between two ranges the thread holds no files, which would stay open and mapped."""
    while _read_one(asked.get(), errors):
        pass


def _read_one(asked: _Asked, errors: List[StorageError]) -> bool:
    """Return whether there was something to read."""
    if asked is None:
        return False
    files, ranges, done = asked
    try:
        for first, end in ranges:
            files.read_ahead(first, end)
    except StorageError as error:
        errors.append(error)
    done.set()
    return True
