"""Built, not negotiated by any session: retransmission on an SSRC and payload type of its own (RFC 4588 §4).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                           RTP header                          |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|              OSN              |                               |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
|                  original RTP packet payload                  |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

OSN is the sequence number of the original packet. A stream of its own keeps retransmissions out of the statistics
of the original one, and gives every packet a nonce of its own under SRTP.
"""

from __future__ import annotations

from stack.core.errors import ParseError
from stack.core.machine import Entropy
from stack.core.serial import SERIAL16, SequenceNumber, Ssrc
from stack.rtp.packet import RtpPacket

_OSN_LENGTH = 2


class RtxSender:
    """Wraps packets for retransmission."""

    __slots__ = ("_next_sequence", "_payload_types", "_ssrc")

    def __init__(self, ssrc: Ssrc, payload_types: tuple[tuple[int, int], ...], entropy: Entropy) -> None:
        self._ssrc = ssrc
        self._payload_types = {original: repeat for repeat, original in payload_types}
        self._next_sequence = SequenceNumber(int.from_bytes(entropy(2), "big") & 0x7FFF)

    def wrap(self, original: RtpPacket, profile: int | None, extension: bytes) -> RtpPacket | None:
        """Return `original` as a retransmission with a header extension of its own; None without a type for it."""
        payload_type = self._payload_types.get(original.payload_type)
        if payload_type is None:
            return None
        packet = RtpPacket(
            payload_type,
            self._next_sequence,
            original.timestamp,  # RFC 4588 §4: the timestamp and marker are those of the original
            self._ssrc,
            original.sequence_number.to_bytes(_OSN_LENGTH, "big") + original.payload,
            original.marker,
            extension_profile=profile,
            extension_data=extension,
        )
        self._next_sequence = SequenceNumber(SERIAL16.add(self._next_sequence, 1))
        return packet


def unwrap(packet: RtpPacket, payload_type: int, ssrc: Ssrc) -> RtpPacket:
    """Return the original of a retransmission, as `ssrc` sent it; raise `ParseError` if it has no OSN."""
    if len(packet.payload) < _OSN_LENGTH:
        raise ParseError("RTX: no original sequence number")
    return RtpPacket(
        payload_type,
        SequenceNumber(int.from_bytes(packet.payload[:_OSN_LENGTH], "big")),
        packet.timestamp,
        ssrc,
        packet.payload[_OSN_LENGTH:],
        packet.marker,
    )
