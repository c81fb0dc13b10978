"""multipart/form-data (RFC 7578): the named parts of a body that is whole.

Left out: files, transfer encodings (RFC 7578 §4.7 deprecates them), and parts within parts.
"""

from __future__ import annotations

import re
from email.message import Message

_HEADER = re.compile(rb"content-disposition:([^\r\n]*)", re.IGNORECASE)


def parse_form(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Return the name and the content of each part; raises `ValueError` for what is no form."""
    boundary = _parameters("content-type", content_type).get_boundary()
    if not boundary or len(boundary) > 70:  # RFC 2046 §5.1.1
        raise ValueError("no boundary")
    _preamble, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    if not parts or not parts[-1].startswith(b"--"):
        raise ValueError("the last boundary is missing")
    return [_parse_part(part) for part in parts[:-1]]


def _parse_part(part: bytes) -> tuple[str, bytes]:
    padding, line_end, rest = part.partition(b"\r\n")
    if padding.strip(b" \t") or not line_end:
        raise ValueError("a boundary is not alone on its line")
    head, blank, content = (b"\r\n" + rest).partition(b"\r\n\r\n")
    disposition = _HEADER.search(head)
    if disposition is None or not blank:
        raise ValueError("a part has no Content-Disposition")
    header = _parameters("content-disposition", disposition[1].decode("latin-1"))
    name = header.get_param("name", header="content-disposition")
    if header.get_content_disposition() != "form-data" or not isinstance(name, str):
        raise ValueError("a part has no name")
    return name, content


def _parameters(name: str, value: str) -> Message:
    message = Message()
    message[name] = value.strip()
    return message
