"""The seam for whoever wants to travel inside connectivity checks (DTLS-IN-STUN, draft-hancke-webrtc-sped).

An agent is given at most one `Piggyback`. It hears of every authenticated message before the answer is made, and
may add attributes to every check and every answer. It is a collaborator below the agent, not a way back up: it
must not call the agent, and what it has learned its owner asks it for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stack.core.machine import Instant, Path
from stack.stun import Attribute, Message, MessageClass

MAX_CHECK_SIZE = 1200
"""No check or answer grows beyond this by what is attached, so that it fits every path."""


class Piggyback(Protocol):
    """Rides on checks and answers."""

    def receive(self, message: Message, path: Path, now: Instant) -> None:
        """Look at a message whose MESSAGE-INTEGRITY has been verified; a repeated one is not shown again."""
        ...

    def attach(self, message_class: MessageClass, room: int) -> Sequence[Attribute]:
        """Return attributes for the next message; together, with headers, they take at most `room` bytes."""
        ...


def sign_with(piggyback: Piggyback | None, message: Message, key: bytes) -> bytes:
    """Return the signed message with what `piggyback` attaches; too much is left out altogether."""
    signed = message.sign(key)
    if piggyback is None:
        return signed
    extra = piggyback.attach(message.message_class, MAX_CHECK_SIZE - len(signed))
    if not extra:
        return signed
    loaded = message.with_attributes(*extra).sign(key)
    return loaded if len(loaded) <= MAX_CHECK_SIZE else signed
