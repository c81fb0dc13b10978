"""What every far end has to show of data channels: each trial takes a `Line` and asserts.

A trial does everything in both directions and looks at both ends: what a program of ours sees through
`Call.channels`, and what the other stack says that it sent, received, opened and closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from time import perf_counter
from typing import Any

from interop.lab import Ask, Line, Sample, content, receipt
from stack import DataChannel
from stack.aio import control_of
from stack.aio.channel import HIGH_WATER
from stack.sctp import ChannelClosedError, MessageTooBigError

OUR_LIMIT = 262_144
"""The longest message that we announce to take, in bytes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of channel."""

    name: str
    ordered: bool = True
    max_retransmits: int | None = None
    max_lifetime_ms: int | None = None
    protocol: str = ""
    negotiated_id: int | None = None

    @property
    def is_reliable(self) -> bool:
        """Everything that is sent on it arrives."""
        return self.max_retransmits is None and self.max_lifetime_ms is None

    def for_browser(self) -> dict[str, Any]:
        """The argument of createDataChannel."""
        options: dict[str, Any] = {"ordered": self.ordered, "protocol": self.protocol}
        if self.max_retransmits is not None:
            options["maxRetransmits"] = self.max_retransmits
        if self.max_lifetime_ms is not None:
            options["maxPacketLifeTime"] = self.max_lifetime_ms
        if self.negotiated_id is not None:
            options |= {"negotiated": True, "id": self.negotiated_id}
        return options

    def for_us(self) -> dict[str, Any]:
        """The arguments of `Call.open_channel`."""
        return {
            "ordered": self.ordered,
            "max_retransmits": self.max_retransmits,
            "max_lifetime_ms": self.max_lifetime_ms,
            "protocol": self.protocol,
            "negotiated_id": self.negotiated_id,
        }


KINDS = (
    Kind("reliable"),
    Kind("reliable unordered", ordered=False),
    Kind("no retransmits", max_retransmits=0),
    Kind("three retransmits, unordered", ordered=False, max_retransmits=3),
    Kind("for a while", max_lifetime_ms=400),
    Kind("for a while, unordered", ordered=False, max_lifetime_ms=400),
    Kind("with a protocol", protocol="transcript.v1"),
    Kind("unordered with a protocol", ordered=False, max_retransmits=1, protocol="ä/€"),
)
COUNTS_CHARACTERS = frozenset({"aiortc", "werift"})
"""Stacks that state the length of a label or protocol in characters instead of bytes (RFC 8832 §5.1)."""
FORGETS_UNORDERED = frozenset({"werift"})
"""Stacks that open a channel as ordered if it is partially reliable, whatever they were asked."""
SENDS_NOTHING_EMPTY = frozenset({"werift"})
"""Stacks that leave an empty message out instead of sending the one byte that stands for it (RFC 8831 §6.6)."""
KNOWS_PARAMETERS = frozenset({"chromium", "firefox", "aiortc", "werift"})
"""Stacks that tell a program how a channel was opened by the other side."""


async def kinds(line: Line) -> None:
    """Every kind of channel, opened from either side; messages both ways arrive as the kind promises."""
    spared = line.lab.name in COUNTS_CHARACTERS
    chosen = [
        replace(kind, protocol="ascii") if spared and not kind.protocol.isascii() else kind for kind in KINDS
    ]
    # One sort after the other: aiortc and werift forget pieces of reliable messages that a FORWARD TSN passes.
    for reliable in (True, False):
        batch = [kind for kind in chosen if kind.is_reliable is reliable]
        await asyncio.gather(
            *(_kind_opened_there(line, kind) for kind in batch), *(_kind_opened_here(line, kind) for kind in batch)
        )


async def _kind_opened_there(line: Line, kind: Kind) -> None:
    label = f"{kind.name}, theirs"
    told = await line.lab.do("open", label=label, options=kind.for_browser())
    channel = await line.call.channels.wait_for(label)
    assert told["id"] == channel.id
    ordered = kind.ordered or (line.lab.name in FORGETS_UNORDERED and not kind.is_reliable)
    assert (channel.protocol, channel.ordered) == (kind.protocol, ordered)
    assert channel.max_retransmits == kind.max_retransmits
    assert channel.max_lifetime_ms == kind.max_lifetime_ms
    await _talk(line, kind, channel)


async def _kind_opened_here(line: Line, kind: Kind) -> None:
    label = f"{kind.name}, ours"
    channel = await line.call.open_channel(label, **kind.for_us())
    told = await line.lab.do("wait_open", label=label)
    assert told["id"] == channel.id
    if line.lab.name in KNOWS_PARAMETERS:
        assert (told["protocol"], told["ordered"]) == (kind.protocol, kind.ordered)
        assert told["maxRetransmits"] == kind.max_retransmits
        assert told["maxPacketLifeTime"] == kind.max_lifetime_ms
    await _talk(line, kind, channel)


async def negotiated(line: Line) -> None:
    """A channel that both sides make by themselves, with an identifier agreed on elsewhere."""
    for kind in (
        Kind("agreed", negotiated_id=700),
        Kind("agreed, unreliable", ordered=False, max_retransmits=0, protocol="p", negotiated_id=701),
    ):
        told, channel = await asyncio.gather(
            line.lab.do("open", label=kind.name, options=kind.for_browser()),
            line.call.open_channel(kind.name, **kind.for_us()),
        )
        assert told["id"] == channel.id == kind.negotiated_id
        await _talk(line, kind, channel)


async def _talk(line: Line, kind: Kind, channel: DataChannel) -> None:
    samples = [Sample("binary" if n % 2 else "text", 2000 if n % 8 == 0 else 10 * n + 1, n) for n in range(1, 31)]
    for sample in samples:
        await channel.send(sample.data)
    await line.lab.do("send", label=channel.label, messages=[sample.order() for sample in samples])
    sent = [receipt(sample.data) for sample in samples]
    if kind.is_reliable:
        there = await line.lab.do("receive", label=channel.label, count=len(sent))
        here = [receipt(await anext(channel)) for _ in sent]
    else:
        silence = 0.15 + 50 * line.network.delay  # longer than the timeouts that a lossy network causes
        there = await _take_there(line, channel.label, silence)
        here = await _take_here(channel, silence)
    for got in (there, here):
        _check_delivery(kind, sent, got, line.network.loss > 0)


def _check_delivery(
    kind: Kind, sent: Sequence[Mapping[str, Any]], got: Sequence[Mapping[str, Any]], lossy: bool
) -> None:
    places = [sent.index(each) for each in got]  # ValueError: something arrived that was never sent
    assert len(set(places)) == len(places), "a message arrived twice"
    if kind.ordered:
        assert places == sorted(places)
    # On a lossy path a timeout may take nearly everything under way from a channel without retransmissions.
    if kind.is_reliable or not (lossy or kind.max_lifetime_ms):
        assert len(places) == len(sent)
    else:
        assert places


async def _take_there(line: Line, label: str, silence: float) -> list[Mapping[str, Any]]:
    """What has arrived at the far end when nothing more comes."""
    count = -1
    while count != (count := await line.lab.do("count", label=label)) or not count:
        await asyncio.sleep(silence)
    return list(await line.lab.do("receive", label=label, count=count))


async def _take_here(channel: DataChannel, silence: float) -> list[Mapping[str, Any]]:
    got = []
    try:
        while True:
            got.append(receipt(await asyncio.wait_for(anext(channel), 5 if not got else silence)))
    except TimeoutError:
        return got


def sizes(largest_here: int, largest_there: int) -> Callable[[Line], Awaitable[None]]:
    """Return the trial of messages from nothing to the largest of each direction, text and binary, all in a row.

    `largest_here` is the longest message that we take, `largest_there` the longest that the far end takes; or as
    much of that as shall be tried.
    """

    async def trial(line: Line) -> None:
        channel = await line.call.channels.wait_for("bootstrap")
        if line.peer_takes is not None:
            assert line.peer_takes == OUR_LIMIT, "it knows how much we take"
        samples = _samples(largest_here, 1 if line.lab.name in SENDS_NOTHING_EMPTY else 0)
        await line.lab.do("send", label="bootstrap", messages=[sample.order() for sample in samples])
        for sample in samples:
            assert await anext(channel) == sample.data
        samples = _samples(largest_there, 0)
        for sample in samples:
            await channel.send(sample.data)
        receipts = await line.lab.do("receive", label="bootstrap", count=len(samples))
        assert receipts == [receipt(sample.data) for sample in samples]

    return trial


def _samples(largest: int, smallest: int) -> list[Sample]:
    around = (0, 1, 2, 3, 4, 1023, 1159, 1160, 1161, 16_384, 65_535, 65_536)
    chosen = sorted({size for size in around if smallest <= size < largest} | {largest - 1, largest})
    samples = [Sample(kind, size, seed + size) for seed, kind in enumerate(("text", "binary")) for size in chosen]
    return [*samples, Sample("text", text="Grüße, 世界 🌍\0!")]


async def too_big(line: Line) -> None:
    """A message longer than what the far end announced is refused here, and the channel lives on."""
    channel = await line.call.channels.wait_for("bootstrap")
    limit = await control_of(line.call).execute(
        Ask(lambda c, now: c.session.parameters.negotiation.data.remote_max_message_size)
    )
    assert 0 < limit < 1 << 24
    try:
        await channel.send(bytes(limit + 1))
    except MessageTooBigError:
        pass
    else:
        raise AssertionError("it was sent")
    await channel.send("still there")
    assert await line.lab.do("receive", label="bootstrap", count=1) == [receipt("still there")]


async def twenty(line: Line) -> None:
    """Ten channels from each side at the same moment, and messages on all of them at once."""
    mine, theirs = [f"ours {n}" for n in range(10)], [f"theirs {n}" for n in range(10)]
    chosen = {label: KINDS[n % 2] for n, label in enumerate(mine + theirs)}
    opened = await asyncio.gather(
        *(line.call.open_channel(label, **chosen[label].for_us()) for label in mine),
        *(line.lab.do("open", label=label, options=chosen[label].for_browser()) for label in theirs),
    )
    channels = list(opened[:10]) + [await line.call.channels.wait_for(label) for label in theirs]
    assert len({channel.id for channel in channels}) == 20
    for channel in channels:
        told = await line.lab.do("wait_open", label=channel.label)
        assert told["id"] == channel.id
    await asyncio.gather(*(_talk(line, chosen[channel.label], channel) for channel in channels))


async def reopening(line: Line) -> None:
    """Channels closed by either side are closed on both, and their names and identifiers can be used again."""
    for round_ in range(3):
        for ours_opens in (True, False):
            for ours_closes in (True, False):
                label = "again"
                if ours_opens:
                    channel = await line.call.open_channel(label)
                    await line.lab.do("wait_open", label=label)
                else:
                    await line.lab.do("open", label=label, options={})
                    channel = await line.call.channels.wait_for(label)
                await channel.send(f"round {round_}")
                assert await line.lab.do("receive", label=label, count=1) == [receipt(f"round {round_}")]
                await line.lab.do("send", label=label, messages=[Sample("text", text="heard").order()])
                if ours_closes:
                    assert await anext(channel) == "heard"
                    channel.close()
                    assert [message async for message in channel] == []
                else:
                    await line.lab.do("close", label=label)
                    assert [message async for message in channel] == ["heard"]  # what was sent before arrives
                await line.lab.do("wait_closed", label=label)
                assert channel.closed
                assert line.call.channels.find(channel.id) is None
                try:
                    await channel.send("too late")
                except ChannelClosedError:
                    pass
                else:
                    raise AssertionError("a closed channel took a message")
    channel = await line.call.channels.wait_for("bootstrap")
    await channel.send("the others live on")
    assert await line.lab.do("receive", label="bootstrap", count=1) == [receipt("the others live on")]


@dataclass(frozen=True, slots=True)
class Transferred:
    """How a transfer went: seconds from the first message's arrival to the last's."""

    size: int
    up_seconds: float
    down_seconds: float

    def __str__(self) -> str:
        mb = self.size / 1e6
        return (
            f"{mb:.1f} MB: to us {self.up_seconds:.2f} s ({mb / self.up_seconds:.2f} MB/s), "
            f"to them {self.down_seconds:.2f} s ({mb / self.down_seconds:.2f} MB/s)"
        )


class Progress:
    """Says every half minute how far a long transfer is."""

    def __init__(self, way: str, size: int) -> None:
        self._way, self._size = way, size
        self._began = self._said = perf_counter()

    def reached(self, got: int) -> None:
        """`got` bytes are there."""
        now = perf_counter()
        if now - self._said > 30.0:
            self._said = now
            print(f"{self._way}: {got / 1e6:.1f} of {self._size / 1e6:.1f} MB after {now - self._began:.0f} s")


async def transfer(line: Line, size: int, chunk: int = 16_384, *, patience: float = 120.0) -> Transferred:
    """`size` bytes each way, one after the other, held against a hash of what should have been sent.

    On the way `bufferedAmountLow` has to keep both senders going and their queues short.
    """
    low, high = 1 << 18, 1 << 20
    channel = await line.call.open_channel("transfer")
    await line.lab.do("wait_open", label="transfer")
    order = {"label": "transfer", "size": size, "chunk": chunk, "seed": 77, "low": low, "high": high}
    sending = asyncio.create_task(line.lab.do("transfer", patience=patience, **order))
    heard, got, first = sha256(), 0, 0.0
    progress = Progress("to us", size)
    async with asyncio.timeout(patience):
        while got < size:
            message = await anext(channel)
            first = first or perf_counter()
            assert isinstance(message, bytes)
            heard.update(message)
            got += len(message)
            progress.reached(got)
    up = perf_counter() - first
    told = await sending
    assert heard.hexdigest() == sha256(content(size, 77)).hexdigest()
    if size > 2 * high:
        assert told["lows"] > 0
        assert told["mostAtLow"] <= low

    data, most = content(size, 78), 0
    collecting = asyncio.create_task(line.lab.do("collect", patience=patience, label="transfer", size=size))
    progress = Progress("to them", size)
    async with asyncio.timeout(patience):
        for start in range(0, size, chunk):
            await channel.send(data[start : start + chunk])
            progress.reached(start)
            if start % (64 * chunk) == 0:
                most = max(
                    most,
                    await control_of(line.call).execute(
                        Ask(lambda c, _: c.session.channels.buffered_amount(channel.id))
                    ),
                )
    told = await collecting
    assert (told["size"], told["sha256"]) == (size, sha256(data).hexdigest())
    assert most <= HIGH_WATER
    return Transferred(size, up, told["seconds"])
