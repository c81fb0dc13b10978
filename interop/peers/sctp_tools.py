"""SCTP of other stacks in place of ours: an association around a program that speaks it over UDP on loopback.

The program is told of messages by lines of words (`c_sctp/usrsctp.c` says which). The channel protocol above it
stays ours (RFC 8832), and so does DTLS below.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from interop.c_peers import BUILD, SMALL_PROGRAMS
from stack import sctp
from stack.core.counters import Counters
from stack.core.machine import Entropy, Instant
from stack.core.serial import StreamId
from stack.sctp import channels
from stack.sctp.events import AssociationClosed, AssociationEvent, AssociationUp
from stack.sctp.reset import IncomingReset, OutgoingReset
from stack.sctp.state import AssociationState

PROGRAMS = {"pion-sctp": BUILD / "pion_sctp", "usrsctp": SMALL_PROGRAMS["usrsctp"].program}
POLL = 0.002
"""Seconds between two looks at the program's socket."""
STREAMS = 65_535
WRITE_SIZE = 65_536


class ToolAssociation:
    """An association that a program speaks; the face of `Association`, as data channels use it."""

    tool = ""

    def __init__(self, _config: sctp.SctpConfig, _entropy: Entropy) -> None:
        self.state = AssociationState.CLOSED
        self.counters = Counters()
        self._events: list[AssociationEvent] = []
        self._transmits: list[bytes] = []
        self._early: list[bytes] = []
        self._waiting = bytearray()
        """Orders that the program has not taken so far."""
        self._said = b""
        self._now: Instant = 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._address: tuple[str, int] | None = None
        self._tool: subprocess.Popen[bytes] | None = None

    # -- what data channels ask of an association ----------------------------------------------------------

    def start(self, now: Instant) -> None:
        """Begin the handshake."""
        self._now = now
        self.state = AssociationState.COOKIE_WAIT
        argv = [str(PROGRAMS[self.tool]), f"127.0.0.1:{self._socket.getsockname()[1]}"]
        self._tool = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._tool.stdout is not None
        assert self._tool.stdin is not None
        for stream in (
            self._tool.stdin,
            self._tool.stdout,
        ):  # if either waited for the other, so would the program
            os.set_blocking(stream.fileno(), False)

    def send(
        self, stream_id: StreamId, ppid: int, data: bytes, now: Instant, *, unordered: bool = False, **_: Any
    ) -> None:
        """Send a message; the program knows no partial reliability."""
        self._tell(f"m {stream_id} {int(ppid)} {int(unordered)} {data.hex()}", now)

    def reset_stream(self, stream_id: StreamId, now: Instant) -> None:
        """Reset a stream of ours."""
        self._tell(f"r {stream_id}", now)
        self._events.append(OutgoingReset((stream_id,)))

    def conclude_reset(self, _stream_id: StreamId, _now: Instant) -> tuple[StreamId, ...]:
        """There is none under way: the program keeps that to itself."""
        return ()

    def discard_queued(self, _stream_id: StreamId, _now: Instant) -> None:
        """Nothing waits here."""

    def set_priority(self, _stream_id: StreamId, _priority: int) -> None:
        """The program knows none."""

    def set_low_threshold(self, _stream_id: StreamId, _threshold: int) -> None:
        """The program does not say what waits in it."""

    def set_unread(self, _size: int, _now: Instant) -> None:
        """The program has a window of its own."""

    def buffered_amount(self, _stream_id: StreamId | None = None) -> int:
        """Bytes that wait here: none, the program takes all."""
        return 0

    def drain_low(self) -> list[StreamId]:
        """See `set_low_threshold`."""
        return []

    def shutdown(self, now: Instant) -> None:
        """End: the session closes DTLS right after."""
        self.abort(now)

    def abort(self, _now: Instant, _reason: str = "") -> None:
        """End at once."""
        if self._tool is not None:
            self._tool.kill()
            self._tool.wait()
        self.state = AssociationState.ENDED

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Hand packets of the peer to the program."""
        self._early += batch
        self.handle_timeout(now)

    def handle_timeout(self, now: Instant) -> None:
        """Look what the program sends and says."""
        self._now = now
        if self._tool is None or self.state is AssociationState.ENDED:
            return
        with suppress(BlockingIOError):
            while True:
                data, self._address = self._socket.recvfrom(65_536)
                self._transmits.append(data)
        if self._address is not None:
            for packet in self._early:
                with suppress(OSError):
                    self._socket.sendto(packet, self._address)
            self._early = []
        assert self._tool.stdout is not None
        *lines, self._said = (self._said + (self._tool.stdout.read() or b"")).split(b"\n")
        for line in lines:
            self._note(*line.decode().split())
        if self.state is AssociationState.ESTABLISHED:
            self._flush()

    def poll_timeout(self) -> Instant | None:
        """Look again soon: a tunnel has no socket of its own to wait for."""
        return self._now + POLL if self.state not in (AssociationState.CLOSED, AssociationState.ENDED) else None

    def drain_transmits(self) -> Sequence[bytes]:
        """What the program sent."""
        made, self._transmits = self._transmits, []
        return made

    def drain_events(self) -> Sequence[AssociationEvent]:
        """What happened."""
        events, self._events = self._events, []
        return events

    # -- the program ---------------------------------------------------------------------------------------

    def _tell(self, order: str, now: Instant) -> None:
        self._now = now
        self._waiting += order.encode() + b"\n"
        if self.state is AssociationState.ESTABLISHED:
            self._flush()

    def _flush(self) -> None:
        assert self._tool is not None
        assert self._tool.stdin is not None
        with suppress(BlockingIOError, BrokenPipeError):
            while self._waiting:
                taken = os.write(self._tool.stdin.fileno(), self._waiting[:WRITE_SIZE])
                del self._waiting[:taken]

    def _note(self, what: str, *words: str) -> None:
        if what == "up":
            self.state = AssociationState.ESTABLISHED
            self._flush()
            self._events.append(AssociationUp(STREAMS))
        elif what == "closed":
            self.state = AssociationState.ENDED
            self._events.append(AssociationClosed(" ".join(words), by_peer=True))
        elif what == "r":
            self._events.append(IncomingReset((StreamId(int(words[0])),)))
        elif what == "m":
            data = bytes.fromhex(words[2]) if len(words) > 2 else b""
            self._events.append(sctp.UserMessage(StreamId(int(words[0])), int(words[1]), data))


def replace_sctp(tool: str) -> None:
    """Have the sessions of this process speak SCTP through a tool, which shows no INIT for the SDP."""
    ToolAssociation.tool = tool
    channels.Association = ToolAssociation  # type: ignore[assignment, misc]
    sctp.make_local_init = lambda *_: None  # type: ignore[assignment, misc]
