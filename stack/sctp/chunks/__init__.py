"""The chunks of SCTP with their parameters and error causes; each module registers what it defines.

A new chunk, parameter or cause is one new module in this package (`registry.py` says how); this file only has to
name it if other rooms use it by name. `parse_chunk` reads every chunk that is registered.
"""

from __future__ import annotations

from stack.core.registry import import_modules
from stack.sctp.chunks.cookie import CookieAckChunk, CookieEchoChunk
from stack.sctp.chunks.data import DataChunk, IDataChunk
from stack.sctp.chunks.error import AbortChunk, ErrorChunk
from stack.sctp.chunks.forward import ForwardTsnChunk, IForwardTsnChunk, Skip
from stack.sctp.chunks.heartbeat import HeartbeatAckChunk, HeartbeatChunk
from stack.sctp.chunks.init import Capabilities, InitAckChunk, InitChunk
from stack.sctp.chunks.reconfig import ReconfigChunk
from stack.sctp.chunks.registry import CHUNK_PARSERS, Chunk
from stack.sctp.chunks.sack import SackChunk
from stack.sctp.chunks.shutdown import ShutdownAckChunk, ShutdownChunk, ShutdownCompleteChunk
from stack.sctp.chunks.unknown import UnknownChunk

import_modules(__name__, __path__)


def parse_chunk(chunk_type: int, flags: int, value: bytes) -> Chunk:
    """Return the chunk of a type, flags and value; raises `ParseError` only."""
    parser = CHUNK_PARSERS.get(chunk_type)
    return parser(flags, value) if parser is not None else UnknownChunk(chunk_type, flags, value)


__all__ = [
    "CHUNK_PARSERS",
    "AbortChunk",
    "Capabilities",
    "Chunk",
    "CookieAckChunk",
    "CookieEchoChunk",
    "DataChunk",
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
