"""Two `RtpTransport`s, with or without SRTP, and the network between them.

`RtpTransport` keeps RTP and RTCP apart and knows no encryption, so it is put into a machine that does what a
session does: it protects what leaves and tells apart what comes (RFC 5761 §4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from interop.network_model import NetworkModel
from stack.core.machine import Instant, Path, Transmit
from stack.rtp import PacketReceived, RtpCodec, RtpConfig, RtpEvent, RtpTransport
from stack.srtp import SrtpError, SrtpTransform
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.network import Host
from tests.sim.pair import LEFT, RIGHT, MachinePair, unordered

FRAME = 960
OPUS = RtpCodec(111, "opus", 48000)
CONFIG = RtpConfig(ssrc=0x1111, cname="near", codecs=(OPUS,), reduced_size=True)


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP (RFC 5761 §4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


class RtpMachine:
    """An RTP transport as a machine whose datagrams all take one path."""

    terminal_events = ()

    def __init__(self, config: RtpConfig, seed: int, path: Path, srtp: SrtpTransform | None) -> None:
        self.transport = RtpTransport((config,), entropy(seed), START)
        self.refused: Counter[str] = Counter()
        self._path = path
        self._srtp = srtp

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Unprotect datagrams and hand them on."""
        for data, _ in batch:
            rtcp = is_rtcp(data)
            try:
                data = self._unprotect(data, rtcp)
            except SrtpError as error:
                self.refused[error.reason.value] += 1
                continue
            if rtcp:
                self.transport.handle_rtcp(data, now)
            else:
                self.transport.handle_rtp(data, now)

    def handle_timeout(self, now: Instant) -> None:
        """Hand the time on."""
        self.transport.handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        """Return when the transport wants to be woken."""
        return self.transport.poll_timeout()

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return what the transport wants to send, protected, along the path."""
        rtp = [self._protect(data, False) for data in self.transport.drain_rtp()]
        rtcp = [self._protect(data, True) for data in self.transport.drain_rtcp()]
        return [Transmit(data, self._path) for data in rtp + rtcp]

    def drain_events(self) -> Sequence[RtpEvent]:
        """Return what the transport reports."""
        return self.transport.drain_events()

    def _protect(self, data: bytes, rtcp: bool) -> bytes:
        if self._srtp is None:
            return data
        return self._srtp.protect_rtcp(data) if rtcp else self._srtp.protect(data)

    def _unprotect(self, data: bytes, rtcp: bool) -> bytes:
        if self._srtp is None:
            return data
        return self._srtp.unprotect_rtcp(data) if rtcp else self._srtp.unprotect(data)


class Party:
    """One side: its transport, what it reported and what it sent (readable without SRTP)."""

    def __init__(self, host: Host[RtpMachine]) -> None:
        self.host = host
        self.transport = host.machine.transport
        self.refused = host.machine.refused
        self.events: list[RtpEvent] = host.events

    @property
    def heard(self) -> list[PacketReceived]:
        return self.host.seen(PacketReceived)

    @property
    def rtp_sent(self) -> list[bytes]:
        return [sent.data for sent in self.host.sent if not is_rtcp(sent.data)]

    @property
    def rtcp_sent(self) -> list[tuple[Instant, bytes]]:
        return [(sent.at, sent.data) for sent in self.host.sent if is_rtcp(sent.data)]


class RtpPair(MachinePair[RtpMachine, RtpMachine]):
    """Two parties, `near` (`left`) and `far` (`right`); `talk` has them send frames."""

    def __init__(
        self,
        near: RtpConfig = CONFIG,
        far: RtpConfig | None = None,
        up: NetworkModel | None = None,
        down: NetworkModel | None = None,
        *,
        seed: int = 1,
        srtp: tuple[SrtpTransform, SrtpTransform] | None = None,
    ) -> None:
        far = far or replace(near, ssrc=0x2222, cname="far", rtx_ssrc=0x2223 if near.rtx_ssrc else None)
        ours, theirs = srtp or (None, None)
        machines: Any = (
            RtpMachine(near, 1, Path(LEFT, RIGHT), ours),
            RtpMachine(far, 2, Path(RIGHT, LEFT), theirs),
        )
        super().__init__(*machines, up or unordered(0.05), down or unordered(0.05), seed=seed)
        self.near, self.far = Party(self.left), Party(self.right)

    def talk(self, frames: int, near: bool = True, far: bool = False, first: int = 0) -> None:
        """Send numbered frames every 20 ms, and let time pass as they go."""
        for number in range(first, first + frames):
            payload = number.to_bytes(4, "big")
            if near:
                self.near.transport.send(payload, FRAME, self.now)
            if far:
                self.far.transport.send(payload, FRAME, self.now)
            self.run(0.02)


def numbers(heard: list[PacketReceived]) -> list[int]:
    """Return the numbers that `talk` gave the frames."""
    return [int.from_bytes(packet.payload, "big") for packet in heard]
