"""Reads parts of a data set in a thread, in large pieces, before they are asked for."""

import queue
import threading
from typing import Dict, Hashable, Iterable, Optional, Tuple

from slurm_tf.errors import StorageError
from slurm_tf.train.data.record_files import RecordFiles

_Ranges = Iterable[Tuple[int, int]]


class ReadAhead:
    """Reads ranges of records into the page cache, one after another. The thread ends with the process."""

    def __init__(self, files: RecordFiles) -> None:
        self._files = files
        self._queue: queue.SimpleQueue[Tuple[_Ranges, threading.Event]] = queue.SimpleQueue()
        self._asked: Dict[Hashable, threading.Event] = {}
        self._error: Optional[StorageError] = None
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
        self._queue.put((ranges, done))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)
            self._thread.start()

    def wait(self, key: Hashable) -> None:
        """Wait until what was asked for under `key` is read. Raises StorageError if reading has failed."""
        self._asked[key].wait()
        if self._error:
            raise self._error

    def _run(self) -> None:
        while True:
            ranges, done = self._queue.get()
            try:
                for first, end in ranges:
                    self._files.read_ahead(first, end)
            except StorageError as error:
                self._error = error
            done.set()
