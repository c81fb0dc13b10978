"""The chunks of SCTP, one wire object to a short section; `parse_chunk` knows them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from stack.sctp.chunks.control import (
    CookieAckChunk,
    CookieEchoChunk,
    HeartbeatAckChunk,
    HeartbeatChunk,
    ShutdownAckChunk,
    ShutdownChunk,
    ShutdownCompleteChunk,
    UnknownChunk,
)
from stack.sctp.chunks.data import DataChunk, IDataChunk
from stack.sctp.chunks.errors import AbortChunk, Cause, ErrorCause, ErrorChunk
from stack.sctp.chunks.forward import ForwardTsnChunk, IForwardTsnChunk, Skip
from stack.sctp.chunks.init import Capabilities, InitAckChunk, InitChunk
from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.chunks.reconfig import ReconfigChunk
from stack.sctp.chunks.sack import SackChunk

Chunk: TypeAlias = (
    DataChunk
    | IDataChunk
    | SackChunk
    | InitChunk
    | InitAckChunk
    | HeartbeatChunk
    | HeartbeatAckChunk
    | AbortChunk
    | ErrorChunk
    | ShutdownChunk
    | ShutdownAckChunk
    | ShutdownCompleteChunk
    | CookieEchoChunk
    | CookieAckChunk
    | ReconfigChunk
    | ForwardTsnChunk
    | IForwardTsnChunk
    | UnknownChunk
)

_PARSERS: dict[ChunkType, Callable[[int, bytes], Chunk]] = {
    ChunkType.DATA: DataChunk.parse,
    ChunkType.INIT: InitChunk.parse,
    ChunkType.INIT_ACK: InitAckChunk.parse,
    ChunkType.SACK: SackChunk.parse,
    ChunkType.HEARTBEAT: HeartbeatChunk.parse,
    ChunkType.HEARTBEAT_ACK: HeartbeatAckChunk.parse,
    ChunkType.ABORT: AbortChunk.parse,
    ChunkType.SHUTDOWN: ShutdownChunk.parse,
    ChunkType.SHUTDOWN_ACK: ShutdownAckChunk.parse,
    ChunkType.ERROR: ErrorChunk.parse,
    ChunkType.COOKIE_ECHO: CookieEchoChunk.parse,
    ChunkType.COOKIE_ACK: CookieAckChunk.parse,
    ChunkType.SHUTDOWN_COMPLETE: ShutdownCompleteChunk.parse,
    ChunkType.I_DATA: IDataChunk.parse,
    ChunkType.RE_CONFIG: ReconfigChunk.parse,
    ChunkType.FORWARD_TSN: ForwardTsnChunk.parse,
    ChunkType.I_FORWARD_TSN: IForwardTsnChunk.parse,
}
CHUNK_PARSERS = {int(kind): parse for kind, parse in _PARSERS.items()}
"""What reads the flags and the value of each chunk type; each raises `ParseError` only."""


def parse_chunk(kind: int, flags: int, value: bytes) -> Chunk:
    """Return the chunk of a type, flags and value; raises `ParseError` only."""
    parser = CHUNK_PARSERS.get(kind)
    return parser(flags, value) if parser is not None else UnknownChunk(kind, flags, value)


__all__ = [
    "CHUNK_PARSERS",
    "AbortChunk",
    "Capabilities",
    "Cause",
    "Chunk",
    "ChunkType",
    "CookieAckChunk",
    "CookieEchoChunk",
    "DataChunk",
    "ErrorCause",
    "ErrorChunk",
    "ForwardTsnChunk",
    "HeartbeatAckChunk",
    "HeartbeatChunk",
    "IDataChunk",
    "IForwardTsnChunk",
    "InitAckChunk",
    "InitChunk",
    "ReconfigChunk",
    "SackChunk",
    "ShutdownAckChunk",
    "ShutdownChunk",
    "ShutdownCompleteChunk",
    "Skip",
    "UnknownChunk",
    "parse_chunk",
]
