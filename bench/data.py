"""Data channels: throughput per processor second and small-message latency, ours beside aiortc's.

Each contestant talks to itself over the same simulated link, in the same virtual-time event loop, without DTLS.
Wall time means nothing here: the clock jumps. "MB/s of CPU" is payload delivered per second of processor time of
both ends, the loop and the link together; "virtual MB/s" is what a real network of these conditions would see.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import process_time
from typing import Any

from bench._data_ends import AiortcEnd, End, OurEnd
from bench._virtual import Link, VirtualLoop
from bench.report import Options, Table
from interop.network_model import NetworkModel, RateLimit

RTT = 0.05
MESSAGE = bytes(range(256)) * 64
HIGH_WATER, LOW_WATER = 1 << 20, 1 << 18


@dataclass(frozen=True)
class Contestant:
    """A name and the settings of our own; None: aiortc."""

    name: str
    config: dict[str, Any] | None


BYTES_PER_SECOND = 1_250_000
NARROW = NetworkModel(delay=RTT / 2, rate=RateLimit(8 * BYTES_PER_SECOND, round(0.05 * BYTES_PER_SECOND)))
"""10 Mbit/s behind a queue of 50 ms."""

AIORTC = Contestant("aiortc", None)
OURS = Contestant("ours", {"zero_checksum": False})
OURS_ZERO = Contestant("ours, zero checksum", {"zero_checksum": True})


async def _connect(loop: VirtualLoop, who: Contestant, seed: int, model: NetworkModel) -> tuple[End, End, Link]:
    there, back = Link(loop, seed, model), Link(loop, seed + 1, model)
    a: End
    b: End
    if who.config is None:
        a, b = AiortcEnd(loop, there, back, client=True), AiortcEnd(loop, back, there, client=False)
    else:
        a = OurEnd(loop, there, back, True, seed, peer_max_message_size=262_144, **who.config)
        b = OurEnd(loop, back, there, False, seed + 1, peer_max_message_size=262_144, **who.config)
    await a.start()
    await b.start()
    await asyncio.sleep(1)
    return a, b, there


async def _open(end: End, label: str) -> Any:
    """Open a channel and wait until it is; on a lossy link set-up may have to be repeated, by aiortc after 3 s."""
    channel = end.open(label)
    await asyncio.sleep(1)
    while not end.is_open(channel):
        await asyncio.sleep(0.1)
    return channel


def _feed(end: End, channel: Any, total: int) -> None:
    """Send so many messages, as fast as the buffer allows."""
    left = total

    def fill(*_: object) -> None:
        nonlocal left
        while left and end.buffered(channel) < HIGH_WATER:
            left -= 1
            end.send(channel, MESSAGE)

    end.on_low = fill
    end.set_low_threshold(channel, LOW_WATER)
    fill()


async def _transfer(
    loop: VirtualLoop, who: Contestant, loss: float, size: int, seed: int
) -> tuple[float, float, int]:
    """Return processor seconds, virtual seconds and packets of one transfer of `size` bytes."""
    a, b, there = await _connect(loop, who, seed, NetworkModel(delay=RTT / 2, loss=loss))
    total = size // len(MESSAGE)
    received: list[int] = []
    done = loop.create_future()

    def on_message(channel: Any, data: str | bytes) -> None:
        assert data == MESSAGE
        received.append(len(data))
        if len(received) == total:
            done.set_result(None)

    b.on_message = on_message
    channel = await _open(a, "bulk")
    gc.collect()
    sent_before, began, cpu = there.packets, loop.time(), process_time()
    _feed(a, channel, total)
    await done
    cpu, virtual = process_time() - cpu, loop.time() - began
    await a.close()
    await b.close()
    await asyncio.sleep(1)
    return cpu, virtual, there.packets - sent_before


async def _small_beside_bulk(
    loop: VirtualLoop, who: Contestant, busy: bool, seconds: float, seed: int, large: bytes = bytes(200_000)
) -> list[float]:
    """Return the round trips of small messages, in milliseconds, beside a transfer of `large` ones."""
    a, b, _ = await _connect(loop, who, seed, NARROW)
    echoing: set[Any] = set()
    b.on_channel = lambda channel: echoing.add(channel) if not echoing else None
    b.on_message = lambda channel, data: b.send(channel, data) if channel in echoing else None
    small = await _open(a, "small")
    bulk = await _open(a, "bulk")
    rtts: list[float] = []
    sent_at: dict[str, float] = {}
    a.on_message = lambda channel, data: rtts.append((loop.time() - sent_at.pop(str(data))) * 1e3)

    def fill(*_: object) -> None:
        while busy and a.buffered(bulk) < HIGH_WATER:
            a.send(bulk, large)

    a.on_low = lambda channel: fill() if channel == bulk else None
    a.set_low_threshold(bulk, LOW_WATER)
    fill()
    await asyncio.sleep(2)
    for number in range(int(seconds / 0.05)):
        sent_at[str(number)] = loop.time()
        a.send(small, str(number))
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)
    await a.close()
    await b.close()
    await asyncio.sleep(1)
    return rtts


def _in_virtual_time(make: Any) -> Any:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(make(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def run(options: Options) -> Sequence[Table]:
    """Run everything; about half a minute at scale 1."""
    return [_throughput(options), _latency(options)]


def _throughput(options: Options) -> Table:
    rows = []
    size = max(1, int(options.scale * 512)) * len(MESSAGE)
    for loss in (0.0, 0.02):
        theirs = None
        for who in (AIORTC, OURS, OURS_ZERO):
            runs = [
                _in_virtual_time(lambda loop, who=who, loss=loss: _transfer(loop, who, loss, size, options.seed))
                for _ in range(3)
            ]
            cpu = median(each[0] for each in runs)
            _, virtual, packets = runs[0]
            rate = size / 1e6 / cpu
            theirs = theirs or rate
            ratio = rate / theirs
            per_mb = cpu * 1e3 / (size / 1e6)
            rows.append((f"{loss:.0%}", who.name, rate, per_mb, size / 1e6 / virtual, packets, ratio))
    return Table(
        f"{size / 1e6:.1f} MB one way in messages of 16 KiB, {RTT * 1e3:.0f} ms round trip",
        ("loss", "who", "MB/s of CPU", "CPU ms/MB", "virtual MB/s", "packets", "times aiortc"),
        rows,
        ("Both ends of a contestant count; median of three runs. No DTLS, no rate limit on the link.",),
    )


def _latency(options: Options) -> Table:
    rows = []
    seconds = max(2.0, 20 * options.scale)
    contestants = (
        (AIORTC, True),
        (Contestant("ours, DATA", {"interleaving": False}), True),
        (Contestant("ours, I-DATA", {"interleaving": True}), True),
        (Contestant("ours, idle link", {}), False),
    )
    for who, busy in contestants:
        rtts = _in_virtual_time(
            lambda loop, who=who, busy=busy: _small_beside_bulk(loop, who, busy, seconds, options.seed)
        )
        cut = quantiles(rtts, n=100)
        rows.append((who.name, len(rtts), cut[49], cut[89], cut[98], max(rtts)))
    return Table(
        "round trip of small messages beside 200 kB messages on another channel; 10 Mbit/s, 50 ms, 50 ms of queue",
        ("who", "messages", "p50 ms", "p90 ms", "p99 ms", "max ms"),
        rows,
        ("In virtual time: the same seed gives the same figures on any machine.",),
    )
