"""What goes over the pipe between the server and its models: a JSON object and bytes.

     0               4               8
    +---------------+---------------+-- - -+-- - -+
    | length of JSON| length of body| JSON | body |
    +---------------+---------------+-- - -+-- - -+

Both ends are ours and of the same version, so nothing is negotiated, and a frame that does not parse is a bug.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any, NamedTuple

_LENGTHS = struct.Struct("!II")


class PipeFrame(NamedTuple):
    """One message; `head` says what it is."""

    head: dict[str, Any]
    body: bytes = b""


def write_frame(pipe: IO[bytes], frame: PipeFrame) -> None:
    """Write one frame and flush; raises `OSError` if the other end is gone."""
    head = json.dumps(frame.head).encode()
    pipe.write(_LENGTHS.pack(len(head), len(frame.body)) + head + frame.body)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> PipeFrame | None:
    """Read one frame; None if the other end is gone."""
    lengths = pipe.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head_length, body_length = _LENGTHS.unpack(lengths)
    data = pipe.read(head_length + body_length)
    if len(data) < head_length + body_length:
        return None
    return PipeFrame(json.loads(data[:head_length]), data[head_length:])
