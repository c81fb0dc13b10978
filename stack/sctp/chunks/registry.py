"""How a wire object becomes known: by a decorator with its number, where it is defined.

`stack.sctp.chunks` imports every module of its package, so a new file there is all that a new chunk needs, and the
same holds for a parameter (`register_init_parameter` in `init.py`, `register_reconfig_parameter` in `reconfig.py`)
and an error cause (`register_cause` in `causes.py`). Numbers: https://www.iana.org/assignments/sctp-parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

from stack.core.registry import add_once


class Chunk(Protocol):
    """A chunk, known or not."""

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        ...


class ParsableChunk(Chunk, Protocol):
    """A chunk that its own class reads."""

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's flags and value (RFC 9260 §3.2); raises `ParseError` only."""
        ...


ChunkT = TypeVar("ChunkT", bound=ParsableChunk)
CHUNK_PARSERS: dict[int, Callable[[int, bytes], Chunk]] = {}
"""What reads the flags and the value of each chunk type."""


def register_chunk(chunk_type: int) -> Callable[[type[ChunkT]], type[ChunkT]]:
    """Make a class the one that reads the chunks of a type."""

    def register(cls: type[ChunkT]) -> type[ChunkT]:
        parse: Callable[[int, bytes], Chunk] = cls.parse
        add_once(CHUNK_PARSERS, chunk_type, parse)
        return cls

    return register
