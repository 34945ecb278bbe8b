"""Parses the fields and files of a form that a browser sends as multipart/form-data (RFC 7578)."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

_LONGEST_BOUNDARY, _LONGEST_HEAD = 70, 4096
_END, _LINE = b"--", b"\r\n"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was uploaded, and the name that it has for its user."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class MultipartForm:
    """The fields of a form, each with its last value, and its files; one that was not chosen is left out."""

    fields: Mapping[str, str]
    files: Mapping[str, Upload]


def parse(content_type: str, body: bytes | bytearray, most_parts: int) -> MultipartForm:
    """Return what a body has. Raises ValueError for one that is none, or has more parts."""
    delimiter = _END + _boundary(content_type)
    if not body.startswith(delimiter):
        raise ValueError("it does not begin with its boundary")
    # a delimiter begins with the end of a line (RFC 2046, 5.1.1), so that it cannot stand in a line of a file
    *parts, end = body[len(delimiter) :].split(_LINE + delimiter, most_parts + 1)
    if not end.startswith(_END) or len(parts) > most_parts:
        raise ValueError("it has no end, or too many parts")
    fields: dict[str, str] = {}
    files: dict[str, Upload] = {}
    for part in parts:
        name, file, content = _part(part)
        if file is None:
            fields[name] = content.decode()
        elif file or content:
            files[name] = Upload(file, content)
    return MultipartForm(fields, files)


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["content-type"] = content_type
    boundary = (header.get_boundary() or "").encode("ascii")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise ValueError("it has no boundary")
    return boundary


def _part(part: bytes | bytearray) -> tuple[str, str | None, bytes]:
    """Return the name of a part, the name of its file, None for a field, and its content."""
    at = part.find(_LINE * 2, 0, _LONGEST_HEAD)
    if at < 0 or not part.startswith(_LINE):
        raise ValueError("a part has no head")
    headers = HeaderParser().parsestr(part[len(_LINE) : at].decode("utf-8", "replace") + "\r\n\r\n")
    name = headers.get_param("name", header="content-disposition")
    if headers.get_content_disposition() != "form-data" or not isinstance(name, str):
        raise ValueError("a part is no field")
    file = headers.get_param("filename", header="content-disposition")
    return name, file if isinstance(file, str) else None, bytes(part[at + len(_LINE * 2) :])
