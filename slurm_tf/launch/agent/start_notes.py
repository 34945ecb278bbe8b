"""Tells the notes that TensorFlow prints while it starts from what says that something is wrong.

Every task prints the same ones: those of the lead are enough for the output of the job. Errors and warnings are no
notes, but for a few that are printed on every machine with GPUs (TensorFlow 2.15 to 2.21).
"""

import re

# As TensorFlow's C++ code writes a line: with a date up to 2.17, as absl does since. I: information.
_STAMP = rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: (?P<old>[IWEF]) |(?P<new>[IWEF])\d{4} \d\d:\d\d:[\d.]+ +\d+ )"
_LINE = re.compile(_STAMP + rb"[\w./+-]+:\d+\] (?P<text>.*)")
_HARMLESS = re.compile(
    rb"Unable to register cu(?:FFT|DNN|BLAS) factory: |computation placer already registered|TF-TRT Warning: "
)
_OTHERS = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|To enable the following instructions: .* rebuild TensorFlow with the appropriate compiler flags\."
)


def is_note(line: bytes) -> bool:
    """Return whether `line` is a note of TensorFlow's that every task prints."""
    found = _LINE.match(line)
    if found is None:
        return bool(_OTHERS.match(line))
    return b"I" in (found["old"], found["new"]) or bool(_HARMLESS.match(found["text"]))
