"""Asking for what is missing, and answering when asked: generic NACK (RFC 4585 §6.2.1), both ends.

The receiver asks again after a round trip, and no more once an answer could not arrive in time. The sender
keeps what it sent for a while and does not repeat a packet twice within a round trip, because both requests
may be about one loss.
"""

from __future__ import annotations

from stack.core.machine import Instant
from stack.core.serial import ExtendedSequenceNumber, SequenceNumber
from stack.rtp.packet import RtpPacket

MAX_MISSING = 128
"""Missing packets that are asked for at a time; of a longer gap, the newest."""
MAX_TRIES = 4
HOLD_OFF = 0.01
"""Seconds to wait before asking: the packet may only have been overtaken."""
REPAIR_DEADLINE = 0.5
"""Seconds after which a missing packet is of no use to a conversation any more."""
ASSUMED_ROUND_TRIP = 0.1
"""Seconds, as long as nothing was measured."""
ANSWER_MARGIN = 0.02
"""Seconds that an answer may take beyond the round trip."""

MAX_HISTORY = 128
"""Sent packets that can be repeated, and …"""
MAX_HISTORY_AGE = 1.0
"""… for how many seconds."""
MAX_REPEATS = 4
"""How often one packet is repeated, whatever the peer asks."""


class _Missing:
    __slots__ = ("ask_at", "noticed_at", "tries")

    def __init__(self, now: Instant) -> None:
        self.noticed_at = now
        self.ask_at = now + HOLD_OFF
        self.tries = 0


class NackGenerator:
    """What the receiver misses, by extended sequence number."""

    __slots__ = ("_missing", "_next", "requests")

    def __init__(self) -> None:
        self._missing: dict[ExtendedSequenceNumber, _Missing] = {}
        self._next: Instant | None = None
        self.requests = 0

    def __len__(self) -> int:
        return len(self._missing)

    def note_missing(self, first: ExtendedSequenceNumber, end: ExtendedSequenceNumber, now: Instant) -> None:
        """Remember that the packets from `first` up to, not including, `end` have not come."""
        for sequence in range(max(first, end - MAX_MISSING), end):
            self._missing[sequence] = _Missing(now)
        while len(self._missing) > MAX_MISSING:
            del self._missing[min(self._missing)]
        self._reschedule()

    def note_received(self, sequence: ExtendedSequenceNumber) -> bool:
        """Strike a packet off the list; return True if it had been asked for."""
        missing = self._missing.pop(sequence, None)
        if missing is None:
            return False
        self._reschedule()
        return missing.tries > 0

    def reset(self) -> None:
        """Forget everything: another line begins."""
        self._missing.clear()
        self._next = None

    def due(self, now: Instant, round_trip: float | None) -> list[ExtendedSequenceNumber]:
        """Return what to ask for now, in order; give up what could not arrive in time."""
        trip = ASSUMED_ROUND_TRIP if round_trip is None else round_trip
        asked: list[ExtendedSequenceNumber] = []
        for sequence, missing in list(self._missing.items()):
            if missing.ask_at > now:
                continue
            if missing.tries >= MAX_TRIES or now + trip > missing.noticed_at + REPAIR_DEADLINE:
                del self._missing[sequence]
                continue
            missing.tries += 1
            missing.ask_at = now + trip + ANSWER_MARGIN
            asked.append(sequence)
        self.requests += len(asked)
        self._reschedule()
        return sorted(asked)

    def poll_timeout(self) -> Instant | None:
        """When `due` will have something to do; None: never."""
        return self._next

    def _reschedule(self) -> None:
        self._next = min((missing.ask_at for missing in self._missing.values()), default=None)


class _Sent:
    __slots__ = ("packet", "repeated_at", "repeats", "sent_at")

    def __init__(self, packet: RtpPacket, now: Instant) -> None:
        self.packet = packet
        self.sent_at = now
        self.repeated_at: Instant | None = None
        self.repeats = 0


class SendHistory:
    """What was sent lately, by sequence number."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: dict[SequenceNumber, _Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def remember(self, packet: RtpPacket, now: Instant) -> None:
        """Keep a packet, which must not be changed afterwards, and forget those past the bounds."""
        sent = self._sent
        sent[packet.sequence_number] = _Sent(packet, now)
        oldest = next(iter(sent))
        while len(sent) > MAX_HISTORY or sent[oldest].sent_at < now - MAX_HISTORY_AGE:
            del sent[oldest]
            oldest = next(iter(sent))

    def answer(self, sequence_number: SequenceNumber, now: Instant, round_trip: float | None) -> RtpPacket | None:
        """Return the packet to repeat; None if it is gone, was repeated within a round trip, or too often."""
        sent = self._sent.get(sequence_number)
        if sent is None or sent.sent_at < now - MAX_HISTORY_AGE or sent.repeats >= MAX_REPEATS:
            return None
        trip = ANSWER_MARGIN if round_trip is None else round_trip
        if sent.repeated_at is not None and now - sent.repeated_at < trip:
            return None
        sent.repeated_at = now
        sent.repeats += 1
        return sent.packet
