"""DTLS, or another protocol, in attributes of checks and responses (draft-hancke-webrtc-sped).

An agent is given at most one `Piggyback`: a session gives it that of `session/dtls_in_stun.py`. It receives every
authenticated message before the response is made, and may add attributes to every check and response. It must not
call the agent; its owner reads from it what it has received.

What a message carried may have an answer that is to travel in the response to it. The piggyback then says that the
agent has to wait, and the agent sends nothing for this message before its owner, within the same input, calls
`release`. The next input does so, too, if the owner has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stack.core.machine import Instant, Path
from stack.stun import Attribute, Message

MAX_CHECK_SIZE = 1200
"""Bytes of a check or response with what is attached, so that it fits every path."""


class Piggyback(Protocol):
    """What an agent calls with messages that arrive, and for attributes of those to be sent."""

    def receive(self, message: Message, path: Path, now: Instant) -> bool:
        """Take a message whose MESSAGE-INTEGRITY has been verified; retransmissions are left out.

        True: the agent waits with what it sends for it until its owner calls `release`.
        """
        ...

    def attach(self, message: Message, max_size: int) -> Sequence[Attribute]:
        """Return attributes for a message to be sent; with headers, they are together at most `max_size` bytes."""
        ...


def sign_with_piggyback(
    piggyback: Piggyback | None, message: Message, key: bytes, max_size: int = MAX_CHECK_SIZE
) -> bytes:
    """Return the signed message with what `piggyback` attaches, or without it if that is more than `max_size`."""
    signed = message.sign(key)
    if piggyback is None:
        return signed
    extra = piggyback.attach(message, max_size - len(signed))
    if not extra:
        return signed
    loaded = message.with_attributes(*extra).sign(key)
    return loaded if len(loaded) <= max_size else signed
