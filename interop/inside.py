"""What our own ends tell a trial besides what a program sees: what SCTP carries, which SRTP was not authentic and
who said BYE, and the secrets of the handshake.

Under the encryption a tap sees nothing; an end of ours is the only witness. While `watching` is entered, the
sessions that are made by this task, and by what it has started, report to the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from struct import unpack_from
from typing import Any

from interop.evidence import ChannelMessage, ChannelOpened, Evidence, Refused, Side
from interop.tap import Tap
from stack import dtls
from stack.core.machine import Entropy, Instant
from stack.core.srtp_profile import SrtpProfile
from stack.dtls import DtlsEndpoint
from stack.session import SessionParameters, media_plane, session
from stack.session.parameters import make_channels
from stack.srtp import SrtpEngine, SrtpError, SrtpFailure

DATA_CHUNK, I_DATA_CHUNK = 0, 64
SCTP_HEADER = 12
_PPID_AT = {DATA_CHUNK: 12, I_DATA_CHUNK: 16}
_UNFRAGMENTED = 3
DCEP, DATA_CHANNEL_OPEN = 50, 3
BYE = 203
MAX_REFUSED = 5_000
"""Datagrams that are kept of those that were not authentic."""


def user_messages(packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield stream, payload protocol and bytes of each whole user message in an SCTP packet.

    DATA is RFC 9260 §3.3.1, I-DATA RFC 8260 §2.1.
    """
    at = SCTP_HEADER
    while at + 4 <= len(packet):
        kind, flags, length = unpack_from("!BBH", packet, at)
        if length < 4:
            return
        place = _PPID_AT.get(kind)
        if place is not None and flags & 3 == _UNFRAGMENTED and at + place + 4 <= len(packet):
            stream, ppid = unpack_from("!H", packet, at + 8)[0], unpack_from("!I", packet, at + place)[0]
            yield stream, ppid, packet[at + place + 4 : at + length]
        at += length + (-length % 4)


def goodbyes(compound: bytes) -> Iterator[int]:
    """Yield the SSRCs that leave by a compound of RTCP (RFC 3550 §6.6)."""
    at = 0
    while at + 4 <= len(compound):
        count, kind, length = compound[at] & 31, compound[at + 1], 4 * unpack_from("!H", compound, at + 2)[0]
        if kind == BYE:
            for place in range(at + 4, min(at + 4 + 4 * count, at + 4 + length, len(compound) - 3), 4):
                yield unpack_from("!I", compound, place)[0]
        at += 4 + length


@dataclass(frozen=True, slots=True)
class _Watch:
    """Where the sessions of one trial report to."""

    evidence: Evidence
    tap: Tap
    srtp: str
    """The only profile that they know; empty: all."""

    def refuse(self, packet: bytes, error: SrtpError) -> None:
        """Keep what was not authentic."""
        if error.reason is SrtpFailure.AUTHENTICATION and len(self.evidence.refused) < MAX_REFUSED:
            self.evidence.refused.append(Refused(self.tap.now(), packet))


_WATCHED: ContextVar[_Watch | None] = ContextVar("_WATCHED", default=None)


class ReportingSrtp(SrtpEngine):
    """Tells what was not authentic, and who said BYE."""

    __slots__ = ("_watch",)

    def __init__(self, *keys: Any) -> None:
        super().__init__(*keys)
        self._watch = _WATCHED.get()

    def unprotect(self, packet: bytes) -> bytes:
        try:
            return super().unprotect(packet)
        except SrtpError as error:
            if self._watch is not None:
                self._watch.refuse(packet, error)
            raise

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        try:
            plain = super().unprotect_rtcp(packet)
        except SrtpError as error:
            if self._watch is not None:
                self._watch.refuse(packet, error)
            raise
        if self._watch is not None:
            self._watch.evidence.goodbyes.update(goodbyes(plain))
        return plain


def _reporting_channels(parameters: SessionParameters, entropy: Entropy, now: Instant) -> Any:
    """Make channels that tell of each message that comes, and of each channel that they open."""
    made, watch = make_channels(parameters, entropy, now), _WATCHED.get()
    if made is None or watch is None:
        return made
    evidence, tap = watch.evidence, watch.tap
    side: Side = "server" if parameters.local.ice_lite else "client"
    handle, drain = made.handle_datagrams, made.drain_transmits

    def handle_datagrams(batch: Iterable[bytes], now: Instant) -> None:
        batch = list(batch)
        for packet in batch:
            for stream, ppid, data in user_messages(packet):
                evidence.channel_messages.append(ChannelMessage(tap.now(), side, stream, ppid, data[:2_000]))
        handle(batch, now)

    def drain_transmits() -> Sequence[bytes]:
        packets = drain()
        for packet in packets:
            for stream, ppid, data in user_messages(packet):
                if ppid == DCEP and data[:1] == bytes((DATA_CHANNEL_OPEN,)):
                    evidence.channels_opened.append(ChannelOpened(tap.now(), side, stream))
        return packets

    made.handle_datagrams = handle_datagrams  # type: ignore[method-assign]
    made.drain_transmits = drain_transmits  # type: ignore[method-assign]
    return made


def _reporting_endpoint(role: Any, config: dtls.DtlsConfig, entropy: Entropy) -> dtls.DtlsEndpoint:
    """Make an end of DTLS that tells its secrets."""
    watch = _WATCHED.get()
    if watch is not None:
        config = replace(config, key_log=watch.evidence.key_log.append)
        if watch.srtp:
            config = replace(config, srtp_profiles=(SrtpProfile[watch.srtp],))
    return DtlsEndpoint(role, config, entropy)


class _Reporting:
    """What reports stands where the stack looks for it while a trial is under way; `serve` judges several."""

    def __init__(self) -> None:
        self._trials = 0

    def __enter__(self) -> None:
        self._trials += 1
        dtls.DtlsEndpoint = _reporting_endpoint  # type: ignore[assignment, misc]
        session.make_channels = _reporting_channels  # type: ignore[attr-defined]
        media_plane.SrtpEngine = ReportingSrtp  # type: ignore[attr-defined, assignment]

    def __exit__(self, *_: object) -> None:
        self._trials -= 1
        if not self._trials:
            dtls.DtlsEndpoint = DtlsEndpoint  # type: ignore[misc]
            session.make_channels = make_channels  # type: ignore[attr-defined]
            media_plane.SrtpEngine = SrtpEngine  # type: ignore[attr-defined]


_REPORTING = _Reporting()


@contextmanager
def watching(evidence: Evidence, tap: Tap, srtp: str = "") -> Iterator[None]:
    """Have the sessions of this task report; `srtp` is the only profile that they know then."""
    token = _WATCHED.set(_Watch(evidence, tap, srtp))
    try:
        with _REPORTING:
            yield
    finally:
        _WATCHED.reset(token)
