"""Two `RtpTransport`s and the network between them, in virtual time."""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from stack.rtp import PacketReceived, RtpCodec, RtpConfig, RtpEvent, RtpTransport
from stack.srtp import SrtpError, SrtpTransform
from tests.sim.arrivals import Arrivals

FRAME = 960
OPUS = RtpCodec(111, "opus", 48000)
CONFIG = RtpConfig(ssrc=0x1111, cname="near", codecs=(OPUS,), reduced_size=True)


@dataclass
class Network:
    """What happens to a datagram on its way: seconds of delay for each copy that arrives."""

    delay: float = 0.05
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    damage: float = 0.0
    drop: Callable[[bytes], bool] = lambda data: False

    def touch(self, data: bytes) -> bytes:
        """Return what becomes of the content of a datagram."""
        if not self.damage or self.chance.random() >= self.damage:
            return data
        damaged = bytearray(data)
        for _ in range(self.chance.randint(1, 4)):
            damaged[self.chance.randrange(len(damaged))] = self.chance.randrange(256)
        return bytes(damaged[: self.chance.randint(1, 2 * len(damaged))])

    def deliveries(self, data: bytes) -> list[float]:
        if self.drop(data) or self.chance.random() < self.loss:
            return []
        copies = 2 if self.chance.random() < self.duplication else 1
        return [self.delay + self.chance.uniform(0, self.jitter) for _ in range(copies)]


class Party:
    """One side: its session and what it heard."""

    def __init__(self, config: RtpConfig, seed: int, network: Network, srtp: SrtpTransform | None) -> None:
        self.transport = RtpTransport((config,), random.Random(seed).randbytes, 0.0)
        self.network = network
        self.srtp = srtp
        self.refused: Counter[str] = Counter()
        self.events: list[RtpEvent] = []
        self.rtp_sent: list[bytes] = []
        self.rtcp_sent: list[tuple[float, bytes]] = []

    def protect(self, data: bytes, rtcp: bool) -> bytes:
        if self.srtp is None:
            return data
        return self.srtp.protect_rtcp(data) if rtcp else self.srtp.protect(data)

    def receive(self, data: bytes, rtcp: bool, now: float) -> None:
        if self.srtp is not None:
            try:
                data = self.srtp.unprotect_rtcp(data) if rtcp else self.srtp.unprotect(data)
            except SrtpError as error:
                self.refused[error.reason.value] += 1
                return
        if rtcp:
            self.transport.handle_rtcp(data, now)
        else:
            self.transport.handle_rtp(data, now)

    @property
    def heard(self) -> list[PacketReceived]:
        return [event for event in self.events if isinstance(event, PacketReceived)]


class Pair:
    """Two parties; `run` lets virtual time pass while a `near.speak`-like callback feeds frames."""

    def __init__(
        self,
        near: RtpConfig = CONFIG,
        far: RtpConfig | None = None,
        up: Network | None = None,
        down: Network | None = None,
        srtp: tuple[SrtpTransform, SrtpTransform] | None = None,
    ) -> None:
        far = far or replace(near, ssrc=0x2222, cname="far", rtx_ssrc=0x2223 if near.rtx_ssrc else None)
        self.near = Party(near, 1, up or Network(), srtp[0] if srtp else None)
        self.far = Party(far, 2, down or Network(), srtp[1] if srtp else None)
        self.now = 0.0
        self._order = count()
        self._arrivals = Arrivals("rtp")
        self._flying: list[tuple[float, int, Party, bool, bytes]] = []

    def pump(self) -> None:
        for party, other in ((self.near, self.far), (self.far, self.near)):
            for rtcp, packets in ((False, party.transport.drain_rtp()), (True, party.transport.drain_rtcp())):
                for data in packets:
                    if rtcp:
                        party.rtcp_sent.append((self.now, data))
                    else:
                        party.rtp_sent.append(data)
                    wire = party.protect(data, rtcp)
                    for delay in party.network.deliveries(data):
                        datagram = party.network.touch(wire)
                        at = self._arrivals.reading(id(other), self.now + delay)
                        heapq.heappush(self._flying, (at, next(self._order), other, rtcp, datagram))
            party.events += party.transport.drain_events()

    def _next(self) -> float | None:
        times = [self._flying[0][0]] if self._flying else []
        times += [at for party in (self.near, self.far) if (at := party.transport.poll_timeout()) is not None]
        return min(times, default=None)

    def run(self, until: float) -> None:
        self.pump()
        while (at := self._next()) is not None and at <= until:
            self.now = max(self.now, at)
            while self._flying and self._flying[0][0] <= self.now:
                for _, _, party, rtcp, data in self._arrivals.pop(self._flying, lambda entry: id(entry[2])):
                    party.receive(data, rtcp, self.now)
                self.pump()
            for party in (self.near, self.far):
                party.transport.handle_timeout(self.now)
            self.pump()
        self.now = until

    def talk(self, frames: int, near: bool = True, far: bool = False, first: int = 0) -> None:
        """Send numbered frames every 20 ms, and let time pass as they go."""
        for number in range(first, first + frames):
            payload = number.to_bytes(4, "big")
            if near:
                self.near.transport.send(payload, FRAME, self.now)
            if far:
                self.far.transport.send(payload, FRAME, self.now)
            self.run(self.now + 0.02)


def numbers(heard: list[PacketReceived]) -> list[int]:
    return [int.from_bytes(packet.payload, "big") for packet in heard]
