"""What of a program's output reaches the job's output, and its own log: lines, and bars that are drawn over."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_tf.launch.agent import child
from slurm_tf.launch.agent.child import Log, Output


class Stream:
    """A program's stream, whose sink is a pipe; `now` is the time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, drops_notes: bool = False) -> None:
        self.now = 100.0
        monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=lambda: self.now))
        reader, self.program = os.pipe()
        self.passed_on, sink = os.pipe()
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 18)
        self.log = folder / "worker-0.log"
        self.output = Output(os.fdopen(reader, "rb"), sink, Log(str(self.log)), b"[w] ", drops_notes)
        os.set_blocking(self.passed_on, False)

    def write(self, data: bytes) -> list[bytes]:
        """Have the program write; return the lines that are passed on."""
        os.write(self.program, data)
        self.output.pump()
        return self.read()

    def end(self) -> list[bytes]:
        os.close(self.program)
        self.output.finish()
        return self.read()

    def read(self) -> list[bytes]:
        try:
            lines = os.read(self.passed_on, 1 << 20).splitlines(keepends=True)
        except BlockingIOError:
            return []
        assert all(line.startswith(b"[w] ") and line.endswith(b"\n") for line in lines)
        return [line[4:-1] for line in lines]


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stream:
    return Stream(tmp_path, monkeypatch)


def test_lines_come_as_they_are_and_the_log_has_every_byte(stream: Stream) -> None:
    assert stream.write(b"one\n\n  two \nthr") == [b"one", b"", b"  two "]
    assert stream.write(b"ee\r") == []
    assert stream.write(b"\nfour\r\n\r\nfi") == [b"three", b"four", b""]
    assert stream.end() == [b"fi"]
    assert stream.log.read_bytes() == b"one\n\n  two \nthree\r\nfour\r\n\r\nfi"


def keras_bar(step: int) -> bytes:
    """Return what Keras (3.15) writes for a step: it wipes out the former one and goes back to its start."""
    return b"\b" * 60 * (step > 1) + b"\r" + b"\x1b[1m%d/9\x1b[0m \x1b[37m----\x1b[0m loss: 0.%d" % (step, step)


def tqdm_bar(step: int) -> bytes:
    return b"\r%3d%%|###      | %d/9 [00:00<00:09]" % (step * 11, step)


def returned(step: int) -> bytes:
    """Return what a print writes whose end is a carriage return."""
    return b"step %d/9\r" % step


def rewritten(step: int) -> bytes:
    return b"\b\b\b\b\b\b\b\b" * (step > 1) + b"step %d/9" % step


@pytest.mark.parametrize("bar", [keras_bar, tqdm_bar, returned, rewritten])
def test_a_bar_moves_at_a_limited_rate_and_its_end_comes(bar: Callable[[int], bytes], stream: Stream) -> None:
    lines: list[bytes] = []
    for step in range(1, 9):
        stream.now += 1.0
        new = stream.write(bar(step))
        assert len(new) <= 1
        lines += new
    lines += stream.write(bar(9) + b"\n")
    steps = [int(line.partition(b"/9")[0][-1:]) for line in lines]
    assert steps[-1] == 9
    assert len(steps) == 3, steps  # the first, one five seconds later, the last
    assert steps == sorted(set(steps))
    assert stream.log.read_bytes().count(b"/9") == 9


def test_many_steps_in_one_piece_are_one_line_and_a_bar_without_an_end_is_shown(stream: Stream) -> None:
    assert stream.write(b"".join(map(tqdm_bar, range(1, 8)))) == [tqdm_bar(6)[1:]]
    assert stream.write(tqdm_bar(8)) == []
    assert stream.end() == [tqdm_bar(8)[1:]]


def test_a_bar_that_is_wiped_out_leaves_what_it_was(stream: Stream) -> None:
    assert stream.write(b"\r 9/9" + b"\r     \r\n") == [b" 9/9"]
    assert stream.write(b"\r   \r\n") == [b""]


def test_two_bars_and_a_line_between(stream: Stream) -> None:
    first = b"Epoch 1/2\n" + b"".join(map(keras_bar, (1, 2, 9))) + b"\n"
    found = stream.write(first + b"Epoch 2/2\n")
    assert [line for line in found if line.startswith(b"Epoch")] == [b"Epoch 1/2", b"Epoch 2/2"]
    assert found[1:3] == [keras_bar(2)[61:], keras_bar(9)[61:]]


def test_a_line_that_is_too_long_is_passed_on_in_pieces(stream: Stream) -> None:
    stream.write(b"x" * 40_000)
    assert stream.write(b"x" * 40_000) == [b"x" * 80_000]


def test_a_disk_that_is_full_costs_the_log_and_not_the_program(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Log("/dev/full")
    monkeypatch.setattr(stream.output, "_log", full)
    assert stream.write(b"one\ntwo\n") == [b"one", b"two"]
    full.close()
    assert full.problem == "cannot write /dev/full: No space left on device"


def test_when_a_traceback_began_is_known_even_if_it_comes_in_pieces(stream: Stream) -> None:
    stream.write(b"Traceback (most rec")
    assert stream.output.failed_at is None
    stream.now = 107.0
    stream.write(b"ent call last):\n")
    stream.now = 109.0
    stream.write(b"KeyError: 1\n" + b"x" * 40_000)
    stream.write(b"y" * 40_000)
    assert stream.output.failed_at == 107.0
    assert len(stream.output.last) == 1 << 16


def test_notes_of_another_task_than_the_lead_are_in_its_log_alone(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = (Path(__file__).parent / "start_notes.txt").read_bytes()
    assert stream.write(printed) == printed.splitlines()
    (tmp_path / "other").mkdir()
    other = Stream(tmp_path / "other", monkeypatch, drops_notes=True)
    notes, _, rest = printed.partition(b"\n\n")
    assert other.write(notes + b"\n") == []
    assert other.write(rest) == rest.splitlines()
    assert other.log.read_bytes() == notes + b"\n" + rest
