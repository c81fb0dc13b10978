"""DTLS in STUN: handshake datagrams inside connectivity checks, to save a round trip (draft-hancke-webrtc-sped).

The `Piggyback` of a session's ICE agent. What DTLS wants to send before there is a path travels in the checks;
what arrives in an authenticated check is handed to DTLS as if it had come by itself. Each side acknowledges the
datagrams that it has, by their CRC-32, however they came.

- A peer that attaches neither attribute to its first authenticated message does not speak it: from then on nothing
  is attached, and DTLS goes its plain way.
- Once there is a path, what has been in no message goes out by itself, and so does every later flight: checks are
  too rare to wait for. It stays in the messages all the same until it is acknowledged, against loss.
- It is over when DTLS is connected; then nothing is attached any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from zlib import crc32

from stack.core.counters import Counters, declare
from stack.core.machine import Instant, Path
from stack.ice.piggyback import MAX_CHECK_SIZE
from stack.stun import Attribute, DtlsInStun, DtlsInStunAcknowledgement, Message, MessageClass

DTLS_IN_STUN = declare("session", "dtls_in_stun", "DTLS datagrams that came inside of STUN messages")
DROPPED_DTLS_IN_STUN = declare(
    "session", "dropped_dtls_in_stun", "Attributes of DTLS in STUN that hold no DTLS datagram (RFC 7983 §7)"
)

MAX_ACKNOWLEDGEMENTS = 4
"""Datagrams acknowledged in one message: the latest."""
MAX_PENDING = 16
"""Datagrams of a flight that are put into checks; more than any flight has."""
MAX_ARRIVED = 16
"""Datagrams kept between two pumps."""
_ATTRIBUTE_HEADER = 4


class DtlsCarrier:
    """A `Piggyback`: what is to be attached to STUN messages, and what came attached to them."""

    def __init__(self, counters: Counters, wanted: bool = True) -> None:
        self.peer_supports: bool | None = None if wanted else False
        """None: nothing authenticated has come from the peer yet. Not `wanted`: taken for False from the start."""
        self._counters = counters
        self._pending: deque[bytes] = deque(maxlen=MAX_PENDING)
        self._attached: set[bytes] = set()  # of what is pending: it has been in a message
        self._received: deque[int] = deque(maxlen=MAX_ACKNOWLEDGEMENTS)
        self._arrived: deque[bytes] = deque(maxlen=MAX_ARRIVED)
        self._is_over = False
        self.room = MAX_CHECK_SIZE
        """Bytes that may be put into a response (`allowance.py`)."""

    # What the session says and asks

    def set_pending(self, flight: Sequence[bytes]) -> None:
        """Put a flight of ours into messages, in turn, until it is acknowledged or another takes its place."""
        if not self._is_over:
            self._pending.clear()
            self._attached.clear()
            self._pending.extend(flight)

    def note_received(self, data: bytes) -> None:
        """A DTLS datagram came by itself: it is acknowledged, too."""
        if self.is_active:
            self._received.append(crc32(data))

    def take_arrived(self) -> Sequence[bytes]:
        """Return the DTLS datagrams that came inside of STUN since the last call."""
        if not self._arrived:
            return ()
        arrived = tuple(self._arrived)
        self._arrived.clear()
        return arrived

    @property
    def undelivered(self) -> Sequence[bytes]:
        """What of the flight has to go out by itself: all of it if the peer does not speak this, else what has
        been in no message.
        """
        return tuple(each for each in self._pending if not self.peer_supports or each not in self._attached)

    @property
    def is_active(self) -> bool:
        """True until DTLS is connected, or the peer turns out not to speak it."""
        return not self._is_over and self.peer_supports is not False

    def end(self) -> None:
        """DTLS is connected, or is over: nothing is attached or taken any more."""
        self._is_over = True
        self._pending.clear()
        self._attached.clear()

    # What the ICE agent calls

    def receive(self, message: Message, path: Path, now: Instant) -> None:
        """Take a message whose MESSAGE-INTEGRITY has been verified."""
        data, acknowledgement = message.get(DtlsInStun), message.get(DtlsInStunAcknowledgement)
        if self.peer_supports is None:
            self.peer_supports = data is not None or acknowledgement is not None
        if not self.is_active:
            return
        if acknowledgement is not None:
            values = acknowledgement.value
            known = {int.from_bytes(values[at : at + 4], "big") for at in range(0, len(values) - 3, 4)}
            for datagram in [each for each in self._pending if crc32(each) in known]:
                self._pending.remove(datagram)
        if data is not None and data.value:  # an empty one says that the peer speaks it
            if 20 <= data.value[0] <= 63:
                self._counters.add(DTLS_IN_STUN)
                self._received.append(crc32(data.value))
                self._arrived.append(data.value)
            else:
                self._counters.add(DROPPED_DTLS_IN_STUN)

    def attach(self, message_class: MessageClass, max_size: int) -> Sequence[Attribute]:
        """Return the acknowledgement, and one datagram of the flight if one fits."""
        if not self.is_active:
            return ()
        acknowledged = b"".join(value.to_bytes(4, "big") for value in self._received)
        attributes: list[Attribute] = [DtlsInStunAcknowledgement(acknowledged)]
        if message_class is not MessageClass.REQUEST:
            max_size = min(max_size, self.room)
        room = max_size - 2 * _ATTRIBUTE_HEADER - len(acknowledged)
        for _ in range(len(self._pending)):
            datagram = self._pending[0]
            self._pending.rotate(-1)
            if len(datagram) + -len(datagram) % 4 <= room:
                attributes.append(DtlsInStun(datagram))
                self._attached.add(datagram)
                break
        else:
            if message_class is MessageClass.REQUEST:
                attributes.append(DtlsInStun(b""))
        return attributes


__all__ = ["DTLS_IN_STUN", "DtlsCarrier"]
