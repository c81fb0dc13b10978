"""How much may be sent to where the peer has not shown that it is: no more than it has sent (RFC 8445 §19.5.1).

Facing a lite agent a caller can write any source address into its checks, nominate it, and have a stranger there
sent the handshake and the program's voice. So bytes to paths that are not proven (`LiteAgent.is_proven`) are
bounded by the bytes that have come: the offer (over TCP, whose handshake shows the address of who sends it),
checks, handshake and media of this session, from wherever. A caller gains nothing by us that it could not send
itself.

RFC 9000 §8 has three times what came on the path, and makes a handshake fit by padding of the first packet. Here a
ClientHello and two checks have some 400 bytes, the flight that answers them 700 to 1,000: once what came on the
*path* would cost an honest client a round trip. With the offer it costs none: it has thousands of bytes, which
hold the flight, another one if the first is lost, and what a program says in the round trip before the client has
proved itself. Whose flight was lost is asked by a check whether it is there; once it answers there is no bound.

A client that moves in a call has sent media as long as the call lasts, and goes on; a check asks whether it is
there. Until it answers, `MAX_AHEAD` bytes may go there beyond those that come, which is a second of sound.
"""

from __future__ import annotations

MAX_AHEAD = 8192
"""Bytes: a second of sound at 50 packets a second and 160 bytes."""


class Allowance:
    """Bytes that have come, and bytes that were sent to unproven paths."""

    __slots__ = ("_came", "_offset", "_sent")

    def __init__(self, credit: int) -> None:
        """`credit`: bytes that have come before the session was."""
        self._offset = credit
        self._came = 0
        self._sent = 0

    def note_came(self, size: int) -> None:
        """Count bytes that have come, besides those that `room` is told of."""
        self._came += size

    def room(self, received: int) -> int:
        """Return how many bytes may be sent to unproven paths; `received` are those of media and DTLS."""
        return max(0, self._offset + self._came + received - self._sent)

    def note_sent(self, size: int) -> None:
        """Count bytes that were sent to an unproven path."""
        self._sent += size

    def limit(self, received: int, most: int = MAX_AHEAD) -> None:
        """Let no more be left than `most`."""
        self._offset -= max(0, self.room(received) - most)
