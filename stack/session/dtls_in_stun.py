"""DTLS in STUN: handshake datagrams inside connectivity checks, to save a round trip (draft-hancke-webrtc-sped).

The `Piggyback` of a session's ICE agent. What DTLS wants to send before there is a path travels in the checks;
what arrives in an authenticated check is handed to DTLS as if it had come by itself. Each side acknowledges the
datagrams that it has, by their CRC-32, however they came.

- A peer that attaches neither attribute to its first authenticated message does not speak it: from then on nothing
  is attached, and DTLS goes its plain way.
- What a check has brought is answered by DTLS before ICE responds (`receive` has the agent wait), so that the
  first part of our flight is in the response itself.
- Once there is a path, what has been in no message goes out by itself, and so does every later flight: checks are
  too rare to wait for. It stays in the messages all the same until it is acknowledged, against loss: by its
  CRC-32, or by the success response to the check that held it.
- As long as DTLS is at work a message without data has an empty attribute: a peer whose own handshake is complete
  takes acknowledgements alone for the end, and gives up what it has not yet sent of its last flight (libwebrtc).
- It is over when DTLS is connected; then nothing is attached any more. The side whose flight is the last one (the
  client in DTLS 1.3, the server in 1.2) goes on until this is acknowledged, or the peer's messages show that it
  has finished: they have neither attribute, or an acknowledgement alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from zlib import crc32

from stack.core.counters import Counters, declare
from stack.core.machine import Instant, Path
from stack.ice.piggyback import MAX_CHECK_SIZE
from stack.stun import (
    Attribute,
    DtlsInStun,
    DtlsInStunAcknowledgement,
    GoogNetworkInfo,
    Message,
    MessageClass,
    TransactionId,
)

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
MAX_DATAGRAM = 900
"""Bytes of a datagram of the handshake, where the peer speaks this: it fits a response beside all else (libwebrtc
has the same)."""
MAX_CHECKS = 16
"""Checks of ours of which is known what they hold: the latest."""
_ATTRIBUTE_HEADER = 4


class DtlsCarrier:
    """A `Piggyback`: what is to be attached to STUN messages, and what came attached to them."""

    def __init__(self, counters: Counters, wanted: bool = True) -> None:
        self.peer_supports: bool | None = None if wanted else False
        """None: nothing authenticated has come from the peer yet. Not `wanted`: taken for False from the start."""
        self._counters = counters
        self._pending: deque[bytes] = deque(maxlen=MAX_PENDING)
        self._sent: set[bytes] = set()  # of the flight: it has been in a message, or gone by itself
        self._in_responses: set[bytes] = set()  # of the flight: it has been in a response
        self._in_checks: OrderedDict[TransactionId, bytes] = OrderedDict()
        self._received: deque[int] = deque(maxlen=MAX_ACKNOWLEDGEMENTS)
        self._arrived: deque[bytes] = deque(maxlen=MAX_ARRIVED)
        self.is_ending = False
        """True if DTLS is connected and its last flight, which is ours, not acknowledged yet."""
        self._is_over = False
        self.is_libwebrtc = False
        """True if the peer's checks show so: it then loses its last flight to what comes close behind ours."""
        self.room = MAX_CHECK_SIZE
        """Bytes that may be put into a response (`allowance.py`)."""

    # What the session says and asks

    def set_pending(self, flight: Sequence[bytes]) -> None:
        """Put a flight of ours into messages, in turn, until it is acknowledged or another takes its place."""
        if not self._is_over:
            self._forget_flight()
            self._pending.extend(flight)

    def note_received(self, data: bytes) -> None:
        """A DTLS datagram came by itself: it is acknowledged, too."""
        if self.is_active:
            self._acknowledge(data)

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
        return tuple(each for each in self._pending if not self.peer_supports or each not in self._sent)

    def note_sent(self, flight: Iterable[bytes]) -> None:
        """Datagrams of the flight have gone by themselves."""
        self._sent.update(each for each in flight if each in self._pending)

    def is_delivered(self, datagram: bytes) -> bool:
        """Return True if a datagram of the flight has been in a response, and need not go by itself."""
        return datagram in self._in_responses

    @property
    def is_active(self) -> bool:
        """True until DTLS is connected, or the peer turns out not to speak it."""
        return not self._is_over and self.peer_supports is not False

    def complete(self, *, ours_is_last: bool) -> None:
        """DTLS is connected: it is over, unless ours was the last flight, and is not acknowledged."""
        self.is_ending = ours_is_last and self.is_active
        self._end_if_acknowledged()
        if not self.is_ending:
            self.end()

    def end(self) -> None:
        """Nothing is attached or taken any more."""
        self._is_over, self.is_ending = True, False
        self._forget_flight()

    def _end_if_acknowledged(self) -> None:
        if self.is_ending and not self._pending:
            self.end()

    def _forget_flight(self) -> None:
        self._pending.clear()
        self._sent.clear()
        self._in_responses.clear()
        self._in_checks.clear()

    def _acknowledge(self, data: bytes) -> None:
        """Acknowledge a datagram from now on, once."""
        received = crc32(data)
        if received not in self._received:
            self._received.append(received)

    # What the ICE agent calls

    def receive(self, message: Message, path: Path, now: Instant) -> bool:
        """Take a message whose MESSAGE-INTEGRITY has been verified; True if DTLS has something to answer."""
        data, acknowledgement = message.get(DtlsInStun), message.get(DtlsInStunAcknowledgement)
        if self.peer_supports is None:
            self.peer_supports = data is not None or acknowledgement is not None
            self.is_libwebrtc = self.peer_supports and message.get(GoogNetworkInfo) is not None
        if not self.is_active:
            return False
        if acknowledgement is not None:
            values = acknowledgement.value
            known = {int.from_bytes(values[at : at + 4], "big") for at in range(0, len(values) - 3, 4)}
            for datagram in [each for each in self._pending if crc32(each) in known]:
                self._pending.remove(datagram)
        if message.message_class is MessageClass.SUCCESS_RESPONSE:
            held = self._in_checks.pop(message.transaction_id, None)
            if held is not None and held in self._pending:
                self._pending.remove(held)
        if self.is_ending and data is None:
            self.end()  # the peer has finished
            return False
        self._end_if_acknowledged()
        if data is None or not data.value or self._is_over:  # an empty one says that the peer speaks it
            return False
        if not 20 <= data.value[0] <= 63:
            self._counters.add(DROPPED_DTLS_IN_STUN)
            return False
        self._counters.add(DTLS_IN_STUN)
        self._acknowledge(data.value)
        self._arrived.append(data.value)
        return True

    def attach(self, message: Message, max_size: int) -> Sequence[Attribute]:
        """Return the acknowledgement and one datagram of the flight, or none of it if none fits.

        The first time they go in their order, in messages or by themselves: what overtakes a ServerHello is lost.
        """
        if not self.is_active:
            return ()
        acknowledged = b"".join(value.to_bytes(4, "big") for value in self._received)
        attributes: list[Attribute] = [DtlsInStunAcknowledgement(acknowledged)]
        if message.message_class is not MessageClass.REQUEST:
            max_size = min(max_size, self.room)
        room = max_size - 2 * _ATTRIBUTE_HEADER - len(acknowledged)
        following = next((each for each in self._pending if each not in self._sent), None)
        for _ in range(len(self._pending)):
            datagram = self._pending[0]
            self._pending.rotate(-1)
            if datagram not in self._sent and datagram != following:
                continue
            if len(datagram) + -len(datagram) % 4 <= room:
                attributes.append(DtlsInStun(datagram))
                self._note_attached(datagram, message)
                break
        else:
            attributes.append(DtlsInStun(b""))
        return attributes

    def _note_attached(self, datagram: bytes, message: Message) -> None:
        self._sent.add(datagram)
        if message.message_class is not MessageClass.REQUEST:
            self._in_responses.add(datagram)
            return
        self._in_checks[message.transaction_id] = datagram
        if len(self._in_checks) > MAX_CHECKS:
            self._in_checks.popitem(last=False)


__all__ = ["DTLS_IN_STUN", "DtlsCarrier"]
