"""Which function takes the chunks of a class: a table that the other modules of this package fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, overload

from stack.core.machine import Instant
from stack.core.registry import add_once
from stack.sctp.chunks import Chunk
from stack.sctp.tcb import TransmissionControlBlock

FirstT = TypeVar("FirstT", bound=Chunk)
SecondT = TypeVar("SecondT", bound=Chunk)
Handler: TypeAlias = Callable[[TransmissionControlBlock, FirstT, Instant], None]

HANDLERS: dict[type[Chunk], Handler[Any]] = {}
"""What takes the chunks of each class in an association that exists; others are out of place."""


@overload
def handles(first: type[FirstT], /) -> Callable[[Handler[FirstT]], Handler[FirstT]]: ...
@overload
def handles(
    first: type[FirstT], second: type[SecondT], /
) -> Callable[[Handler[FirstT | SecondT]], Handler[FirstT | SecondT]]: ...
def handles(*chunks: type[Chunk]) -> Callable[[Handler[Any]], Handler[Any]]:
    """Make a function the one that takes the chunks of one class, or of two."""

    def register(handler: Handler[Any]) -> Handler[Any]:
        for chunk in chunks:
            add_once(HANDLERS, chunk, handler)
        return handler

    return register
