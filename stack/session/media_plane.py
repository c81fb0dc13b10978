"""The media plane: what moves the sound of one connection once ICE and DTLS have done their work.

A session tells it where to send and with which keys, hands it what arrives, and gives it frames that are encoded
ahead of their time; the plane sends each when it is due and answers with what it did. `PythonMediaPlane` runs in
the session's own calls. A plane elsewhere (a thread, a process, another language) implements the same
`MediaPlane` and sends by itself.

- One side at a time owns an SSRC's rollover counter and replay window: the plane, from `install` on.
- `flush` takes back what has not left, so that an interruption is exact to the frame.
- Counters are the plane's own; what it cannot use is counted and dropped (RFC 3711 §3.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from stack.core.counters import Counters, declare, declare_each
from stack.core.machine import Entropy, Instant, Path, Transmit
from stack.core.serial import ExtendedSequenceNumber, ExtendedTimestamp, RtpTimestamp
from stack.rtp import RtpConfig, RtpEvent, RtpStatistics, RtpTransport
from stack.srtp import MasterKey, SrtpEngine, SrtpError, SrtpFailure, SrtpProfile

DROPPED_MEDIA_BEFORE_KEYS = declare(
    "media", "dropped_media_before_keys", "Media datagrams that came before the DTLS handshake had made keys"
)
DROPPED_SRTP = declare_each(
    "media", "dropped_srtp", SrtpFailure, "SRTP and SRTCP datagrams refused (RFC 3711 §3.3): {}"
)
DROPPED_SCHEDULED_FRAME = declare(
    "media", "dropped_scheduled_frame", "Frames that waited for their instant when too many did"
)

MAX_SCHEDULED = 100
"""Frames that wait for their time: two seconds, far more than any sender schedules ahead; the oldest goes."""


class MediaKeys(NamedTuple):
    """What DTLS exported for SRTP (RFC 5764 §4.2)."""

    profile: SrtpProfile
    local: MasterKey
    remote: MasterKey


class ScheduledFrame(NamedTuple):
    """A codec frame that is to leave at an instant; a NamedTuple, as a call makes 50 of them a second.

    `timestamp` is the frame's place on its maker's timeline, in ticks of the RTP clock, without wraps: a jump in
    it is silence. An empty payload is silence that is not sent (DTX), but whose time passes. `number` counts up.
    """

    number: int
    payload: bytes
    ticks: int
    timestamp: ExtendedTimestamp
    due: Instant
    marker: bool = False
    section: int = 0


class FrameSent(NamedTuple):
    """A scheduled frame has left: its number, extended sequence number, RTP timestamp, and when.

    One that was not sent (DTX, hold, DTMF) has the sequence number of the packet before it, and no timestamp;
    `muted` says that there was sound in it.
    """

    number: int
    sequence: ExtendedSequenceNumber
    rtp_timestamp: RtpTimestamp | None
    at: Instant
    section: int = 0
    muted: bool = False


MediaEvent = RtpEvent | FrameSent


class MakePlane(Protocol):
    """What makes the media plane of a session: of values only, so that it may stand in another process."""

    def __call__(
        self, sections: Sequence[RtpConfig], entropy: Entropy, now: Instant, *, wall_clock: float
    ) -> MediaPlane:
        """Return a plane with these media sections; at the instant 0 the wall clock says `wall_clock`."""
        ...


class MediaPlane(Protocol):
    """The contract between a session and what moves its media."""

    @property
    def round_trip_time(self) -> float | None:
        """The latest round trip in seconds, by the peer's reports; None before the first."""
        ...

    @property
    def sources(self) -> Sequence[int]:
        """The peer's SSRCs of which authentic packets have come."""
        ...

    def stats(self, now: Instant) -> Sequence[RtpStatistics]:
        """Return the statistics of each section, in the vocabulary of `getStats`."""
        ...

    def all_counters(self) -> Counters:
        """Return what was dropped and why, by the plane and by RTP."""
        ...

    def install(self, keys: MediaKeys, path: Path) -> None:
        """Begin: protect with these keys, and send on this path."""
        ...

    def move(self, path: Path) -> None:
        """Send on another path from now on."""
        ...

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> int:
        """Take SRTP and SRTCP datagrams that arrived together; return how many were authentic."""
        ...

    def schedule(self, frame: ScheduledFrame, now: Instant) -> bool:
        """Send a frame at its instant, at once if that has come; True if it has. Frames are scheduled in order."""
        ...

    def flush(self, section: int = 0) -> Sequence[ScheduledFrame]:
        """Take back the frames of a section that have not left, in order."""
        ...

    def hold(self, held: bool, section: int = 0) -> None:
        """While a section is held none of its frames are sent, but their time passes."""
        ...

    def send_dtmf(self, digits: str, now: Instant, section: int = 0) -> None:
        """Press keys (0–9 * # A–D); `LocalError` for others, and where they were not negotiated."""
        ...

    def close(self, now: Instant) -> None:
        """Say BYE; nothing is sent or taken afterwards."""
        ...

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        ...

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called; None: never, as for a plane that sends by itself."""
        ...

    def drain_transmits(self) -> Sequence[Transmit]:
        """Every datagram to be sent since the last call, in order."""
        ...

    def drain_events(self) -> Sequence[MediaEvent]:
        """Everything that happened since the last call, in order."""
        ...


class PythonMediaPlane:
    """The plane that runs in the session's own calls: libsrtp below, `RtpTransport` above.

    `wall_clock` is what the wall clock says at the instant 0. Raises `LocalError` as `RtpTransport` does.
    """

    def __init__(
        self, sections: Sequence[RtpConfig], entropy: Entropy, now: Instant, *, wall_clock: float = 0.0
    ) -> None:
        self.counters = Counters()
        """The plane's own, without those of RTP."""
        self._transport = transport = RtpTransport(sections, entropy, now, wall_clock_offset=wall_clock)
        self._held = [False] * len(transport.sections)
        self._srtp: SrtpEngine | None = None
        self._path: Path | None = None
        self._scheduled: deque[ScheduledFrame] = deque()
        self._expected = [0] * len(transport.sections)  # timestamps of the frames that would follow without a gap
        self._sent: list[FrameSent] = []

    @property
    def transport(self) -> RtpTransport:
        """The RTP of the connection, for reading; no part of the contract."""
        return self._transport

    @property
    def round_trip_time(self) -> float | None:
        """The latest round trip in seconds, by the peer's reports."""
        return self._transport.round_trip_time

    @property
    def sources(self) -> Sequence[int]:
        """The peer's SSRCs of which authentic packets have come."""
        return self._transport.sources

    def stats(self, now: Instant) -> Sequence[RtpStatistics]:
        """Return the statistics of each section."""
        return self._transport.stats(now)

    def all_counters(self) -> Counters:
        """Return what was dropped and why, by the plane and by RTP."""
        total = Counters()
        total.merge(self.counters)
        total.merge(self._transport.counters)
        return total

    def install(self, keys: MediaKeys, path: Path) -> None:
        """Begin: protect with these keys, and send on this path."""
        self._srtp = SrtpEngine(keys.profile, keys.local, keys.remote)
        self._path = path

    def move(self, path: Path) -> None:
        """Send on another path from now on."""
        self._path = path

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> int:
        """Take SRTP and SRTCP datagrams that arrived together; return how many were authentic."""
        srtp, transport, authentic = self._srtp, self._transport, 0
        for data in batch:
            if srtp is None:
                self.counters.add(DROPPED_MEDIA_BEFORE_KEYS)
                continue
            try:
                # RFC 5761 §4: with the marker bit, RTCP packet types 192-223 look like payload types 64-95.
                if len(data) > 1 and 192 <= data[1] <= 223:
                    transport.handle_rtcp(srtp.unprotect_rtcp(data), now)
                else:
                    transport.handle_rtp(srtp.unprotect(data), now)
                authentic += 1
            except SrtpError as error:
                self.counters.add(DROPPED_SRTP[error.reason])
        return authentic

    def schedule(self, frame: ScheduledFrame, now: Instant) -> bool:
        """Send a frame at its instant; True if that has come. Those of one section come in their order."""
        scheduled = self._scheduled
        if frame.due <= now and not (scheduled and scheduled[0].due <= frame.due):
            self._send(frame, now)
            return True
        if len(scheduled) >= MAX_SCHEDULED:
            scheduled.popleft()
            self.counters.add(DROPPED_SCHEDULED_FRAME)
        place = len(scheduled)
        while place and scheduled[place - 1].due > frame.due:  # of another section
            place -= 1
        scheduled.insert(place, frame)
        return False

    def flush(self, section: int = 0) -> Sequence[ScheduledFrame]:
        """Take back the frames of a section that have not left, in order."""
        back = [frame for frame in self._scheduled if frame.section == section]
        if back:
            self._scheduled = deque(frame for frame in self._scheduled if frame.section != section)
        return back

    def hold(self, held: bool, section: int = 0) -> None:
        """While a section is held none of its frames are sent, but their time passes."""
        self._held[section] = held

    def send_dtmf(self, digits: str, now: Instant, section: int = 0) -> None:
        """Press keys; `LocalError` as `RtpTransport.send_dtmf` says."""
        self._transport.send_dtmf(digits, now, section=section)

    def close(self, now: Instant) -> None:
        """Say BYE; nothing is sent or taken afterwards."""
        self._scheduled.clear()
        self._transport.close(now)

    def handle_timeout(self, now: Instant) -> None:
        """Send the frames that are due, and do what RTP wants to be done."""
        scheduled = self._scheduled
        while scheduled and scheduled[0].due <= now:
            self._send(scheduled.popleft(), now)
        at = self._transport.poll_timeout()
        if at is not None and at <= now:
            self._transport.handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        at = self._transport.poll_timeout()
        if self._scheduled:
            due = self._scheduled[0].due
            return due if at is None or due < at else at
        return at

    def drain_transmits(self) -> Sequence[Transmit]:
        """Every datagram to be sent since the last call, protected, in order."""
        srtp, path, transport = self._srtp, self._path, self._transport
        if srtp is None or path is None or not (transport.outgoing_rtp or transport.outgoing_rtcp):
            return ()
        transmits: list[Transmit] = []
        if transport.outgoing_rtp:
            for packet in transport.drain_rtp():
                transmits.append(Transmit(srtp.protect(packet), path))
        if transport.outgoing_rtcp:
            for packet in transport.drain_rtcp():
                transmits.append(Transmit(srtp.protect_rtcp(packet), path))
        return transmits

    def drain_events(self) -> Sequence[MediaEvent]:
        """Everything that happened since the last call, in order."""
        if not self._sent:
            return self._transport.drain_events()
        sent, self._sent = self._sent, []
        return (*self._transport.drain_events(), *sent) if self._transport.events else sent

    def _send(self, frame: ScheduledFrame, now: Instant) -> None:
        section = frame.section
        transport = self._transport
        sender = transport.sections[section].sender
        timestamp: RtpTimestamp | None = None
        if frame.payload and not self._held[section]:
            skipped = frame.timestamp - self._expected[section]
            if skipped:
                sender.skip(skipped)
            self._expected[section] = frame.timestamp + frame.ticks
            before = sender.packets_sent
            sequence = transport.send(frame.payload, frame.ticks, now, section=section, marker=frame.marker)
            if sender.packets_sent != before:  # keys that are pressed mute it
                timestamp = sender.last_timestamp
        else:
            sequence = sender.extended_sequence
        muted = timestamp is None and frame.payload != b""
        self._sent.append(FrameSent(frame.number, sequence, timestamp, now, section, muted))


__all__ = [
    "MAX_SCHEDULED",
    "FrameSent",
    "MakePlane",
    "MediaEvent",
    "MediaKeys",
    "MediaPlane",
    "PythonMediaPlane",
    "ScheduledFrame",
]
