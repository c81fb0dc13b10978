"""Congestion control of data channels: bad networks, short queues, and what it leaves to others on the same link.

Ours beside the window of RFC 9260 §7.2 as it stands (a packet more in a round trip, half after a loss), which is
our sender that is told to see a queue always. All of it in virtual time: the same seed gives the same figures on
any machine. `docs/decisions/0005-backing-off-by-the-queue.md` says what they are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench._data_ends import OurEnd
from bench._virtual import Lane, Link, VirtualLoop
from bench.data import MESSAGE, _feed, _in_virtual_time
from bench.report import Options, Table
from interop.network_model import Jitter, NetworkModel, RateLimit
from stack.sctp.tx.congestion import CongestionWindow

NETWORKS = ((0.02, 0.05, 0.0), (0.05, 0.1, 0.0), (0.05, 0.1, 0.01), (0.1, 0.1, 0.0))
"""Loss each way, round trip and jitter each way, in seconds."""
QUEUES = (0.005, 0.01, 0.02, 0.05, 0.2)
RATE = 1_250_000
"""Bytes per second of the link that is shared, whose round trip is 50 ms."""
VOICE_INTERVAL, VOICE_PACKET = 0.02, bytes(120)


class StandardWindow(CongestionWindow):
    """RFC 9260 §7.2's, for comparison."""

    __slots__ = ()

    def acknowledged(self, size: int, flight_before: int, latest_sent_at: float, queue_detected: bool) -> None:
        super().acknowledged(size, flight_before, latest_sent_at, True)

    def lost(self, sent_at: float, now: float, queue_detected: bool) -> bool:
        return super().lost(sent_at, now, True)


class Flow:
    """A transfer without an end from one end to another."""

    def __init__(self, loop: VirtualLoop, out: Any, back: Any, seed: int, standard: bool) -> None:
        self.received = 0
        self._a = OurEnd(loop, out, back, True, seed, peer_max_message_size=262_144)
        self._b = OurEnd(loop, back, out, False, seed + 1, peer_max_message_size=262_144)
        self._b.on_message = self._count
        if standard:
            window = self._a.channels._association._tcb.sender.congestion
            self._a.channels._association._tcb.sender.congestion = StandardWindow(window.pmdcs)

    def _count(self, channel: Any, data: str | bytes) -> None:
        self.received += len(data)

    async def start(self) -> None:
        await self._a.start()
        await asyncio.sleep(2)
        _feed(self._a, self._a.open("bulk"), 1 << 30)

    async def measure(self, seconds: float) -> float:
        """Return MB/s over so many seconds."""
        before = self.received
        await asyncio.sleep(seconds)
        return (self.received - before) / 1e6 / seconds


def run(options: Options) -> Sequence[Table]:
    """Return two tables; about a minute and a half at scale 1."""
    return [_bad_networks(options), _queues(options)]


async def _alone(
    loop: VirtualLoop, network: tuple[float, float, float], seed: int, standard: bool, seconds: float
) -> float:
    """Return the MB/s of one transfer."""
    loss, rtt, jitter = network
    model = NetworkModel(loss=loss, delay=rtt / 2, jitter=Jitter(jitter))
    there, back = (Link(loop, seed + way, model) for way in (0, 1))
    flow = Flow(loop, there, back, seed, standard)
    await flow.start()
    return await flow.measure(seconds)


def _bad_networks(options: Options) -> Table:
    seconds = max(10.0, 40 * options.scale)
    rows = []
    for network in NETWORKS:
        figures = []
        for standard in (True, False):
            rates = [
                _in_virtual_time(
                    lambda loop, network=network, seed=seed, standard=standard: _alone(
                        loop, network, seed, standard, seconds
                    )
                )
                for seed in range(options.seed, options.seed + 5)
            ]
            figures += [median(rates), min(rates)]
        loss, rtt, jitter = network
        rows.append((f"{loss:.0%}", rtt * 1e3, jitter * 1e3, *figures))
    return Table(
        f"one transfer for {seconds:.0f} s in messages of {len(MESSAGE) >> 10} KiB, MB/s",
        ("loss each way", "round trip ms", "jitter ms", "RFC 9260", "worst", "ours", "worst"),
        rows,
        ("Median and worst of five seeds; the link has no rate.",),
    )


async def _shared(
    loop: VirtualLoop, queue: float, seed: int, flows: Sequence[bool], seconds: float
) -> list[float]:
    """Return each flow's MB/s, then the share of voice packets beside them that was lost."""
    narrow = NetworkModel(delay=0.025, rate=RateLimit(8 * RATE, round(queue * RATE)))
    there, back = Link(loop, seed, narrow), Link(loop, seed + 1, NetworkModel(delay=0.025))
    lanes: list[Lane] = []
    answers: list[Lane] = []
    running = []
    for number, standard in enumerate(flows):
        running.append(Flow(loop, Lane(there, lanes), Lane(back, answers), seed + 10 * number, standard=standard))
        await running[-1].start()
    voice = Lane(there, lanes)
    heard: list[bytes] = []
    voice.deliver = heard.extend
    await asyncio.sleep(5)

    async def speak() -> None:
        while True:
            voice.send(VOICE_PACKET)
            await asyncio.sleep(VOICE_INTERVAL)

    speaking = asyncio.ensure_future(speak())
    rates = await asyncio.gather(*(flow.measure(seconds) for flow in running))
    speaking.cancel()
    await asyncio.sleep(1)
    return [*rates, 1 - len(heard) / voice.sent]


def _queues(options: Options) -> Table:
    seconds = max(10.0, 40 * options.scale)
    rows = []
    for queue in QUEUES:
        figures: dict[str, list[float]] = {}
        for name, flows in (("standard", [True]), ("ours", [False]), ("both", [False, True])):
            runs = [
                _in_virtual_time(
                    lambda loop, queue=queue, seed=seed, flows=flows: _shared(loop, queue, seed, flows, seconds)
                )
                for seed in range(options.seed, options.seed + 3)
            ]
            figures[name] = [median(column) for column in zip(*runs, strict=True)]
        standard, ours, both = figures["standard"], figures["ours"], figures["both"]
        rows.append((queue * 1e3, *standard, *ours, both[1], both[0], both[0] / both[1]))
    return Table(
        f"transfers over {RATE * 8 / 1e6:.0f} Mbit/s, 50 ms and a drop-tail queue, MB/s, and voice beside them",
        (
            "queue ms",
            "RFC 9260 alone",
            "voice lost",
            "ours alone",
            "voice lost",
            "RFC 9260 beside ours",
            "ours",
            "times",
        ),
        rows,
        ("Median of three seeds, after five seconds; 'voice lost' is a share of 50 packets per second.",),
    )
