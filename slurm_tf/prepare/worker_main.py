"""The program of a WorkerProcess: `worker_main.py FD` calls the functions that come, and sends what they return."""

import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection

from slurm_tf.errors import SlurmTfError


def main() -> None:
    """Answer calls until the other end of the connection is closed."""
    with Connection(int(sys.argv[1])) as connection:
        threading.Thread(target=_end_with_caller, args=(connection.fileno(),), daemon=True).start()
        while True:
            function, arguments, named = connection.recv()
            try:
                answer = function(*arguments, **named)
            except SlurmTfError as error:
                answer = error
            connection.send(answer)


def _end_with_caller(connection: int) -> None:
    """End this process when the one that started it has ended, also by SIGKILL: nobody would read its answers."""
    poll = select.poll()
    poll.register(connection, 0)  # that the other end is closed is always told
    poll.poll()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
