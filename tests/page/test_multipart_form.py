"""Forms with files: what a browser sends comes out byte for byte, and what is no form is an error."""

import random

import pytest

from slurm_tf.page import multipart_form
from slurm_tf.page.multipart_form import Upload
from tests.page.running_page import BOUNDARY, multipart

KIND = f"multipart/form-data; boundary={BOUNDARY}"
HOSTILE = (
    b"", b"\r\n", b"\n", b"\r", b"--", b"\r\n--", f"x--{BOUNDARY}".encode(), f"\n--{BOUNDARY}--\r\n".encode(),
    b"\r\n\r\n", b"\x00\xff\xfe", b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x", bytes(range(256)) * 3,
)  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE)
def test_a_file_comes_out_byte_for_byte(content: bytes) -> None:
    form = multipart_form.parse(KIND, multipart({"do": "file", "empty": ""}, "ä b.png", content), 10)
    assert form.fields == {"do": "file", "empty": ""}
    assert form.files == {"file": Upload("ä b.png", content)}


def test_any_bytes_come_out() -> None:
    chosen = random.Random(7)
    for _ in range(300):
        content = bytes(chosen.choice(b"\r\n-a\0\xff") for _ in range(chosen.randrange(60)))
        assert multipart_form.parse(KIND, multipart({}, "x", content), 10).files["file"].content == content


def test_a_file_that_was_not_chosen_is_none() -> None:
    assert multipart_form.parse(KIND, multipart({}, "", b""), 10).files == {}


def test_the_last_of_fields_with_one_name_counts() -> None:
    body = multipart({"a": "1"}, "x", b"").replace(b"\r\n--" + BOUNDARY.encode() + b"--", b"", 1)
    assert multipart_form.parse(KIND, multipart({"a": "ü\r\n2"}, "x", b"1"), 10).fields == {"a": "ü\r\n2"}
    with pytest.raises(ValueError, match="no end"):
        multipart_form.parse(KIND, body, 10)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", multipart({}, "x", b"1")),
        ("multipart/form-data; boundary=", multipart({}, "x", b"1")),
        (f"multipart/form-data; boundary={'a' * 71}", b"--" + b"a" * 71 + b"--"),
        ("multipart/form-data; boundary=ä", multipart({}, "x", b"1")),
        (KIND, b""),
        (KIND, b"x" + multipart({}, "x", b"1")),
        (KIND, multipart({}, "x", b"1")[:-8]),
        (KIND, multipart({str(n): "" for n in range(10)}, "x", b"1")),
        (KIND, multipart({"a": "1"}, "x", b"1").replace(b"form-data; ", b"attachment; ")),
        (KIND, multipart({"a": "1"}, "x", b"1").replace(b' name="a"', b"")),
        (KIND, multipart({"a" * 5000: "1"}, "x", b"1")),
        (KIND, multipart({"a": "1"}, "x", b"1").replace(b"\r\n\r\n1\r\n", b"\r\n1\r\n", 1)),
        (KIND, multipart({"a": "@"}, "x", b"1").replace(b"@", b"\xff")),
    ],
)
def test_what_is_no_form_is_an_error(kind: str, body: bytes) -> None:
    with pytest.raises(ValueError):
        multipart_form.parse(kind, body, 10)
